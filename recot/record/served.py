"""What a run says of the lists that its model shows, where the metrics of its config ask for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions
from recot.data.questions import EvalSet, Split
from recot.evaluation.lists import graded
from recot.evaluation.recommender import Recommender

Values = dict[str, dict[str, Tensor]]
"""Set of questions -> metric -> values."""


def served(valid: EvalSet, whole: Split, first: Recommender, model: Recommender,
           metrics: Sequence[str]) -> tuple[Values, Values]:
    """The metrics of lists, of a run and of the popularity floor on the same questions.

    Args:
        valid: the validation questions, answered by ``first``. whole: what ``model`` was trained on, and the test
            questions.

    Raises:
        ValueError: see :func:`recot.evaluation.lists.graded`.
    """
    train = whole.train if model is first else without(whole.train, valid)
    asked = [(first, train, valid), *((model, whole.train, part) for part in whole.test)]
    found = {part.name: graded(one, part, known, metrics) for one, known, part in asked}
    plain = [name for name in metrics if not name.startswith("intra_list_similarity")]  # the floor has no vectors
    floors = {part.name: graded(Popularity().fit(replace(whole, train=known)), part, known, plain) if plain else {}
              for _, known, part in asked}
    return found, floors


def without(train: Interactions, valid: EvalSet) -> Interactions:
    """The training pairs but those of a second fit that are the answers of ``valid``."""
    answers = Interactions.from_pairs(valid.asked[valid.targets.rows], valid.targets.values, train.n_users,
                                      train.n_items)
    return train.select(~answers.contains(train.users, train.items))
