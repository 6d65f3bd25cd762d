"""Batches of observed pairs. Everything happens on the device of the interactions, without workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recot.batches.negatives import observed_in_batch, uniform_negatives
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


@dataclass(frozen=True)
class Pairs:
    """A batch of observed (user, item) pairs.

    Attributes:
        query: n questions, one per pair.
        items: (n,) int64, the observed item of each.
        negatives: (n, k) int64, sampled items the user has not taken; k may be 0.
        weights: (n,) float32, or None when all are one.
        observed: (n, n) bool, true where the user of row i has the item of column j in training; None unless asked.
        targets: (n, n) float32 with rows that sum to one, the soft labels of an in-batch loss; None is the identity.
        labels: (n, 1 + k) float32, one where the loss of that place is of an observed pair; None unless an objective
            gives one loss to every pair and negative.
    """

    query: Query
    items: Tensor
    negatives: Tensor
    weights: Tensor | None = None
    observed: Tensor | None = None
    targets: Tensor | None = None
    labels: Tensor | None = None


def pairs(train: Interactions, batch_size: int, rng: torch.Generator, *, negatives: int = 0, observed: bool = False,
          history: bool = False, scope: Literal["all", "domain"] = "all") -> Iterator[Pairs]:
    """One epoch: every training pair once, shuffled, in batches of ``batch_size`` (the last one may be smaller).

    Args:
        train: on the device where training happens, like ``rng``.
        negatives: items drawn per pair by :func:`uniform_negatives`, all before the first batch.
        observed: fill ``Pairs.observed``.
        history: give each question its user's training items; without, histories are empty, which is all that a
            network with a vector per user needs.
        scope: where negatives come from: all items, or the domain of the pair's item.
    """
    order = torch.randperm(len(train), generator=rng, device=train.users.device)
    drawn = uniform_negatives(train, negatives, rng, scope=scope).index_select(0, order)
    users, items = train.users.index_select(0, order), train.items.index_select(0, order)
    weights = None if bool((train.weights == 1).all()) else train.weights[order]
    asked = users.cpu().numpy() if observed or history else None  # one look at the device for all batches
    for start in range(0, len(train), batch_size):
        cut = slice(start, start + batch_size)
        here = None if asked is None else asked[cut]
        rows = train.by_user.take(users[cut], here) if history else (
            Ragged(users.new_zeros(len(users[cut]) + 1), users[:0]))
        yield Pairs(query=Query(users[cut], rows), items=items[cut], negatives=drawn[cut],
                    weights=None if weights is None else weights[cut],
                    observed=observed_in_batch(train, users[cut], items[cut], here) if observed else None)
