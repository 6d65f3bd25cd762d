"""Noise of known place: what is added to, or taken from, the training pairs of a split.

Validation and test targets are never touched and never drawn. The same split and seed give the same noise, and the
noise of a small ratio is part of the noise of a larger one, so that curves over the ratio compare like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged, is_in, sorted_order
from recot.data.questions import EvalSet, Query, Split
from recot.data.split import with_train

TRIES = 64                                            # draws for one pair before its user is taken for full


def none(split: Split) -> Split:
    """The split as it is."""
    return split


def add(split: Split, ratio: float, noise_seed: int = 0, per: Literal["user", "pair"] = "user",
        seen: Literal["clean", "all"] = "clean") -> Split:
    """Add unobserved pairs to the training set.

    ``round(ratio * n)`` pairs for n training pairs, each drawn uniformly from the items outside its user's training,
    validation and test items, and marked in ``train.noisy``; earlier marks stay. They train and are part of the
    histories. Where pairs carry times, an added pair takes the time of a random training pair of its user. All weights
    are one. Memory grows with the pairs, not with users x items.

    Args:
        split: on the CPU; users without training pairs receive nothing.
        ratio: added pairs per training pair, at least 0.
        noise_seed: another seed, other pairs.
        per: "user" draws the users in proportion to their training pairs, which keeps the profile of activity; "pair"
            draws uniformly over the free (user, item) cells, so that light users get relatively more.
        seen: which training pairs are left out of the ranking. "clean" ranks the same items at every ratio. "all"
            leaves out the added pairs as well: noise avoids the answers, so that every added pair takes a wrong item
            out of the ranking and raises the metrics (popularity on a matrix of density .25, recall@10: .34 without
            noise, .45 and .67 with ratio 1 and 2; with "clean" .33 and .30).

    Raises:
        ValueError: ``ratio``, ``per`` or ``seen`` is not as above, or fewer cells are free than pairs are asked for.

    Source: SCLRec, Fig. 2, after the contaminated training sets of SGL (Wu et al., 2021).
    Departures: the paper does not say who receives the pairs; "user" is our choice.
    """
    if per not in ("user", "pair"):
        raise ValueError(f"per says how users are drawn, got {per!r}; use 'user' or 'pair'")
    _check_seen(seen)
    rng, clock = _generators(noise_seed)
    users, items = unobserved_pairs(split.train, _taken(split), _count(split, ratio), per, rng)
    return with_train(split, _changed(split.train, split.train.users < 0, users, items, clock), seen)


def flip(split: Split, ratio: float, noise_seed: int = 0, mode: Literal["inject", "swap", "delete"] = "inject",
         seen: Literal["clean", "all"] = "clean") -> Split:
    """Flip entries of the training matrix.

    ``round(ratio * n)`` flips for n training pairs. "inject" turns zeros into ones and equals :func:`add` per user.
    "delete" turns ones into zeros: the pairs leave train and histories, and can leave a user without training pairs.
    "swap" does both for the same user, which keeps each user's number of pairs; users without a free item are passed
    over. Only pairs not marked as noise are deleted, and added ones are marked as in :func:`add`.

    Args:
        split: on the CPU.
        ratio: flips per training pair, at least 0 and below 1.
        noise_seed: another seed, other flips.
        mode: which entries are flipped.
        seen: which training pairs are left out of the ranking, see :func:`add`. "clean" leaves out those of before the
            flips, also the deleted ones.

    Raises:
        ValueError: ``ratio``, ``mode`` or ``seen`` is not as above, or fewer pairs can be flipped than are asked for.

    Source: ProRec, Fig. 2a.
    Departures: the paper flips the labels of random ground-truth records, and then speaks of added noise; "inject" is
    our reading. Turning low ratings into positives is another, and left out: a split carries no ratings.
    """
    if not ratio < 1:
        raise ValueError(f"ratio is a share of the training pairs to flip, got {ratio}; use a number below 1")
    if mode == "inject":
        return add(split, ratio, noise_seed, seen=seen)
    if mode not in ("swap", "delete"):
        raise ValueError(f"mode says which entries are flipped, got {mode!r}; use 'inject', 'swap' or 'delete'")
    _check_seen(seen)
    train, count = split.train, _count(split, ratio)
    rng, clock = _generators(noise_seed)
    order = torch.arange(len(train)) if train.noisy is None else (~train.noisy).nonzero().flatten()
    order = order[torch.randperm(len(order), generator=rng)]
    items = order.new_empty(0)
    if mode == "swap":
        items, _ = unobserved_items(train.users[order], _taken(split), train.n_items, rng)
        order, items = order[items >= 0], items[items >= 0][:count]
    if len(order) < count:
        raise ValueError(f"{count} pairs are to be flipped and {len(order)} of {len(train)} can be: the others are "
                         f"marked as noise or belong to users without a free item; lower noise.ratio from {ratio}")
    gone = torch.zeros(len(train), dtype=torch.bool)
    gone[order[:count]] = True
    return with_train(split, _changed(train, gone, train.users[order[:len(items)]], items, clock), seen)


def insert(split: Split, ratios: Sequence[float], noise_seed: int = 0, replacement: bool = True) -> Split:
    """Ask the test questions again with foreign items in the histories; nothing that trains or validates changes.

    Of a user with n known items and a target, ``floor(ratio * (n + 1))`` of the n + 1 places before an item are drawn,
    and an item the user never had goes into each different one; that before the target makes it the latest item known.
    These items are not left out of the ranking. The places of a ratio are among those of a larger one.

    Args:
        split: on the CPU.
        ratios: each gives one more set of questions, called ``test_<ratio>``, behind the ones as they are.
        noise_seed: another seed, other places and items.
        replacement: draw places with replacement, so that fewer are different; without, exactly that many.

    Raises:
        ValueError: a ratio is negative, or above 1 without replacement, or occurs twice.

    Source: MStein, Fig. 2, with the draws of its released program.
    """
    most = float("inf") if replacement else 1.0
    if len(set(ratios)) < len(ratios) or not all(0 <= ratio <= most for ratio in ratios):
        raise ValueError(f"noise.ratios = {list(ratios)} are shares of the places of a history; give different numbers "
                         "of at least 0, and at most 1 with noise.replacement=false")
    sets = []
    for part in split.test:
        places = part.query.history.lengths + 1  # (b,)
        rows, rank, place, items = _foreign(part, places, max(ratios, default=0.0), noise_seed, replacement,
                                            split.train.n_items)
        for ratio in ratios:
            kept = rank < (places.double() * ratio + 1e-9).long()[rows]
            sets.append(replace(part, query=Query(part.query.users, _with_items(
                part.query.history, rows[kept], place[kept], items[kept])), name=f"{part.name}_{ratio:g}"))
    return replace(split, test=(*split.test, *sets))


def _foreign(part: EvalSet, places: Tensor, ratio: float, noise_seed: int, replacement: bool,
             n_items: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Question, number of the draw, place and item of each insertion for ``ratio``; (k,) int64 each, places differ."""
    rng = torch.Generator().manual_seed(noise_seed)
    draws = Ragged.from_lengths((places.double() * ratio + 1e-9).long(), places[:0])
    rows = torch.arange(len(places)).repeat_interleave(draws.lengths)
    rank = torch.arange(len(rows)) - draws.offsets[rows]
    if replacement:
        place = (torch.rand(len(rows), generator=rng, dtype=torch.float64) * places[rows]).long()
    else:
        whole = Ragged.from_lengths(places, places[:0])
        owner = torch.arange(len(places)).repeat_interleave(places)
        shuffled = (owner + torch.rand(len(owner), generator=rng, dtype=torch.float64)).argsort() - whole.offsets[owner]
        place = shuffled[whole.offsets[rows] + rank]
    cell = rows * int(places.max()) + place  # the first draw of a place counts
    order = sorted_order(cell)
    first = order[torch.cat([cell.new_ones(1, dtype=torch.bool), cell[order][1:] != cell[order][:-1]])[:len(order)]]
    first = first.sort().values
    rows, rank, place = rows[first], rank[first], place[first]
    known = torch.cat([part.query.history.rows * n_items + part.query.history.values,
                       part.targets.rows * n_items + part.targets.values])
    items, _ = unobserved_items(rows, known[sorted_order(known)], n_items, rng)
    found = items >= 0
    return rows[found], rank[found], place[found], items[found]


def _with_items(history: Ragged, rows: Tensor, place: Tensor, items: Tensor) -> Ragged:
    """``history`` with an item before each (row, place)."""
    width = 2 * (int(history.lengths.max()) + 2)
    key = torch.cat([history.rows * width + 2 * history.place + 1, rows * width + 2 * place])
    order = sorted_order(key)
    return Ragged.from_pairs((key // width)[order], torch.cat([history.values, items])[order], len(history))


def unobserved_pairs(train: Interactions, taken: Tensor, count: int, per: Literal["user", "pair"],
                     rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first ``count`` pairs of an endless stream of distinct pairs outside ``taken``.

    Args:
        train: gives the users; see :func:`add` for ``per``.
        taken: (m,) int64 in rising order, the keys ``user * n_items + item`` that may not be drawn.
        count: how many.
        rng: the pairs depend on its state and on ``train`` and ``taken``, not on ``count``.

    Returns:
        Users and items, (count,) int64 each.

    Raises:
        ValueError: the users have fewer than ``count`` free cells.
    """
    chunk = max(4096, len(train) // 4)                # not a function of count: the stream must not depend on it
    users, items = train.users.new_empty(0), train.users.new_empty(0)
    while len(users) < count:
        free = (train.n_items - torch.bincount(taken // train.n_items, minlength=train.n_users)) * (train.activity > 0)
        if len(users) + int(free.sum()) < count:
            raise ValueError(f"{count} unobserved pairs are asked for and the users have "
                             f"{len(users) + int(free.sum())} free cells; lower the share of noise")
        if per == "user":
            pool = train.users[free[train.users] > 0]
            drawn = pool[torch.randint(len(pool), (chunk,), generator=rng)]
        else:
            cell = torch.randint(int(free.sum()), (chunk,), generator=rng)
            drawn = torch.searchsorted(free.cumsum(0), cell, right=True)
        new, taken = unobserved_items(drawn, taken, train.n_items, rng)
        users, items = torch.cat([users, drawn[new >= 0]]), torch.cat([items, new[new >= 0]])
    return users[:count], items[:count]


def unobserved_items(users: Tensor, taken: Tensor, n_items: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each user in turn an item such that the pair is not taken and occurs once.

    Args:
        users: (k,) int64, in any order, repeated at will.
        taken: (m,) int64 in rising order, keys ``user * n_items + item``.
        n_items: items are drawn uniformly from 0..n_items - 1 and drawn again while taken, up to 64 times.
        rng: source of randomness.

    Returns:
        Items, (k,) int64, -1 where no free one was found; and ``taken`` with the new keys, in rising order.
    """
    items = torch.full_like(users, -1)
    pending = torch.arange(len(users))
    for _ in range(TRIES):
        if not len(pending):
            break
        drawn = torch.randint(n_items, (len(pending),), generator=rng)
        keys = users[pending] * n_items + drawn
        order = sorted_order(keys)
        first = torch.ones_like(keys, dtype=torch.bool)
        first[order[1:]] = keys[order[1:]] != keys[order[:-1]]
        new = first & ~is_in(keys, taken)
        items[pending[new]] = drawn[new]
        merged = torch.cat([taken, keys[new]])
        taken = merged[sorted_order(merged)]
        pending = pending[~new]
    return items, taken


def _check_seen(seen: str) -> None:
    if seen not in ("clean", "all"):
        raise ValueError(f"seen says which training pairs are left out of the ranking, got {seen!r}; use 'clean' or "
                         "'all'")


def _generators(noise_seed: int) -> tuple[torch.Generator, torch.Generator]:
    """One source for the pairs and one for their times: how many pairs are drawn must not move the times."""
    rng = torch.Generator().manual_seed(noise_seed)
    return rng, torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=rng)))


def _count(split: Split, ratio: float) -> int:
    if not 0 <= ratio < float("inf"):
        raise ValueError(f"ratio is noise per training pair, got {ratio}; use a number of at least 0, such as 0.1")
    return round(ratio * len(split.train))


def _taken(split: Split) -> Tensor:
    """Keys of all training, validation and test pairs, in rising order."""
    keys = [split.train.keys]
    for part in (split.valid, *split.test):
        users = part.query.users[part.targets.rows]
        keys.append((users * split.train.n_items + part.targets.values)[users >= 0])
    merged = torch.cat(keys)
    return merged[sorted_order(merged)]


def _changed(train: Interactions, gone: Tensor, users: Tensor, items: Tensor,
             clock: torch.Generator) -> Interactions:
    """``train`` without the pairs ``gone``, (n,) bool, and with the given ones marked as noise."""
    noisy = torch.zeros_like(train.users, dtype=torch.bool) if train.noisy is None else train.noisy
    times = None
    if train.times is not None:
        share = torch.rand(len(users), generator=clock, dtype=torch.float64)
        place = (share * train.activity[users]).long() + train.by_user.offsets[users]
        times = torch.cat([train.times[~gone], train.times[place]])
    return Interactions.from_pairs(
        torch.cat([train.users[~gone], users]), torch.cat([train.items[~gone], items]), train.n_users, train.n_items,
        times=times, noisy=torch.cat([noisy[~gone], torch.ones_like(users, dtype=torch.bool)]), domains=train.domains,
        ties=train.ties)
