"""What one step sees, and how it is drawn. Everything happens on the device of the interactions, without workers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Sequences:
    """A batch of users whose training items are predicted one after the other.

    Attributes:
        query: b questions; the history of each is its user's training items, oldest first, without the last one.
        items: (nnz,) int64, the item that comes after each of ``query.history.values``.
        negatives: (nnz, k) int64, items drawn for each of these that its user has not taken; k may be 0.
        weights: (nnz,) float32, of the pairs in ``items``, or None when all are one.
        views: two augmented versions of the b histories, or None where no objective compares any.
    """

    query: Query
    items: Tensor
    negatives: Tensor
    weights: Tensor | None = None
    views: tuple[Ragged, Ragged] | None = None

    def latest(self, width: int) -> Sequences:
        """The same with the last ``width`` items of each history; views stay whole."""
        kept = self.query.history.is_latest(width)
        return replace(self, query=Query(self.query.users, self.query.history.latest(width)), items=self.items[kept],
                       negatives=self.negatives[kept], weights=None if self.weights is None else self.weights[kept])


@dataclass(frozen=True)
class Prefixes(Pairs):
    """A batch of observed pairs whose questions know what the user took before, and nothing later.

    Attributes:
        partners: n rows of at least one item: what some user took before the same item, see :func:`prefixes`.
    """

    partners: Ragged | None = None


@dataclass(frozen=True)
class Windows:
    """A batch of windows that slide over the users' training items: some items, and what came next.

    Attributes:
        query: n questions; the history of each is what stands before its targets in the window, oldest first.
        targets: (n, t) int64, the t items that came next, oldest first.
        negatives: (n, k) int64, items drawn for each window that its user has not taken.
        weights: (n, t) float32, of the pairs in ``targets``, or None when all are one. Where a user has but j < t items
            each of them counts t / j times and the others nothing, so that a mean over t places is one over j.
    """

    query: Query
    targets: Tensor
    negatives: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Masked:
    """A batch of users some of whose training items are to be masked, and guessed from the others.

    Which ones follows from how many are read, and that is known to the network.

    Attributes:
        query: b questions; the history of each is its user's training items, oldest first.
        key: (nnz,) float64 in [0, 1); of a history, the items with the lowest keys are masked.
        shares: (b,) float64, of the items that are read, how many are masked; one at least.
        weights: (nnz,) float32, of the pairs in ``query.history.values``, or None when all are one.
    """

    query: Query
    key: Tensor
    shares: Tensor
    weights: Tensor | None = None

    def latest(self, width: int) -> Masked:
        """The same with the last ``width`` items of each history."""
        kept = self.query.history.is_latest(width)
        return replace(self, query=Query(self.query.users, self.query.history.latest(width)), key=self.key[kept],
                       weights=None if self.weights is None else self.weights[kept])


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


def observed_in_batch(train: Interactions, users: Tensor, items: Tensor) -> Tensor:
    """(n, n) bool, true where ``users[i]`` has taken ``items[j]`` in training; both arguments are (n,) int64.

    Costs the training rows of the batch's users and one (n, n) gather, never a users x items array.
    """
    distinct, column = items.unique(return_inverse=True)
    slot = items.new_full((train.n_items,), -1)
    slot[distinct] = torch.arange(len(distinct), device=items.device)
    history = train.by_user.take(users)
    place = slot[history.values]
    inside = place >= 0
    taken = torch.zeros(len(users), len(distinct), dtype=torch.bool, device=items.device)
    taken[history.rows[inside], place[inside]] = True
    return taken[:, column]  # (n, n)


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
    for start in range(0, len(train), batch_size):
        cut = slice(start, start + batch_size)
        rows = train.by_user.take(users[cut]) if history else Ragged(users.new_zeros(len(users[cut]) + 1), users[:0])
        yield Pairs(query=Query(users[cut], rows), items=items[cut], negatives=drawn[cut],
                    weights=None if weights is None else weights[cut],
                    observed=observed_in_batch(train, users[cut], items[cut]) if observed else None)


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
    for batch in users.split(batch_size):
        place = places.take(batch)
        yield Rows(query=Query(batch, Ragged(place.offsets, train.items[place.values])),
                   weights=None if weights is None else weights[place.values],
                   negatives=None if drawn is None else drawn[place.values])


def sequences(train: Interactions, batch_size: int, rng: torch.Generator, *, negatives: int = 1) -> Iterator[Sequences]:
    """One epoch: every user with two training pairs once, shuffled, in batches (the last one may be smaller).

    Args:
        train: on the device where training happens, like ``rng``; a user's pairs are in order of time.
        negatives: items drawn per predicted item by :func:`uniform_negatives`, all before the first batch.
    """
    index = torch.arange(len(train), device=train.users.device)
    ends = train.by_user.offsets
    first, last = torch.ones_like(index, dtype=torch.bool), torch.ones_like(index, dtype=torch.bool)
    first[ends[:-1][train.activity > 0]] = False
    last[ends[1:][train.activity > 0] - 1] = False
    users = (train.activity > 1).nonzero().flatten()
    users = users[torch.randperm(len(users), generator=rng, device=users.device)]
    before = Ragged.from_lengths((train.activity - 1).clamp(min=0), index[last])  # (n_users,) rows of training pairs
    after = Ragged(before.offsets, index[first])
    drawn = uniform_negatives(train, negatives, rng)
    weights = None if bool((train.weights == 1).all()) else train.weights
    for batch in users.split(batch_size):
        known, asked = before.take(batch), after.take(batch).values
        yield Sequences(Query(batch, Ragged(known.offsets, train.items[known.values])), train.items[asked],
                        drawn[asked], None if weights is None else weights[asked])


def prefixes(train: Interactions, batch_size: int, rng: torch.Generator, *, negatives: int = 1,
             one: bool = False) -> Iterator[Prefixes]:
    """One epoch: every training pair but the first of each user, shuffled, in batches (the last one may be smaller).

    The partner of a pair is another one of these with the same item, drawn uniformly anew every epoch, or itself where
    there is none.

    Args:
        train: on the device where training happens, like ``rng``; a user's pairs are in order of time.
        negatives: items drawn per pair by :func:`uniform_negatives`, all before the first batch.
        one: one pair of each user only, drawn uniformly.
    """
    device, starts = train.users.device, train.by_user.offsets[:-1]
    place = torch.arange(len(train), device=device) - starts[train.users]
    asked = (place > 0).nonzero().flatten()
    order = train.items[asked].argsort(stable=True)  # equal items side by side
    sizes = torch.bincount(train.items[asked], minlength=train.n_items)
    size, first = (value[train.items[asked[order]]] for value in (sizes, sizes.cumsum(0) - sizes))
    steps = 1 + (torch.rand(len(asked), generator=rng, dtype=torch.float64, device=device) * (size - 1)).long()
    within = torch.arange(len(asked), device=device) - first
    partner = torch.empty_like(asked)
    partner[order] = asked[order[first + (within + steps) % size]]
    drawn = uniform_negatives(train, negatives, rng)
    if one:
        users = (train.activity > 1).nonzero().flatten()
        spread = torch.rand(len(users), generator=rng, dtype=torch.float64, device=device) * (train.activity[users] - 1)
        chosen = starts[users] + spread.long() + 1
        rank = torch.searchsorted(asked, chosen)
    else:
        rank = torch.arange(len(asked), device=device)
    rank = rank[torch.randperm(len(rank), generator=rng, device=device)]
    weights = None if bool((train.weights == 1).all()) else train.weights
    for batch in rank.split(batch_size):
        pair = asked[batch]
        before, others = (Ragged.from_lengths(place[ends], train.items[_spans(starts[train.users[ends]], place[ends])])
                          for ends in (pair, partner[batch]))
        yield Prefixes(Query(train.users[pair], before), train.items[pair], drawn[pair],
                       None if weights is None else weights[pair], partners=others)


def _spans(starts: Tensor, lengths: Tensor) -> Tensor:
    """(sum of lengths,) int64: ``start, start + 1, ...`` for each of ``starts`` (b,), ``lengths`` (b,) of them."""
    shift = starts - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum()), device=starts.device) + shift.repeat_interleave(lengths)


def windows(train: Interactions, batch_size: int, rng: torch.Generator, *, length: int, targets: int,
            negatives: int) -> Iterator[Windows]:
    """One epoch: every window of ``length + targets`` items once, shuffled, in batches (the last one may be smaller).

    A user with fewer items has one window, with all of them: the last ``targets`` are asked for, and what stands before
    them, possibly nothing, is known. One with fewer than ``targets`` is asked for those there are, which
    ``Windows.weights`` says; a place that is left over repeats the first of them.

    Args:
        train: on the device where training happens, like ``rng``; a user's pairs are in order of time.
        length: items that are known, at most. targets: items that are asked for.
        negatives: items drawn per window by :func:`uniform_negatives`, all before the first batch.
    """
    index = torch.arange(len(train), device=train.users.device)
    first, last = train.by_user.offsets[:-1][train.users], train.by_user.offsets[1:][train.users] - 1  # (n,) each
    ends = ((index - first >= length + targets - 1) | (index == last)).nonzero().flatten()  # each ends one window
    ends = ends[torch.randperm(len(ends), generator=rng, device=ends.device)]
    drawn = uniform_negatives(train, negatives, rng)  # for a window, those of the pair at its end
    plain = bool(((train.weights == 1) & (last - first >= targets - 1)).all())
    back = torch.arange(1 - length - targets, 1, device=ends.device)
    for end in ends.split(batch_size):
        place, oldest = end[:, None] + back, first[end][:, None]  # (n, length + targets), (n, 1)
        (before, after), real = place.maximum(oldest).split([length, targets], 1), place >= oldest
        known, asked = real.split([length, targets], 1)
        weights = None if plain else asked * train.weights[after] * (targets / asked.sum(1, keepdim=True))
        yield Windows(Query(train.users[end], Ragged.from_lengths(known.sum(1), train.items[before[known]])),
                      train.items[after], drawn[end], weights)
