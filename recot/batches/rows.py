"""Batches of users with all their items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recot.batches.negatives import uniform_negatives
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


@dataclass(frozen=True)
class Rows:
    """A batch of users with all their training pairs.

    Attributes:
        query: b questions; the history of each is its user's training items, oldest first.
        weights: (nnz,) float32, of the pairs in ``query.history.values``, or None when all are one.
        negatives: (nnz, k) int64, items drawn for each pair that its user has not taken; k may be 0.
        labels: (nnz, 1 + k) float32, one where the loss of that place is of an observed pair; None unless an objective
            gives one loss to every pair and negative.
    """

    query: Query
    weights: Tensor | None = None
    negatives: Tensor | None = None
    labels: Tensor | None = None

    def targets(self, n_items: int) -> Tensor:
        """(b, n_items) float32: the weight of each observed pair, and zero elsewhere."""
        out = self.query.history.dense(n_items)
        if self.weights is not None:
            out[self.query.history.rows, self.query.history.values] = self.weights
        return out


def rows(train: Interactions, batch_size: int, rng: torch.Generator, *, shuffle: bool = True,
         negatives: int = 0) -> Iterator[Rows]:
    """One epoch: every user with a training pair once, in batches of ``batch_size`` (the last one may be smaller).

    Args:
        train: on the device where training happens, like ``rng``.
        shuffle: users in another order each epoch; False takes them by rising id.
        negatives: items drawn per pair by :func:`uniform_negatives`, all before the first batch.
    """
    users = train.activity.nonzero().flatten()
    if shuffle:
        users = users[torch.randperm(len(users), generator=rng, device=users.device)]
    places = Ragged(train.by_user.offsets, torch.arange(len(train), device=users.device))
    drawn = uniform_negatives(train, negatives, rng) if negatives else None
    weights = None if bool((train.weights == 1).all()) else train.weights
    asked = users.cpu().numpy()  # one look at the device for all batches
    for start in range(0, len(users), batch_size):
        cut = slice(start, start + batch_size)
        place = places.take(users[cut], asked[cut])
        yield Rows(query=Query(users[cut], Ragged(place.offsets, train.items[place.values], place.told)),
                   weights=None if weights is None else weights[place.values],
                   negatives=None if drawn is None else drawn[place.values])
