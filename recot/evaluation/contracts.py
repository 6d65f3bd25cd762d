"""What can be fitted and asked, and what is known of it afterwards; :mod:`recot.nn.contracts` lists all contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from recot.data.questions import Query, Split

History = list[dict[str, float]]
"""One row of scalars per epoch."""


class Recommender(Protocol):
    """What can be fitted and asked; classes fit this protocol by shape alone and do not inherit from it."""

    def fit(self, split: Split) -> Self:
        """Learns from ``split.train``, may select by ``split.valid``, and forgets any earlier fit."""
        ...

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, higher first, finite; a fresh tensor that the caller may overwrite."""
        ...


class Fitted(Recommender, Protocol):
    """What a recommender that was trained by gradient descent, or made of others, says of its fit.

    A closed form has none of this. It stands for ``cpu``, the name of its class, an empty history and epoch 0.

    Attributes:
        history: a row of scalars for each epoch that was trained.
    """

    history: History

    @property
    def device(self) -> torch.device | str:
        """Where it wants its questions; :func:`device_of` knows it of every recommender."""

    @property
    def name(self) -> str:
        """What messages call it; :func:`name_of` knows it of every recommender."""

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, from 1; 0 where no epoch was chosen."""

    def save(self, file: Path) -> None:
        """Write the weights, where it has some, whole or not at all."""


def name_of(recommender: Recommender) -> str:
    """What messages call a recommender: the network where it has one, else its class."""
    return getattr(recommender, "name", type(recommender).__name__)


def device_of(model: Recommender) -> torch.device | str:
    """Where a recommender wants its questions."""
    return getattr(model, "device", "cpu")
