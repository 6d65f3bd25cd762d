"""What becomes of the rows of a table: which of them stay, and the numbers of their users and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import torch

from recot.data import filters, parts
from recot.data.dataset import Dataset
from recot.data.filters import Array
from recot.data.interactions import Domain, Interactions
from recot.data.reduce import Domains, Reduction, by_domain
from recot.data.roles import TRAIN


def rated(frame: pd.DataFrame, threshold: float | None, name: str, dropped: dict[str, int]) -> pd.DataFrame:
    """The rows of a rating of ``threshold`` or more, all without one; says in ``dropped`` how many go.

    Raises:
        ValueError: there is a threshold but no ratings, or nothing is left.
    """
    if threshold is not None:
        if "rating" not in frame:
            raise ValueError(f"{name} has no ratings, so data.threshold={threshold} means nothing; set it to null")
        kept = frame["rating"].to_numpy() >= threshold
        dropped[f"rating below {threshold:g}"] = int((~kept).sum())
        if len(frame) and not kept.any():
            raise ValueError(f"{name} has no rating of {threshold:g} or more, the highest is "
                             f"{frame['rating'].max():g}; lower data.threshold")
        frame = frame[kept]
    if not len(frame):
        raise ValueError(f"the files of {name} hold no interactions; get them again")
    return frame


@dataclass(frozen=True)
class Rows:
    """The columns of a table, users and items as numbers.

    Attributes:
        users, items: (n,) int64, the place of each among ``user_ids`` and ``item_ids``, which rise.
        times: (n,) seconds, parts: (n,) int8, see :mod:`recot.data.roles`, and domains: (n,) int64; None where rows
            have none.
    """

    users: Array
    items: Array
    user_ids: Array
    item_ids: Array
    times: Array | None
    parts: Array | None
    domains: Array | None

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """Those of a table with the columns user, item and, if known, time, part and domain, the number of one."""
        (users, user_ids), (items, item_ids) = (filters.numbered(frame[kind]) for kind in ("user", "item"))
        return cls(users, items, user_ids, item_ids, *(
            frame[kind].to_numpy() if kind in frame else None for kind in ("time", "part", "domain")))

    @property
    def pairs(self) -> Array:
        """(n,) int64, the number of each pair."""
        return self.users * len(self.item_ids) + self.items

    def kept(self, core: int, reduction: Reduction, domains: Domains, name: str, dropped: dict[str, int]) -> Array:
        """Indices of the rows that stay, one of each pair; says in ``dropped`` how many go for which reason.

        What is counted is counted among the rows that train, and the others stay whatever the counts.

        Raises:
            ValueError: nothing is left.
        """
        chosen, held = filters.one_per_pair(self.pairs, self.times), np.empty(0, dtype=np.int64)
        dropped["duplicate pairs"] = len(self.users) - len(chosen)
        if self.parts is not None:
            trains = self.parts[chosen] == TRAIN
            chosen, held = chosen[trains], chosen[~trains]
        if core > 1:
            inside = filters.in_core(self.users[chosen], self.items[chosen], core)
            dropped[f"outside the {core}-core"] = int((~inside).sum())
            chosen = chosen[inside]
        if not len(chosen):
            raise ValueError(f"no user and item of {name} has {core} interactions with the others; lower data.core")
        if reduction != Reduction():
            chosen = chosen[reduction.kept(self.users[chosen], self.items[chosen], dropped)]
        if domains.names and self.domains is not None:
            chosen = chosen[domains.kept(self.users[chosen], self.items[chosen], self.domains[chosen], self.item_ids,
                                         dropped)]
        return np.concatenate([chosen, held])

    def dataset(self, chosen: Array, names: Sequence[str], dropped: dict[str, int]) -> Dataset:
        """The rows ``chosen``, no pair of which is there twice, with users and items numbered anew.

        Args:
            names: of the domains, whose items follow one another.
        """
        users, user_ids = filters.renumbered(self.users[chosen], self.user_ids)
        ranges: tuple[Domain, ...] = ()
        if names and self.domains is not None:
            items, item_ids, ranges = by_domain(self.items[chosen], self.domains[chosen], self.item_ids, tuple(names))
        else:
            items, item_ids = filters.renumbered(self.items[chosen], self.item_ids)
        times = None if self.times is None else self.times[chosen].astype(np.int64, copy=False)
        order = filters.in_order(users, items, times)
        return Dataset(Interactions(
            torch.from_numpy(users[order]), torch.from_numpy(items[order]), torch.ones(len(order)), len(user_ids),
            len(item_ids), None if times is None else torch.from_numpy(times[order]), domains=ranges,
            parts=None if self.parts is None else torch.from_numpy(self.parts[chosen[order]])),
            user_ids, item_ids, dropped)


def told(name: str, dataset: Dataset) -> str:
    """One line about what was prepared: how much, and what was left out."""
    pairs = dataset.interactions
    return (f"{name}: {len(dataset.user_ids):,} users, {len(dataset.item_ids):,} items, {len(pairs):,} interactions"
            + ("" if pairs.parts is None else f" ({parts.counted(pairs.parts.numpy())})")
            + f"; left out: {', '.join(f'{n:,} {why}' for why, n in dataset.dropped.items())}")
