"""What makes a data set smaller, or joins several of them, between its raw rows and its interactions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from recot.data import filters
from recot.data.interactions import Domain


@dataclass(frozen=True)
class Reduction:
    """What makes a data set smaller after its core; see :class:`recot.data.prepare.Files`."""

    top_items: int | None = None
    user_core: int = 0
    sample_users: int | None = None
    sample_interactions: int | None = None
    sample_seed: int = 0

    def kept(self, users: filters.Array, items: filters.Array, dropped: dict[str, int]) -> filters.Array:
        """Indices of the pairs that stay, of (n,) each; says in ``dropped`` how many go for which reason.

        Raises:
            ValueError: nothing is left, or see :func:`recot.data.filters.dense`.
        """
        left = np.arange(len(users))
        if self.top_items is not None:
            left = left[filters.among_top(items, self.top_items)]
            dropped[f"outside the top {self.top_items} items"] = len(users) - len(left)
        if self.user_core > 1:
            before, left = len(left), left[filters.active(users[left], self.user_core)]
            dropped[f"users with fewer than {self.user_core}"] = before - len(left)
        if self.sample_users is not None and self.sample_interactions is not None:
            inside, least = filters.dense(users[left], self.sample_users, self.sample_interactions, self.sample_seed)
            dropped[f"outside {self.sample_users} users with {least} or more"] = int((~inside).sum())
            left = left[inside]
        if not len(left):
            raise ValueError(f"no user has {self.user_core} interactions; lower data.user_core")
        return left


@dataclass(frozen=True)
class Domains:
    """Several data sets over the same users, as one; see :class:`recot.data.prepare.Files`."""

    names: tuple[str, ...] = ()
    core: int = 1
    share: float | None = None
    seed: int = 0

    def named(self, frame: pd.DataFrame) -> Self:
        """The same with the names of all domains there are, where none was said and rows have one."""
        if self.names or "domain" not in frame:
            return self
        return replace(self, names=tuple(sorted(frame["domain"].astype(str).unique())))

    def of(self, frame: pd.DataFrame, dropped: dict[str, int], name: str) -> pd.DataFrame:
        """The rows of these domains, with the column ``domain`` numbered in their order.

        Raises:
            ValueError: a domain has no rows, or an item stands in two of them.
        """
        if "domain" not in frame:
            raise ValueError(f"{name} has no column of domains; name it with data.domain, or give data.domains=null")
        order = {domain: number for number, domain in enumerate(self.names)}
        number = frame["domain"].astype(str).map(order).to_numpy(dtype=np.float64)
        dropped["of other domains"] = int(np.isnan(number).sum())
        frame = frame.assign(domain=number)[~np.isnan(number)]
        frame = frame.astype({"domain": np.int64})
        found = np.bincount(frame["domain"], minlength=len(self.names))
        if not found.all():
            raise ValueError(f"{name} has no interactions of the domain {self.names[int(found.argmin())]!r}; correct "
                             "data.domains")
        places = frame.drop_duplicates(["item", "domain"])
        if (twice := places["item"].duplicated(keep=False)).any():
            item = places["item"][twice].iloc[0]
            both = [self.names[number] for number in places["domain"][places["item"] == item]]
            raise ValueError(f"{int(places['item'][twice].nunique())} items of {name} stand in several domains, for "
                             f"example {item!r} in {' and '.join(map(repr, both))}; give each an id of its own, as "
                             "DOMAIN/ID")
        return frame

    def kept(self, users: filters.Array, items: filters.Array, domains: filters.Array, ids: filters.Array,
             dropped: dict[str, int]) -> filters.Array:
        """Indices of the pairs that stay, of (n,) each: of items that are kept, and of users who have ``core`` of these
        in each domain.

        Args:
            ids: (n_items,) the raw id of each item.

        Raises:
            ValueError: nothing is left.
        """
        left = np.arange(len(users))
        if self.share is not None:
            chosen = np.array([hashed(f"{self.seed}|{id_}") < self.share for id_ in ids])
            left = left[chosen[items[left]]]
            dropped[f"of items outside a share of {self.share:g}"] = len(users) - len(left)
        here = np.zeros((users.max(initial=0) + 1, len(self.names)), dtype=np.int64)  # (n_users, domains)
        np.add.at(here, (users[left], domains[left]), 1)
        able = np.all(here >= self.core, axis=1)  # (n_users,)
        before, left = len(left), left[able[users[left]]]
        dropped[f"users without {self.core} in each domain"] = before - len(left)
        if not len(left):
            raise ValueError(f"no user has {self.core} interactions in each of {', '.join(self.names)}; lower "
                             "data.domain_core")
        kept: filters.Array = left
        return kept


def hashed(text: str) -> float:
    """A number in 0..1 that follows from a text in every language: the first 32 bits of its sha256."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def by_domain(items: filters.Array, domains: filters.Array, ids: filters.Array,
              names: tuple[str, ...]) -> tuple[filters.Array, filters.Array, tuple[Domain, ...]]:
    """Items numbered anew, domain after domain and by their ids within, with these ids and the range of each domain.

    Args:
        items, domains: (n,) of the pairs. ids: (n_items,) raw ids in rising order.
    """
    keys = domains * len(ids) + items  # (n,)
    known, numbers = np.unique(keys, return_inverse=True)
    stops = np.searchsorted(known, np.arange(1, len(names) + 1) * len(ids))
    ranges = tuple(Domain(name, int(start), int(stop)) for name, start, stop in
                   zip(names, (0, *stops[:-1]), stops, strict=True))
    return numbers.astype(np.int64), ids[known % len(ids)], ranges


def in_file_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with times that differ where a user has one time twice: each following row of it is a second later.

    For files whose rows lie in order and whose times are days.
    """
    later: Any = frame.groupby(["user", "time"], sort=False).cumcount()
    found: pd.DataFrame = frame.assign(time=frame["time"] + later)
    return found
