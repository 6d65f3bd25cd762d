"""Which raw interactions remain, and the numbers their users and items get; plain arrays, one entry per interaction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all files; ids are integers only where they are in every file, otherwise strings as written."""
    for kind in ("user", "item"):
        if len({frame[kind].dtype == np.int64 for frame in frames}) > 1:
            frames = [frame.assign(**{kind: frame[kind].astype(str)}) for frame in frames]
    return pd.concat(frames, ignore_index=True)


def sampled(frame: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The rows of a random ``share`` of the users, at least of one; depends on the set of users, not on the order."""
    users, ids = numbered(frame["user"])
    chosen = np.random.default_rng(seed).permutation(len(ids))[:max(1, round(share * len(ids)))]
    return frame[np.isin(users, chosen)]


def numbered(column: pd.Series) -> tuple[Array, Array]:
    """Each value as its place among the different values in rising order, (n,) int64, and those values."""
    codes, values = pd.factorize(column, sort=True)
    return codes.astype(np.int64), np.asarray(values, dtype=np.int64 if column.dtype == np.int64 else object)


def renumbered(codes: Array, values: Array) -> tuple[Array, Array]:
    """The same as :func:`numbered` for codes that no longer use all of ``values``."""
    used = np.bincount(codes, minlength=len(values)) > 0
    return (np.cumsum(used) - 1)[codes], values[used]


def one_per_pair(pairs: Array, times: Array | None) -> Array:
    """Indices of the earliest interaction of every pair, of equally early ones the first; (distinct pairs,) int64."""
    order = np.argsort(pairs, kind="stable") if times is None else np.lexsort((times, pairs))
    earliest: Array = order[np.unique(pairs[order], return_index=True)[1]]
    return earliest


def among_top(items: Array, count: int) -> Array:
    """Which pairs are of the ``count`` items that occur most, equal ones in rising order; (n,) bool."""
    popularity = np.bincount(items)
    top = np.argsort(-popularity, kind="stable")[:count]
    kept: Array = np.isin(items, top)
    return kept


def active(users: Array, least: int) -> Array:
    """Which pairs are of users with ``least`` or more; (n,) bool."""
    kept: Array = (np.bincount(users) >= least)[users]
    return kept


def dense(users: Array, count: int, total: int, seed: int) -> tuple[Array, int]:
    """Which pairs are of ``count`` random users so active that they have ``total`` pairs, (n,) bool, and that activity.

    The least number of pairs of a user is found by bisection: the larger it is, the more pairs the users have.

    Raises:
        ValueError: no least number gives so many users with ``total`` pairs, within 1 %.

    Source: the small set of SinkhornCF, whose density a uniform sample of users and items does not have.
    """
    activity = np.bincount(users)
    low, high = 1, int(np.sort(activity)[-count]) if count <= len(activity) else 0

    def drawn(least: int) -> Array:
        able = np.flatnonzero(activity >= least)
        return np.random.RandomState(seed).permutation(able)[:count]

    while low < high:
        least = (low + high) // 2
        low, high = (low, least) if activity[drawn(least)].sum() >= total else (least + 1, high)
    chosen = drawn(low) if high else users[:0]
    if abs(int(activity[chosen].sum()) - total) > total / 100:
        raise ValueError(f"no {count:,} users have {total:,} interactions together: those with {low} or more have "
                         f"{int(activity[chosen].sum()):,}; change data.sample_users or data.sample_interactions")
    kept: Array = np.isin(users, chosen)
    return kept, low


def in_core(users: Array, items: Array, core: int) -> Array:
    """The largest set of pairs in which every user and every item that occurs has at least ``core``; (n,) bool.

    Found by dropping light users and items together until none is left; the order of dropping does not matter.
    """
    kept = np.ones(len(users), dtype=bool)
    while True:
        still = kept & (np.bincount(users[kept], minlength=users.max(initial=0) + 1)[users] >= core)
        still &= np.bincount(items[kept], minlength=items.max(initial=0) + 1)[items] >= core
        if still.sum() == kept.sum():
            return kept
        kept = still
