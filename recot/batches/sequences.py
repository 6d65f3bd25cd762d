"""What one step sees of histories in order, and how it is drawn; see ``batches.py`` for pairs and rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recot.batches.negatives import uniform_negatives
from recot.batches.pairs import Pairs
from recot.data.interactions import Interactions, Ragged, spans
from recot.data.questions import Query


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
        history, kept = self.query.history.cut(width)
        return replace(self, query=Query(self.query.users, history), items=self.items[kept],
                       negatives=self.negatives[kept], weights=None if self.weights is None else self.weights[kept])


@dataclass(frozen=True, kw_only=True)
class Prefixes(Pairs):
    """A batch of observed pairs whose questions know what the user took before, and nothing later.

    Attributes:
        partners: n rows of at least one item: what some user took before the same item, see :func:`prefixes`.
    """

    partners: Ragged


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
        history, kept = self.query.history.cut(width)
        return replace(self, query=Query(self.query.users, history), key=self.key[kept],
                       weights=None if self.weights is None else self.weights[kept])


def sequences(train: Interactions, batch_size: int, rng: torch.Generator, *, negatives: int = 1) -> Iterator[Sequences]:
    """One epoch: every user with two training pairs once, shuffled, in batches (the last one may be smaller).

    Args:
        train: on the device where training happens, like ``rng``; a user's pairs are in order of time.
        negatives: items drawn per predicted item by :func:`uniform_negatives`, all before the first batch.

    Raises:
        ValueError: no user has two training pairs.
    """
    index = torch.arange(len(train), device=train.users.device)
    ends = train.by_user.offsets
    last = torch.ones_like(index, dtype=torch.bool)
    last[ends[1:][train.activity > 0] - 1] = False
    users = (train.activity > 1).nonzero().flatten()
    predictable(users)
    users = users[torch.randperm(len(users), generator=rng, device=users.device)]
    before = Ragged.from_lengths((train.activity - 1).clamp(min=0), index[last])  # (n_users,) rows of training pairs
    drawn = uniform_negatives(train, negatives, rng)
    weights = None if bool((train.weights == 1).all()) else train.weights
    chosen = users.cpu().numpy()  # one look at the device for all batches
    for start in range(0, len(users), batch_size):
        cut = slice(start, start + batch_size)
        known = before.take(users[cut], chosen[cut])
        asked = known.values + 1  # (nnz,): of a user, the pair after each
        yield Sequences(Query(users[cut], Ragged(known.offsets, train.items[known.values], known.told)),
                        train.items[asked], drawn[asked], None if weights is None else weights[asked])


def prefixes(train: Interactions, batch_size: int, rng: torch.Generator, *, negatives: int = 1,
             one: bool = False) -> Iterator[Prefixes]:
    """One epoch: every training pair but the first of each user, shuffled, in batches (the last one may be smaller).

    The partner of a pair is another one of these with the same item, drawn uniformly anew every epoch, or itself where
    there is none.

    Args:
        train: on the device where training happens, like ``rng``; a user's pairs are in order of time.
        negatives: items drawn per pair by :func:`uniform_negatives`, all before the first batch.
        one: one pair of each user only, drawn uniformly.

    Raises:
        ValueError: no user has two training pairs.
    """
    device, place, starts = train.users.device, train.by_user.place, train.by_user.offsets[:-1]
    asked = (place > 0).nonzero().flatten()
    predictable(asked)
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
    pairs, partners = asked[rank], partner[rank]
    counts = place[torch.stack([pairs, partners])].cpu().numpy()  # (2, n), one look at the device for all batches
    for start in range(0, len(rank), batch_size):
        cut = slice(start, start + batch_size)
        pair = pairs[cut]
        known, other = earlier(train, pair, counts[0, cut]), earlier(train, partners[cut], counts[1, cut])
        yield Prefixes(Query(train.users[pair], known), train.items[pair], drawn[pair],
                       None if weights is None else weights[pair], partners=other)


def predictable(asked: Tensor) -> None:
    """Refuse an epoch without any question.

    Raises:
        ValueError: ``asked`` is empty.
    """
    if not len(asked):
        raise ValueError("no user has two training pairs, so that nothing comes after anything; use data with longer "
                         "histories")


def earlier(train: Interactions, pair: Tensor, told: np.ndarray) -> Ragged:
    """For each training ``pair`` (b,) int64, what its user took before it; b rows, oldest first.

    Args:
        told: (b,) int64, on the host, how many that are.
    """
    before = train.by_user.place[pair]  # (b,)
    offsets = torch.cat([before.new_zeros(1), before.cumsum(0)])
    return Ragged(offsets, train.items[spans(pair - before, offsets, int(told.sum()))], told)


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
    back = torch.arange(1 - targets, 1, device=ends.device)
    oldest = first[ends]
    asked_from = ends - targets + 1  # (w,) where the targets of each window begin, before its user where they are few
    counts = (asked_from - oldest.maximum(asked_from - length)).clamp(min=0)  # (w,) items that are known
    told = counts.cpu().numpy()  # one look at the device for all batches
    for start in range(0, len(ends), batch_size):
        cut = slice(start, start + batch_size)
        end, least = ends[cut], oldest[cut, None]  # (n,), (n, 1)
        place = end[:, None] + back  # (n, targets)
        after, asked = place.maximum(least), place >= least
        weights = None if plain else asked * train.weights[after] * (targets / asked.sum(1, keepdim=True))
        offsets = torch.cat([counts.new_zeros(1), counts[cut].cumsum(0)])
        known = spans(asked_from[cut] - counts[cut], offsets, int(told[cut].sum()))  # (nnz,)
        yield Windows(Query(train.users[end], Ragged(offsets, train.items[known], told[cut])), train.items[after],
                      drawn[end], weights)
