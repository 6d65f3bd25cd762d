"""Views of histories: other sequences that the same user might have had.

Every function maps histories to histories of the same number of rows, oldest first, none of which becomes empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.interactions import Interactions, Ragged, sorted_order, spans

Operator = Literal["crop", "mask", "reorder", "substitute", "insert"]
OPERATORS = ("crop", "mask", "reorder", "substitute", "insert")
CELLS = 2**20
"""Pairs of items that are compared at a time; some 60 MiB."""
PADDING = -1
"""What a masked item may become: a place that is kept and nobody looks at, see :class:`recot.batches.layout.Filled`."""


def _noise(history: Ragged, rng: torch.Generator) -> Tensor:
    """(nnz,) float64 in [0, 1)."""
    return torch.rand(len(history.values), generator=rng, dtype=torch.float64, device=history.values.device)


def _block(history: Ragged, count: Tensor, rng: torch.Generator, reach_end: bool) -> Tensor:
    """(b,) int64, where a block of ``count`` (b,) values may begin, uniformly; ``reach_end`` as in :func:`crop`."""
    free = (history.lengths - count + reach_end).clamp(min=1)
    return (torch.rand(len(history), generator=rng, dtype=torch.float64, device=count.device) * free).long()


def lowest(history: Ragged, count: Tensor, key: Tensor) -> Tensor:
    """(nnz,) bool, true for the ``count`` (b,) values of each row of lowest ``key``, (nnz,) float64 in [0, 1)."""
    chosen = torch.zeros_like(history.values, dtype=torch.bool)
    chosen[(history.rows + key).argsort()] = history.place < count[history.rows]
    return chosen


def _chosen(history: Ragged, count: Tensor, rng: torch.Generator) -> Tensor:
    """(nnz,) bool, true for ``count`` (b,) different values of each row."""
    return lowest(history, count, _noise(history, rng))


def share(lengths: Tensor, ratio: float, least: int = 0) -> Tensor:
    """(b,) int64: ``floor(ratio * length)`` of each row, at least ``least``."""
    return (lengths.double() * ratio + 1e-9).long().clamp(min=least)  # 0.7 * 10 is 6.9999...


def told_share(history: Ragged, ratio: float, least: int = 0) -> np.ndarray:
    """:func:`share` of each row of ``history``, on the host."""
    return share(torch.from_numpy(history.sizes), ratio, least).numpy()


def crop(history: Ragged, ratio: float, rng: torch.Generator, reach_end: bool = True) -> Ragged:
    """A share ``ratio`` of each row, at least one item, in one piece.

    Without ``reach_end`` a piece never ends at the last item, but for one that is all of the row, or the one item that
    is kept where the share is none.
    """
    count = share(history.lengths, ratio)
    start = _block(history, count.clamp(min=int(reach_end)), rng, reach_end)
    told, count = told_share(history, ratio, 1), count.clamp(min=1)
    offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return Ragged(offsets, history.values[spans(history.offsets[:-1] + start, offsets, int(told.sum()))], told)


def mask(history: Ragged, ratio: float, rng: torch.Generator, token: int) -> Ragged:
    """A share of the items is replaced by ``token``."""
    chosen = _chosen(history, share(history.lengths, ratio), rng)
    return replace(history, values=history.values.masked_fill(chosen, token))


def reorder(history: Ragged, ratio: float, rng: torch.Generator, reach_end: bool = True) -> Ragged:
    """A share of the items, in one piece, is shuffled; ``reach_end`` as in :func:`crop`."""
    count = share(history.lengths, ratio)
    place, start = history.place, _block(history, count, rng, reach_end)[history.rows]
    inside = (place >= start) & (place < start + count[history.rows])
    key = torch.where(inside, start + _noise(history, rng) * count[history.rows], place.double())
    longest = int(history.sizes.max(initial=0)) + 1
    return replace(history, values=history.values[(history.rows * longest + key).argsort()])


def substitute(history: Ragged, ratio: float, rng: torch.Generator, similar: Tensor) -> Ragged:
    """A share of the items, at least one, gives way to what is most similar, ``similar`` (n_items,)."""
    chosen = _chosen(history, share(history.lengths, ratio, 1), rng)
    return replace(history, values=torch.where(chosen, similar[history.values], history.values))


def insert(history: Ragged, ratio: float, rng: torch.Generator, similar: Tensor) -> Ragged:
    """Before a share of the items, at least one, comes what is most similar, ``similar`` (n_items,)."""
    count, more = share(history.lengths, ratio, 1), told_share(history, ratio, 1)
    chosen = _chosen(history, count, rng)
    times = 1 + chosen.long()
    values = history.values.repeat_interleave(times, output_size=len(history.values) + int(more.sum()))
    first = times.cumsum(0) - times  # where each item stands, or what is inserted before it
    values[first] = torch.where(chosen, similar[history.values], history.values)
    return Ragged.from_lengths(history.lengths + count, values, history.sizes + more)


def similar_by_users(train: Interactions, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The item that shares most users with each, long histories counting less, and how alike they are.

    Returns:
        (n_items,) int64, and (n_items,) float64 from 0, the least of all pairs with a common user, to 1, the largest;
        on the device of ``train``.

    ``sum_u 1 / log(1 + n_u) / sqrt(|U_i| |U_j|)`` over the common users u of i and j, which have taken n_u items; of
    equal ones the first. The last training item of a user, which no history in training holds, does not count. An item
    without a common user with another gets one that has, at random.

    Source: ItemCF-IUF (Breese et al., UAI 1998), as in CoSeRec (Liu et al., 2021), Sec. 3.2.
    """
    known = torch.ones(len(train), dtype=torch.bool, device=train.users.device)
    known[train.by_user.offsets[1:][train.activity > 0] - 1] = False
    users, items = train.users[known].cpu().numpy(), train.items[known].cpu().numpy()
    n_u = np.bincount(users, minlength=train.n_users)
    x = sparse.csr_array((np.ones(len(users)), (users, items)), (train.n_users, train.n_items))
    weighted = sparse.csr_array(sparse.diags_array(1 / np.log1p(np.maximum(n_u, 1))) @ x)
    count = np.maximum(np.bincount(items, minlength=train.n_items), 1)
    first, found, best, least = [], [], [], np.inf
    of_items = sparse.csr_array(x.T)
    size = max(1, CELLS // max(train.n_items, 1))
    for start in range(0, train.n_items, size):
        common = (of_items[start:start + size] @ weighted).tocoo()
        rows, columns = common.coords[0] + start, common.coords[1]
        other = rows != columns
        rows, columns = rows[other], columns[other]
        value = common.data[other] / np.sqrt(count[rows] * count[columns])
        if not len(rows):
            continue
        begins = np.flatnonzero(np.diff(rows, prepend=-1))  # where each row begins; they come in order
        largest = np.maximum.reduceat(value, begins)
        ties = value == np.repeat(largest, np.diff(begins, append=len(rows)))
        first.append(rows[begins])
        found.append(np.minimum.reduceat(np.where(ties, columns, train.n_items), begins))
        best.append(largest)
        least = min(least, value.min())
    if not first:
        raise ValueError("no two items share a user in training, so none is similar to another; use operators without "
                         "substitute and insert")
    compared, values = np.concatenate(first), np.concatenate(best)
    drawn = torch.randint(len(compared), (train.n_items,), generator=rng, device=rng.device).cpu().numpy()
    similar, alike = compared[drawn].astype(np.int64), np.zeros(train.n_items)
    similar[compared] = np.concatenate(found)
    alike[compared] = (values - least) / max(values.max() - least, 1e-12)
    return torch.from_numpy(similar).to(train.users.device), torch.from_numpy(alike).to(train.users.device)


def similar_by_vectors(vectors: Tensor, similarity: Callable[[Tensor, Tensor], Tensor],
                       block: int = 1024) -> tuple[Tensor, Tensor]:
    """The item that a model has nearest to each, and how alike they are.

    Args:
        vectors: (n_items, d). similarity: (m, d), (n, d) -> (m, n). block: items that are compared at a time.

    Returns:
        (n_items,) int64, and (n_items,) float64 from 0, the least of all pairs, to 1, the largest.
    """
    found, alike, least = [], [], []
    for start in range(0, len(vectors), block):
        with torch.autocast(vectors.device.type, enabled=False):  # an epoch is drawn between its steps
            values = similarity(vectors[start:start + block], vectors).double()  # (m, n_items)
        own = torch.arange(len(values), device=values.device)
        least.append(values.amin())
        values[own, own + start] = -torch.inf
        best = values.max(1)
        found.append(best.indices)
        alike.append(best.values)
    floor, value = torch.stack(least).amin(), torch.cat(alike)
    return torch.cat(found), (value - floor) / (value.amax() - floor).clamp(min=1e-12)


class Augmentation:
    """Draws an operator for every row, from one list for short rows and from another for long ones.

    Args:
        operators: for rows longer than ``threshold``, all equally likely; rows of any length with threshold 0.
        short: for the other rows.
        threshold: K, the longest short row.
        ratios: share of a row that an operator keeps (``crop``) or changes (the others).
        masked: what a masked item becomes: an ``item`` of its own, which is learnt, or ``padding``.
        reach_end: crop and reorder may take a piece that ends at the last item.

    Raises:
        ValueError: an operator is not known, has no ratio, or its ratio lies outside 0..1; no operators, or none for
            short rows; masks leave nothing.

    Source: CL4SRec (Xie et al., ICDE 2022), Sec. 3.2: crop, mask, reorder. CoSeRec (Liu et al., 2021), Sec. 3:
    substitute, insert, and the choice by length. The released program of MStein masks by padding and draws no piece
    that ends at the last item, an error of one in a range; ``masked`` and ``reach_end`` have both.
    """

    def __init__(self, operators: Sequence[Operator] = ("crop", "mask", "reorder"), short: Sequence[Operator] = (),
                 threshold: int = 0, ratios: Mapping[str, float] | None = None,
                 masked: Literal["item", "padding"] = "item", reach_end: bool = True):
        self.ratios, self.masked, self.reach_end = dict(ratios or {}), masked, reach_end
        for name in (*operators, *short):
            if name not in OPERATORS:
                raise ValueError(f"no operator of augmentation is called {name!r}; use some of {', '.join(OPERATORS)}")
            if name not in self.ratios:
                raise ValueError(f"the operator {name!r} has no ratio; give augmentation.ratios.{name}, in 0..1")
            if not 0 <= self.ratios[name] <= 1:
                raise ValueError(f"augmentation.ratios.{name} = {self.ratios[name]} is the share of a row that the "
                                 "operator keeps or changes; give 0 to 1")
        if not operators:
            raise ValueError("augmentation.operators is empty, so that nothing is done to long rows; name some of "
                             f"{', '.join(OPERATORS)}")
        if threshold > 0 and not short:
            raise ValueError(f"augmentation.short is empty, so that nothing is done to rows of up to threshold = "
                             f"{threshold} items; name some operators, or give threshold 0")
        if masked == "padding" and self.ratios.get("mask") == 1:
            raise ValueError("augmentation.ratios.mask = 1 and masked=padding leave nothing; give a ratio below 1")
        self.operators, self.short, self.threshold = tuple(operators), tuple(short), threshold

    @property
    def compares(self) -> bool:
        """Whether items have to be compared, see :func:`similar_by_users`."""
        return bool({"substitute", "insert"} & {*self.operators, *self.short})

    def __call__(self, history: Ragged, rng: torch.Generator, token: int, similar: Tensor) -> Ragged:
        """Histories of b rows, none of them empty.

        Args:
            token: the item that stands for a masked one, where ``masked`` asks for one.
            similar: (n_items,), see :func:`similar_by_users`; not used by others.

        Returns:
            b rows, with ``PADDING`` where an item is masked by that.
        """
        device = history.values.device
        drawn = torch.rand(len(history), generator=rng, dtype=torch.float64, device=device)
        apply: dict[str, Callable[..., Ragged]] = {
            "crop": partial(crop, reach_end=self.reach_end), "reorder": partial(reorder, reach_end=self.reach_end),
            "mask": partial(mask, token=token if self.masked == "item" else PADDING),
            "substitute": partial(substitute, similar=similar), "insert": partial(insert, similar=similar)}
        names = (*self.short, *self.operators)
        choice = torch.where(history.lengths <= self.threshold, (drawn * len(self.short)).long(),
                             len(self.short) + (drawn * len(self.operators)).long())  # (b,) number of the operator
        known = choice.cpu().numpy()  # the one look at the device
        order, chosen = sorted_order(choice), np.argsort(known, kind="stable")  # the same, there and on the host
        ends = np.bincount(known, minlength=len(names)).cumsum()
        parts = [apply[name](history.take(order[start:end], chosen[start:end]), self.ratios[name], rng=rng)
                 for name, start, end in zip(names, (0, *ends), ends, strict=False) if end > start]
        joined = Ragged.from_lengths(torch.cat([part.lengths for part in parts]),
                                     torch.cat([part.values for part in parts]),
                                     np.concatenate([part.sizes for part in parts]))
        return joined.take(order.argsort(), chosen.argsort())
