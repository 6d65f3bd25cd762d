"""What one step sees, and how it is drawn. Everything happens on the device of the interactions, without workers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged
from recot.data.split import Query

log = logging.getLogger(__name__)


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


def uniform_negatives(train: Interactions, count: int, rng: torch.Generator, rounds: int = 100) -> Tensor:
    """(n, count) int64: for every training pair, items drawn uniformly from those its user has not taken.

    Draws are made in the order of the pairs, which are sorted by user: neighbouring look-ups then share their search
    path, and membership costs a few nanoseconds a draw. Taken items are redrawn; a user who has taken (nearly) every
    item keeps the last draw after ``rounds`` rounds, which is logged.
    """
    users = train.users[:, None].expand(-1, count).reshape(-1)  # (n * count,)
    items = torch.randint(train.n_items, (len(users),), generator=rng, device=users.device)
    wrong = train.contains(users, items).nonzero().squeeze(1)
    for _ in range(rounds):
        if not len(wrong):
            break
        items[wrong] = torch.randint(train.n_items, (len(wrong),), generator=rng, device=users.device)
        wrong = wrong[train.contains(users[wrong], items[wrong])]
    if len(wrong):
        log.warning("%d of %d negatives are observed items: %d users have taken (nearly) all %d items",
                    len(wrong), len(items), len(users[wrong].unique()), train.n_items)
    return items.reshape(len(train), count)  # (n, count)


def observed_in_batch(train: Interactions, users: Tensor, items: Tensor, asked: np.ndarray | None = None) -> Tensor:
    """(n, n) bool, true where ``users[i]`` has taken ``items[j]`` in training; both arguments are (n,) int64.

    Costs the training rows of the batch's users and one (n, n) gather, never a users x items array. With ``asked``,
    the users on the host, nothing waits for the device.
    """
    inside = torch.zeros(train.n_items, dtype=torch.int64, device=items.device).index_fill_(0, items, 1)
    column = inside.cumsum(0) * inside  # (n_items,) 1 and on for the items of the batch, 0 for all others
    history = train.by_user.take(users, asked)
    width = len(items) + 1
    taken = torch.zeros(len(users), width, dtype=torch.bool, device=items.device)
    taken.view(-1).scatter_(0, history.rows * width + column[history.values], True)
    return taken[:, column[items]]  # (n, n)


def pairs(train: Interactions, batch_size: int, rng: torch.Generator, *, negatives: int = 0, observed: bool = False,
          history: bool = False) -> Iterator[Pairs]:
    """One epoch: every training pair once, shuffled, in batches of ``batch_size`` (the last one may be smaller).

    Args:
        train: on the device where training happens, like ``rng``.
        negatives: items drawn per pair by :func:`uniform_negatives`, all before the first batch.
        observed: fill ``Pairs.observed``.
        history: give each question its user's training items; without, histories are empty, which is all that a
            network with a vector per user needs.
    """
    order = torch.randperm(len(train), generator=rng, device=train.users.device)
    drawn = uniform_negatives(train, negatives, rng).index_select(0, order)
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
