"""Views of histories: other sequences that the same user might have had.

Every function maps histories to histories of the same number of rows, oldest first, none of which becomes empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.interactions import Interactions, Ragged

Operator = Literal["crop", "mask", "reorder", "substitute", "insert"]
OPERATORS = ("crop", "mask", "reorder", "substitute", "insert")
PADDING = -1
"""What a masked item may become: a place that is kept and nobody looks at, see :class:`recot.data.layout.Filled`."""


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


def share(history: Ragged, ratio: float, least: int = 0) -> Tensor:
    """(b,) int64: ``floor(ratio * length)`` of each row, at least ``least``."""
    return (history.lengths.double() * ratio + 1e-9).long().clamp(min=least)  # 0.7 * 10 is 6.9999...


def crop(history: Ragged, ratio: float, rng: torch.Generator, reach_end: bool = True) -> Ragged:
    """A share ``ratio`` of each row, at least one item, in one piece.

    Without ``reach_end`` a piece never ends at the last item, but for one that is all of the row, or the one item that
    is kept where the share is none.
    """
    count = share(history, ratio)
    start = _block(history, count.clamp(min=int(reach_end)), rng, reach_end)[history.rows]
    place, count = history.place, count.clamp(min=1)
    return Ragged.from_lengths(count, history.values[(place >= start) & (place < start + count[history.rows])])


def mask(history: Ragged, ratio: float, rng: torch.Generator, token: int) -> Ragged:
    """A share of the items is replaced by ``token``."""
    return Ragged(history.offsets, history.values.masked_fill(_chosen(history, share(history, ratio), rng), token))


def reorder(history: Ragged, ratio: float, rng: torch.Generator, reach_end: bool = True) -> Ragged:
    """A share of the items, in one piece, is shuffled; ``reach_end`` as in :func:`crop`."""
    count = share(history, ratio)
    place, start = history.place, _block(history, count, rng, reach_end)[history.rows]
    inside = (place >= start) & (place < start + count[history.rows])
    key = torch.where(inside, start + _noise(history, rng) * count[history.rows], place.double())
    longest = int(history.lengths.max()) + 1 if len(history.values) else 1
    return Ragged(history.offsets, history.values[(history.rows * longest + key).argsort()])


def substitute(history: Ragged, ratio: float, rng: torch.Generator, similar: Tensor) -> Ragged:
    """A share of the items, at least one, gives way to what is most similar, ``similar`` (n_items,)."""
    chosen = _chosen(history, share(history, ratio, 1), rng)
    return Ragged(history.offsets, torch.where(chosen, similar[history.values], history.values))


def insert(history: Ragged, ratio: float, rng: torch.Generator, similar: Tensor) -> Ragged:
    """Before a share of the items, at least one, comes what is most similar, ``similar`` (n_items,)."""
    count = share(history, ratio, 1)
    times = 1 + _chosen(history, count, rng).long()
    values = history.values.repeat_interleave(times)
    first = (times.cumsum(0) - times)[times == 2]  # where an inserted item stands, its own behind it
    values[first] = similar[values[first]]
    return Ragged.from_lengths(history.lengths + count, values)


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
    weighted = sparse.diags_array(1 / np.log1p(np.maximum(n_u, 1))) @ x
    common = (x.T @ weighted).tocoo()
    rows, columns = common.coords
    count = np.maximum(np.bincount(items, minlength=train.n_items), 1)
    value = common.data / np.sqrt(count[rows] * count[columns])
    other = rows != columns
    rows, columns, value = rows[other], columns[other], value[other]
    order = np.lexsort((columns, -value, rows))
    first, place = np.unique(rows[order], return_index=True)
    if not len(first):
        raise ValueError("no two items share a user in training, so none is similar to another; use operators without "
                         "substitute and insert")
    drawn = torch.randint(len(first), (train.n_items,), generator=rng, device=rng.device).cpu().numpy()
    found, alike = first[drawn], np.zeros(train.n_items)
    found[first] = columns[order][place]
    alike[first] = (value[order][place] - value.min()) / max(np.ptp(value), 1e-12)
    return torch.from_numpy(found).to(train.users.device), torch.from_numpy(alike).to(train.users.device)


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
        ValueError: an operator is not known, has no ratio, or its ratio lies outside 0..1; no list for short rows;
            masks leave nothing.

    Source: CL4SRec (Xie et al., ICDE 2022), Sec. 3.2: crop, mask, reorder. CoSeRec (Liu et al., 2021), Sec. 3:
    substitute, insert, and the choice by length. The released program of MStein masks by padding and draws no piece
    that ends at the last item, an error of one in a range; ``masked`` and ``reach_end`` have both.
    """

    def __init__(self, operators: Sequence[Operator] = ("crop", "mask", "reorder"), short: Sequence[Operator] = (),
                 threshold: int = 0, ratios: Mapping[str, float] | None = None,
                 masked: Literal["item", "padding"] = "item", reach_end: bool = True):
        self.ratios, self.masked, self.reach_end = dict(ratios or {}), masked, reach_end
        for name in (*operators, *short):
            if name not in OPERATORS or not 0 <= self.ratios.get(name, -1) <= 1:
                raise ValueError(f"the operator {name!r} with the ratio {self.ratios.get(name)} is none; known are "
                                 f"{', '.join(OPERATORS)}, with a ratio in 0..1 under augmentation.ratios")
        if not operators or (threshold > 0 and not short):
            raise ValueError(f"augmentation.operators = {list(operators)} and short = {list(short)} (up to threshold = "
                             f"{threshold} items) leave rows without an operator; name some")
        if masked == "padding" and self.ratios.get("mask") == 1:
            raise ValueError("the operator 'mask' with the ratio 1 and masked=padding leaves nothing; give less")
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
        is_short = history.lengths <= self.threshold
        apply: dict[str, Callable[..., Ragged]] = {
            "crop": partial(crop, reach_end=self.reach_end), "reorder": partial(reorder, reach_end=self.reach_end),
            "mask": partial(mask, token=token if self.masked == "item" else PADDING),
            "substitute": partial(substitute, similar=similar), "insert": partial(insert, similar=similar)}
        parts, taken = [], []
        for group, names in ((is_short, self.short), (~is_short, self.operators)):
            for number, name in enumerate(names):
                rows = (group & ((drawn * len(names)).long() == number)).nonzero().flatten()
                if len(rows):
                    parts.append(apply[name](history.take(rows), self.ratios[name], rng=rng))
                    taken.append(rows)
        joined = Ragged.from_lengths(torch.cat([part.lengths for part in parts]),
                                     torch.cat([part.values for part in parts]))
        return joined.take(torch.cat(taken).argsort())
