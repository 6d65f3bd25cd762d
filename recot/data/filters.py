"""Which raw interactions remain, and the numbers their users and items get; plain arrays, one entry per interaction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all files; ids are integers only where they are in every file, otherwise strings as written."""
    if len(frames) == 1:
        return frames[0]
    frames = [frame.astype({kind: object for kind in frame if isinstance(frame[kind].dtype, pd.CategoricalDtype)})
              for frame in frames]
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
    """Each value as its place among the different values in rising order, (n,) int64, and those values.

    Whole numbers that lie close together are counted, and words that have numbers already are sorted once each.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        words = np.asarray(column.cat.categories, dtype=object)
        order = np.argsort(words)
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return renumbered(places[column.cat.codes], words[order])
    if column.dtype == np.int64 and len(column) and (low := column.min()) + len(column) > (high := column.max()):
        return renumbered(column.to_numpy() - low, np.arange(low, high + 1))
    codes, values = pd.factorize(column, sort=True)
    return codes.astype(np.int64), np.asarray(values, dtype=np.int64 if column.dtype == np.int64 else object)


def renumbered(codes: Array, values: Array) -> tuple[Array, Array]:
    """The same as :func:`numbered` for codes that no longer use all of ``values``."""
    used = np.bincount(codes, minlength=len(values)) > 0
    return (np.cumsum(used) - 1)[codes], values[used]


def one_per_pair(pairs: Array, times: Array | None) -> Array:
    """Indices of the earliest interaction of every pair, of equally early ones the first; (distinct pairs,) int64."""
    order = np.argsort(pairs)  # of equal pairs in any order, since this sort is vectorised and the stable one is not
    found = pairs[order]
    first = changes(found)  # (rows,) where another pair begins
    earliest: Array = order[first]
    if len(earliest) < len(order):
        again = ~first
        again[:-1] |= again[1:]  # (rows,) of pairs that occur more than once
        several = order[again]
        best = np.lexsort((several, *(() if times is None else (times[several],)), found[again]))
        earliest[again[first]] = several[best][first[again]]
    return earliest


def in_order(users: Array, items: Array, times: Array | None) -> Array:
    """Indices that sort different pairs by user, then time, if there is one, then item; (n,) int64 for (n,) int64 each.
    """
    pairs = users * (items.max(initial=0) + 1) + items
    if (pairs[1:] < pairs[:-1]).any():
        order = np.argsort(pairs)
        return order if times is None else order[in_order(users[order], items[order], times[order])]
    if times is None:
        return np.arange(len(users))
    start, stop = int(times.min(initial=0)), int(times.max(initial=0)) + 1
    if (int(users.max(initial=0)) + 1) * (stop - start) >= 2**63:
        return np.lexsort((times, users))
    keys = users * (stop - start)
    keys += times
    keys -= start
    return stable_order(keys)


def changes(values: Array) -> Array:
    """Which of (n,) values differ from the one before; the first does. (n,) bool."""
    found = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def stable_order(keys: Array) -> Array:
    """``np.argsort(keys, kind="stable")``, a third of its time: numpy's vectorised sort, and then equal keys by place.

    Args:
        keys: (n,) int64, fewer than 2**31.
    """
    order = np.argsort(keys)
    begins = changes(keys[order])
    equal = ~begins
    equal[:-1] |= equal[1:]  # (n,) of keys that occur more than once
    several = order[equal]
    order[equal] = several[np.argsort(np.cumsum(begins[equal]) * len(keys) + several)]
    return order


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
