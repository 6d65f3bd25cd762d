"""What can be fitted and asked, and what is known of it afterwards; :mod:`recot.nn.contracts` lists all contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.metrics import Ranks

History = list[dict[str, float]]
"""One row of scalars per epoch."""


class Recommender:
    """What can be fitted and asked. A subclass defines :meth:`fit` and :meth:`score`, and that is enough.

    All else has a neutral value here, which is that of a closed form. A recommender that is trained by gradient
    descent, or made of others, says more.

    Attributes:
        inductive, ordered, weighted: claims of closed forms, see :mod:`recot.nn.contracts`.
        device: where it wants its questions.
        history: a row of scalars for each epoch that was trained.
        best_epoch: the epoch whose weights are kept, from 1; 0 where no epoch was chosen.
        rounds: a row of scalars for each relabelling and the fit after it.
        trained_on: the training pairs, where they are others than those of the split.
        marks: what a denoiser says of each pair of ``trained_on``, (n,) each, by name.
        about_users: what was learnt of each user besides vectors, (n_users,) each, by name.
        before: the same recommender as it was before any relabelling.
        stages: numbers about each part of a recommender that is made of others, by the name of the part.
        chosen: what validation chose, by group of the config: the settings of a second fit that has no validation.
    """

    inductive: bool = False
    ordered: bool = False
    weighted: bool = False
    device: torch.device = torch.device("cpu")
    history: Sequence[dict[str, float]] = ()
    rounds: Sequence[dict[str, float]] = ()
    trained_on: Interactions | None = None
    marks: Mapping[str, Tensor] = {}
    about_users: Mapping[str, Tensor] = {}
    before: Recommender | None = None
    stages: Mapping[str, Mapping[str, float]] = {}

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    def best_epoch(self) -> int:
        """See the class."""
        return 0

    @property
    def chosen(self) -> Mapping[str, Mapping[str, Any]]:
        """See the class."""
        return {}

    @property
    def scorer(self) -> Any:
        """What a relabelling denoiser looks into: the network where there is one, ready to be asked; else itself."""
        return self

    def fit(self, split: Split) -> Self:
        """Learns from ``split.train``, may select by ``split.valid``, and forgets any earlier fit."""
        raise TypeError(f"{type(self).__name__} is a Recommender and has to define fit(split)")

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, higher first, finite; a fresh tensor that the caller may overwrite."""
        raise TypeError(f"{type(self).__name__} is a Recommender and has to define score(query)")

    def score_of(self, query: Query, items: slice | Tensor) -> Tensor:
        """Scores of a range of items (b, n), or of the items (b, c) int64 of each question (b, c); as :meth:`score`.

        A subclass that can do without the scores of the others says how.
        """
        scores = self.score(query)
        return scores[:, items] if isinstance(items, slice) else scores.gather(1, items.to(scores.device))

    def ranked(self, questions: EvalSet) -> tuple[Ranks, int] | None:
        """Exact ranks of the targets and the number of items they stand among, where they follow without scores.

        They are those of :meth:`score`, ties included. None says that scores have to be compared.
        """
        return None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While entered, what all scores share may be made once. Nothing may be fitted until it is left."""
        with ExitStack() as stack:
            for network in self.networks:
                if network is not self and hasattr(network, "resting"):
                    stack.enter_context(network.resting())
            yield

    @property
    def networks(self) -> Sequence[Any]:
        """What a later stage goes on from: its network, or one for each domain, in evaluation mode."""
        return [self.scorer]

    def untrained(self, train: Interactions) -> Self:
        """As after a fit to ``train``, so far as that is known without one; weights can be put in then."""
        return self

    def load(self, file: Path, train: Interactions) -> Self:
        """Read weights written by :meth:`save`, of a fit to ``train``."""
        raise TypeError(f"{type(self).__name__} leaves no weights, so that none can be read")

    def save(self, file: Path) -> None:
        """Write the weights, where it has some, whole or not at all."""


class Deputy(Recommender):
    """What is made of recommenders and answers as one of them, ``model``, which a fit has chosen."""

    model: Recommender

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # read only, as that one has it
        """Where that one scores."""
        return self.model.device

    @property
    def name(self) -> str:
        """What messages call it: as that one."""
        return self.model.name

    @property
    def best_epoch(self) -> int:
        """Of that one."""
        return self.model.best_epoch

    @property
    def about_users(self) -> Mapping[str, Tensor]:  # type: ignore[override]  # likewise
        """Of that one."""
        return self.model.about_users

    @property
    def networks(self) -> Sequence[Any]:
        """Of that one."""
        return self.model.networks

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, of that one."""
        return self.model.score(query)

    def score_of(self, query: Query, items: slice | Tensor) -> Tensor:
        """(b, n) or (b, c) float32, of that one."""
        return self.model.score_of(query, items)

    def save(self, file: Path) -> None:
        """Write the weights of that one, where it has some."""
        self.model.save(file)
