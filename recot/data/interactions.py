"""The containers: rows of different length, and observed (user, item) pairs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor


def sorted_order(keys: Tensor) -> Tensor:
    """Indices that sort ``keys``, ties in order of position; (n,) int64 on the device of ``keys``.

    numpy sorts int64 about five times faster than torch on a CPU, hence the detour.
    """
    if keys.device.type == "cpu":
        return torch.from_numpy(np.argsort(keys.numpy(), kind="stable"))
    return keys.argsort(stable=True)


def is_in(wanted: Tensor, keys: Tensor) -> Tensor:
    """Whether each entry of ``wanted`` is among ``keys``, (n,) in rising order; bool of the shape of ``wanted``.

    >>> is_in(torch.tensor([3, 4, 9]), torch.tensor([1, 3, 9]))
    tensor([ True, False,  True])
    """
    if not len(keys):
        return torch.zeros_like(wanted, dtype=torch.bool)
    return keys[torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)] == wanted


def scattered(keys: Tensor, seed: int) -> Tensor:
    """A number for each key that says nothing about it, (n,) int64 for (n,) int64; the same on every device.

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    mixed = keys + signed((seed + 1) * 0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> shift & (1 << 64 - shift) - 1)) * signed(factor)  # >> copies the sign into the top
    return mixed ^ (mixed >> 31 & (1 << 33) - 1)


def signed(number: int) -> int:
    """The last 64 bits of a whole number, as int64 holds them."""
    return (number + 2**63) % 2**64 - 2**63


def numbers(items: Tensor, n_items: int) -> Tensor:
    """(n_items,) int64: the place of each item among ``items`` (k,), or -1 where it is none of them.

    >>> numbers(torch.tensor([1, 3]), 5)
    tensor([-1,  0, -1,  1, -1])
    """
    found = torch.full((n_items,), -1, device=items.device)
    found[items] = torch.arange(len(items), device=items.device)
    return found


@dataclass(frozen=True)
class Ragged:
    """Rows of different length, stored end to end.

    Sizes that only a device knows make the host wait for it. A batch that is drawn or cut there brings them along, and
    nothing waits.

    Attributes:
        offsets: (rows + 1,) int64; row ``r`` is ``values[offsets[r]:offsets[r + 1]]``.
        values: (nnz,) int64.
        told: (rows,) int64, ``lengths`` where the host knows them already, or None.
    """

    offsets: Tensor
    values: Tensor
    told: np.ndarray | None = None

    @classmethod
    def from_lists(cls, rows: list[list[int]]) -> Ragged:
        """Ragged of the given rows, in their order, on the CPU.

        >>> rows = Ragged.from_lists([[5, 6], [], [7]])
        >>> rows.offsets, rows.values, rows.rows
        (tensor([0, 2, 2, 3]), tensor([5, 6, 7]), tensor([0, 0, 2]))
        >>> rows.padded(2)  # -1 where there is nothing
        tensor([[ 5,  6],
                [-1, -1],
                [-1,  7]])
        """
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        return cls.from_lengths(lengths, torch.tensor([v for row in rows for v in row], dtype=torch.int64))

    def to_lists(self) -> list[list[int]]:
        """The rows, back from :meth:`from_lists`."""
        return [row.tolist() for row in self.values.split(self.lengths.tolist())]

    @classmethod
    def from_lengths(cls, lengths: Tensor, values: Tensor, told: np.ndarray | None = None) -> Ragged:
        """Ragged of ``values`` cut into rows of ``lengths``, (rows,) int64; ``told`` has the same on the host."""
        return cls(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), values, told)

    @classmethod
    def from_pairs(cls, rows: Tensor, values: Tensor, n_rows: int) -> Ragged:
        """Ragged of pairs already sorted by row; ``rows`` and ``values`` are (nnz,) int64."""
        return cls.from_lengths(torch.bincount(rows, minlength=n_rows), values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Tensor:
        """(rows,) int64."""
        return self.offsets.diff()

    @cached_property
    def sizes(self) -> np.ndarray:
        """(rows,) int64, ``lengths`` on the host; where it was not told, it waits for the device once."""
        return self.lengths.cpu().numpy() if self.told is None else self.told

    @cached_property
    def bounds(self) -> np.ndarray:
        """(rows + 1,) int64, ``offsets`` on the host, as ``sizes``."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.sizes.cumsum()])

    @cached_property
    def rows(self) -> Tensor:
        """(nnz,) int64, the row of every value."""
        index = torch.arange(len(self), device=self.offsets.device)
        return index.repeat_interleave(self.lengths, output_size=len(self.values))

    @cached_property
    def place(self) -> Tensor:
        """(nnz,) int64, the place of every value in its row, from 0."""
        return torch.arange(len(self.values), device=self.offsets.device) - self.offsets[self.rows]

    def slots(self, width: int) -> Tensor:
        """(nnz,) int64, where every value stands in a grid of ``width`` columns, each row at the end of its own; no row
        is longer.
        """
        return self.place + ((self.rows + 1) * width - self.lengths[self.rows])

    def take(self, index: Tensor, chosen: np.ndarray | None = None) -> Ragged:
        """The rows at ``index``, (b,) int64, in that order; rows may repeat.

        Args:
            chosen: ``index`` on the host; without, the host waits for it where it is on another device.
        """
        lengths, told = self.lengths[index], self.sizes[index.cpu().numpy() if chosen is None else chosen]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return Ragged(offsets, self.values[spans(self.offsets[index], offsets, int(told.sum()))], told)

    def slice(self, start: int, stop: int) -> Ragged:
        """Rows ``start`` to ``stop``; the values are a view, so this costs nothing."""
        offsets = self.offsets[start : stop + 1]
        values = self.values[int(self.bounds[start]) : int(self.bounds[stop])]
        return Ragged(offsets - offsets[0], values, self.sizes[start:stop])

    def latest(self, width: int) -> Ragged:
        """The last ``width`` values of each row, or all of a shorter one."""
        return self.cut(width)[0]

    def cut(self, width: int) -> tuple[Ragged, Tensor]:
        """:meth:`latest`, and where it has its values from, (m,) int64."""
        kept, told = self.lengths.clamp(max=width), np.minimum(self.sizes, width)  # (rows,) each
        offsets = torch.cat([kept.new_zeros(1), kept.cumsum(0)])
        places = spans(self.offsets[1:] - kept, offsets, int(told.sum()))  # (m,)
        return Ragged(offsets, self.values[places], told), places

    def is_latest(self, width: int) -> Tensor:
        """(nnz,) bool, true for the last ``width`` values of each row."""
        index = torch.arange(len(self.values), device=self.values.device)
        return index >= self.offsets[1:][self.rows] - width  # (nnz,)

    def dense(self, width: int) -> Tensor:
        """(rows, width) float32, one where the row holds the value and zero elsewhere."""
        out = torch.zeros(len(self), width, device=self.values.device)
        out[self.rows, self.values] = 1.0
        return out

    def padded(self, width: int, side: Literal["left", "right"] = "left") -> Tensor:
        """(rows, width) int64; the last ``width`` values of each row, the rest -1 on the given ``side``."""
        kept = self.latest(width)
        column = kept.place if side == "right" else kept.place + (width - kept.lengths)[kept.rows]  # (m,)
        out = self.values.new_full((len(self), width), -1)
        out[kept.rows, column] = kept.values
        return out

    def to(self, device: torch.device | str) -> Ragged:
        """The same rows on ``device``."""
        return Ragged(self.offsets.to(device), self.values.to(device), self.sizes)


def spans(starts: Tensor, offsets: Tensor, total: int) -> Tensor:
    """(total,) int64: from each of ``starts`` (b,) on, as many numbers as lie between its ``offsets`` (b + 1,).

    Args:
        total: the last of ``offsets``, which only a device may know; the host has to.
    """
    shift = (starts - offsets[:-1]).repeat_interleave(offsets.diff(), output_size=total)
    return shift + torch.arange(total, device=shift.device)


class Domain(NamedTuple):
    """A range of items that belong together: films, say, of a shop that has books as well.

    Attributes:
        name: as in the raw files. start, stop: its items are ``start..stop - 1``.
    """

    name: str
    start: int
    stop: int

    @property
    def items(self) -> slice:
        """The range, to cut columns with."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Interactions:
    """Observed (user, item) pairs, sorted by user, then time; on one device and never mutated.

    Pairs of one user at one time are in the order of their items, or, with ``ties``, in one that says nothing of them.

    Attributes:
        users, items: (n,) int64.
        weights: (n,) float32 in [0, 1]; one until a denoiser says otherwise.
        n_users, n_items: sizes of the two id spaces.
        times: (n,) int64 seconds, or None.
        noisy: (n,) bool, true where the pair is known to be noise, or None where nothing is known.
        folded: (n,) bool, true where the pair is known of a user who is only asked about and trains for want of another
            way to be served, so that what describes the training users alone leaves it out; None where there is none.
        domains: which items belong together, in order and without a gap; empty where nothing is known of domains.
        ties: seed of the order of pairs of one user at one time, or None for the order of their items.
        parts: (n,) int8, what the data say that a pair is for: 0 to train, 1 to validate, 2 to be tested; None where
            they say nothing.
    """

    users: Tensor
    items: Tensor
    weights: Tensor
    n_users: int
    n_items: int
    times: Tensor | None = None
    noisy: Tensor | None = None
    domains: tuple[Domain, ...] = ()
    ties: int | None = None
    folded: Tensor | None = None
    parts: Tensor | None = None

    @classmethod
    def from_pairs(cls, users: Tensor, items: Tensor, n_users: int, n_items: int, *,
                   times: Tensor | None = None, noisy: Tensor | None = None,
                   domains: tuple[Domain, ...] = (), ties: int | None = None,
                   folded: Tensor | None = None, parts: Tensor | None = None) -> Interactions:
        """Interactions of pairs in any order, all of weight one.

        Raises:
            ValueError: an id lies outside its range, or a pair occurs twice.
        """
        for name, ids, size in (("user", users, n_users), ("item", items, n_items)):
            if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= size):
                raise ValueError(f"{name} ids lie in {int(ids.min())}..{int(ids.max())}, expected 0..{size - 1}")
        order = sorted_order(users * n_items + items)
        keys = (users * n_items + items)[order]
        if bool((keys[1:] == keys[:-1]).any()):
            twice = int(keys[1:][keys[1:] == keys[:-1]][0])
            raise ValueError(f"the pair (user {twice // n_items}, item {twice % n_items}) occurs twice; "
                             "keep one of them before building Interactions")
        if times is not None:
            if ties is not None:
                order = order[sorted_order(scattered(keys, ties))]
            order = order[sorted_order(times[order])]
            order = order[sorted_order(users[order])]
        return cls(users[order], items[order], torch.ones(len(users), device=users.device), n_users, n_items,
                   None if times is None else times[order], None if noisy is None else noisy[order], domains, ties,
                   None if folded is None else folded[order], None if parts is None else parts[order])

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def by_user(self) -> Ragged:
        """(n_users,) rows: the items of each user, oldest first."""
        return Ragged.from_pairs(self.users, self.items, self.n_users)

    @cached_property
    def keys(self) -> Tensor:
        """(n,) int64, ``user * n_items + item`` in rising order."""
        keys = self.users * self.n_items + self.items
        if keys.device.type == "cpu":
            return torch.from_numpy(np.sort(keys.numpy()))
        return keys.sort().values

    @cached_property
    def popularity(self) -> Tensor:
        """(n_items,) int64, the number of users of each item."""
        return torch.bincount(self.items, minlength=self.n_items)

    @cached_property
    def activity(self) -> Tensor:
        """(n_users,) int64, the number of items of each user."""
        return torch.bincount(self.users, minlength=self.n_users)

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether each pair is observed; bool of the broadcast shape of ``users`` and ``items``."""
        return is_in(users * self.n_items + items, self.keys)

    def select(self, index: Tensor) -> Interactions:
        """The pairs at ``index``, (k,) int64 or (n,) bool; both id spaces stay as they are.

        The order of ``index`` is kept, so it has to be rising, or to sort by user and time.
        """
        picked = {f.name: getattr(self, f.name)[index] for f in fields(self)
                  if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **picked)

    def of_items(self, items: Tensor) -> Interactions:
        """The pairs of ``items`` alone, (k,) int64 in rising order, which are numbered from 0; users stay as they are.

        A domain without any of these items is none any more.
        """
        number = numbers(items, self.n_items)
        bounds = torch.tensor([(domain.start, domain.stop) for domain in self.domains], dtype=torch.int64)
        places = torch.searchsorted(items.cpu(), bounds.flatten()).reshape(-1, 2).tolist()  # (domains, 2)
        domains = tuple(Domain(domain.name, start, stop) for domain, (start, stop) in zip(
            self.domains, places, strict=True) if start < stop)
        inside = self.select(number[self.items] >= 0)
        return replace(inside, items=number[inside.items], n_items=len(items), domains=domains)

    @property
    def tied(self) -> Tensor:
        """(n - 1,) bool, true where a pair and the next one have one user and one time; false without times."""
        if self.times is None:
            return torch.zeros_like(self.users[1:], dtype=torch.bool)
        return (self.users[1:] == self.users[:-1]) & (self.times[1:] == self.times[:-1])

    def untied(self, seed: int) -> Interactions:
        """The same pairs, those of one user at one time in an order that follows from the seed and the set of pairs.

        The order of items would tell a model, or a test for the last item, something that is not in the data.
        """
        if self.times is None or not bool(self.tied.any()):
            return replace(self, ties=seed)
        order = sorted_order(scattered(self.users * self.n_items + self.items, seed))
        order = order[sorted_order(self.times[order])]
        return replace(self.select(order[sorted_order(self.users[order])]), ties=seed)

    def clean(self) -> Interactions:
        """The pairs that are not known to be noise."""
        return self if self.noisy is None else self.select(~self.noisy)

    def unfolded(self) -> Interactions:
        """The pairs of users who train for their own sake, see ``folded``."""
        return self if self.folded is None else self.select(~self.folded)

    def reweighted(self, weights: Tensor) -> Interactions:
        """The same pairs with other weights, (n,) float32 in [0, 1]."""
        return replace(self, weights=weights)

    def to(self, device: torch.device | str) -> Interactions:
        """The same pairs on ``device``."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self)
                 if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **moved)
