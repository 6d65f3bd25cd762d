"""The floor every method has to clear."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from recot.data.questions import Query, Split
from recot.evaluation.recommender import Recommender


class Popularity(Recommender):
    """Ranks items by the number of training users who took them. Inductive: it never looks at the user.

    Departures: none; of no paper. Weights of pairs do not count.
    """

    inductive = True

    def fit(self, split: Split) -> Self:
        """Count."""
        self.counts = split.train.popularity.float()  # (n_items,)
        return self

    def score(self, query: Query) -> Tensor:
        """(b, n_items)."""
        return self.counts.repeat(len(query), 1)  # (b, n_items)
