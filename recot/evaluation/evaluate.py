"""Ranks of held-out items, and the loop that asks a recommender for its scores and grades them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recot.data.interactions import Ragged, is_in, sorted_order
from recot.data.questions import EvalSet, Query
from recot.evaluation.metrics import BEYOND, METRICS, Ranks, check_metrics, parse_metric
from recot.evaluation.recommender import Recommender

log = logging.getLogger(__name__)

GROUP = 32  # columns per group in the search near the top; 16 to 64 measure alike
CACHED = 64  # users whose scores stay in the cache of a CPU
MOST = 8192  # users at a time on another device; more are not faster
ROOM = 8  # times the size of their scores is what scoring and ranking users may take of the memory that is free


class Diverged(ValueError):
    """A loss, a weight or a score of a model is NaN or infinite; the same request ends so again."""


def users_at_once(device: torch.device, n_items: int) -> int:
    """Users scored together: as many as the cache of a CPU holds the scores of, or the free memory of a card."""
    if device.type == "cpu":
        return CACHED
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held by torch for later
    return min(MOST, max(1, free // (ROOM * 4 * n_items)))  # 4 bytes a score


def count(scores: Tensor, rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of its row are above each value, and how many equal it; two (nnz,) int64."""
    above, equal = torch.empty_like(rows), torch.empty_like(rows)
    step = max(1, len(scores) // 4)
    for part in (slice(start, start + step) for start in range(0, len(rows), step)):
        block, value = scores[rows[part]], values[part, None]  # (part, n), (part, 1)
        flags = torch.empty_like(block, dtype=torch.float32)  # float32 flags sum ten times faster than bool ones
        above[part] = torch.gt(block, value, out=flags).sum(1).long()
        equal[part] = torch.eq(block, value, out=flags).sum(1).long()
    return above, equal


def group_maxima(scores: Tensor) -> Tensor:
    """(b, groups) of (b, n): the largest score of columns ``j, j + groups, j + 2 groups, ...``, ``GROUP`` or fewer."""
    n = scores.shape[1]
    groups = -(-n // GROUP)
    whole = n - n % groups
    maxima = scores[:, :whole].view(len(scores), -1, groups).amax(1)  # (b, groups)
    maxima[:, : n - whole] = torch.maximum(maxima[:, : n - whole], scores[:, whole:])
    return maxima


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The values and columns of ``scores.topk(k, 1)``, (b, k) each, of (b, n) without NaN; on a CPU in less time.

    The best k + 1 columns lie in the k + 1 groups of the largest maxima. Only those are sorted, and rows where two of
    the best are equal are left to ``topk``, which has an order of its own for them.
    """
    n = scores.shape[1]
    groups = -(-n // GROUP)
    if scores.device.type != "cpu" or 4 * (k + 1) > groups:
        values, columns = scores.topk(k, 1)
        return values, columns
    scores = scores.contiguous()
    picked = group_maxima(scores).topk(k + 1, 1, sorted=False).indices  # (b, k + 1)
    columns = (picked[..., None] + torch.arange(0, n, groups)).flatten(1)  # (b, (k + 1) * GROUP)
    inside = scores.gather(1, columns.clamp(max=n - 1)).masked_fill_(columns >= n, -torch.inf)
    values, place = inside.topk(k + 1, 1)
    columns = columns.gather(1, place)[:, :k]
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().squeeze(1)  # (tied,)
    columns[tied] = scores[tied].topk(k, 1).indices
    return values[:, :k], columns


def count_near_top(scores: Tensor, rows: Tensor, values: Tensor, cutoff: int) -> tuple[Tensor, Tensor]:
    """As :func:`count`, but (``BEYOND``, 1) for a value that ``cutoff`` groups of columns outrank.

    Columns ``j, j + groups, j + 2 groups, ...`` form a group. A value below the maxima of ``cutoff`` groups is below
    ``cutoff`` items, so its place does not matter. Any other has everything above or equal to it in the groups whose
    maximum reaches it, usually fewer than ``cutoff``, and only those are opened.
    """
    n, maxima = scores.shape[1], group_maxima(scores)
    groups = maxima.shape[1]
    above, equal = torch.full_like(rows, BEYOND), torch.ones_like(rows)
    members = torch.arange(0, n, groups, device=rows.device)  # (GROUP,) offsets inside a group
    for start in range(0, len(rows), 4 * len(scores)):  # so that no array below is much larger than the scores
        part = slice(start, start + 4 * len(scores))
        block, value = maxima[rows[part]], values[part, None]  # (part, groups), (part, 1)
        flags = torch.empty_like(block, dtype=torch.float32)
        near = (torch.gt(block, value, out=flags).sum(1) < cutoff).nonzero().squeeze(1)  # (near,)
        place, opened = near + start, (block[near] >= value[near]).nonzero()  # (near,), (pairs, 2)
        if 4 * len(opened) > len(near) * groups:  # so many ties that counting everything is cheaper
            above[place], equal[place] = count(scores, rows[place], values[place])
            continue
        owner, columns = place[opened[:, 0]], opened[:, 1:] + members  # (pairs,), (pairs, GROUP)
        inside = scores.view(-1)[(rows[owner] * n)[:, None] + columns.clamp(max=n - 1)]
        inside.masked_fill_(columns >= n, -torch.inf)
        above[place], equal[place] = 0, 0
        above.index_add_(0, owner, (inside > values[owner, None]).sum(1))
        equal.index_add_(0, owner, (inside == values[owner, None]).sum(1))
    return above, equal


def ranks(scores: Tensor, targets: Ragged, seen: Ragged, cutoff: int | None) -> Ranks:
    """Ranks of the targets of b users, on their device.

    Args:
        scores: (b, n_items), finite, higher first; **overwritten**.
        targets: b rows of items.
        seen: b rows of items left out of the ranking.
        cutoff: ranks up to this one are exact and lower targets may be ``BEYOND``; None for exact ranks throughout.

    Raises:
        ValueError: a target is also in ``seen``.
    """
    rows, n_items = targets.rows, scores.shape[1]
    scores = scores.contiguous()
    scores[seen.rows, seen.values] = -torch.inf
    values = scores[rows, targets.values]  # (nnz,)
    masked = values.isneginf()
    if masked.any():
        place = int(masked.nonzero()[0])
        raise ValueError(f"{int(masked.sum())} targets are also in seen, first item {int(targets.values[place])} "
                         f"of row {int(rows[place])}; remove held-out items from the seen rows")
    if cutoff is None or cutoff * GROUP >= n_items:
        above, equal = count(scores, rows, values)
    else:
        above, equal = count_near_top(scores, rows, values, cutoff)
    return Ranks(Ragged(targets.offsets, above + 1), equal)


def check_questions(questions: EvalSet) -> int:
    """The largest item id in the questions.

    Raises:
        ValueError: there are no questions, one has no target, or a target is not exactly once among its candidates.
    """
    targets, candidates = questions.targets, questions.candidates
    if not len(questions) or not bool(targets.lengths.all()):
        empty = len(questions) - int(targets.lengths.count_nonzero())
        raise ValueError(f"{questions.name!r} holds {len(questions)} users, {empty} of them without a held-out item; "
                         "keep only users with targets, and at least one")
    if candidates is not None:
        absent = (candidates[targets.rows] == targets.values[:, None]).sum(1) != 1
        if absent.any():
            raise ValueError(f"{int(absent.sum())} targets of {questions.name!r} are not exactly once among their "
                             f"user's {candidates.shape[1]} candidates; put every target there once")
    ids = [targets.values, questions.seen.values, *([] if candidates is None else [candidates])]
    return max(int(part.max()) for part in ids if part.numel())


def check_scores(scores: Tensor, name: str, users: int, least: int, most: int | None = None) -> None:
    """Refuses scores that cannot be ranked.

    Args:
        users, least: how many rows there are, and how many columns at least. most: how many columns at most.

    Raises:
        ValueError: not floating point, or of another shape.
        Diverged: not finite.
    """
    if (not scores.is_floating_point() or scores.dim() != 2 or len(scores) != users or scores.shape[1] < least
            or (most is not None and scores.shape[1] > most)):
        wanted = f"{users} users and items up to {least - 1}; return float32 of shape ({users}, n_items)"
        if most is not None:
            wanted = f"{least} items of {users} users each; return float32 of shape ({users}, {least})"
        raise ValueError(f"{name}.score{'' if most is None else '_of'} returned {scores.dtype} of shape "
                         f"{tuple(scores.shape)} for {wanted}")
    if not scores.sum().isfinite():  # one cheap pass; a finite sum proves finite terms, and a sum may overflow
        broken = int((~scores.isfinite()).sum())
        if broken:
            raise Diverged(f"{name}.score returned {broken} non-finite scores out of {scores.numel()}; lower the "
                           "learning rate or find the division by zero, and leave masking seen items to evaluate")


def ask(recommender: Recommender, questions: EvalSet, part: slice, cutoff: int | None,
        largest: int) -> tuple[Ranks, int]:
    """Ranks of the questions in ``part`` and the number of items they were ranked among.

    The scores die on return: were they still held while the next are computed, the two would not fit the cache.

    Raises:
        ValueError: see :func:`check_scores` and :func:`ranks`.
        Diverged: see :func:`check_scores`.
    """
    query, targets = questions.query.slice(part.start, part.stop), questions.targets.slice(part.start, part.stop)
    seen, among = questions.seen.slice(part.start, part.stop), questions.among
    if questions.candidates is not None:
        candidates = questions.candidates[part]  # (b, c)
        scores = recommender.score_of(query, candidates)
        check_scores(scores, recommender.name, len(query), candidates.shape[1], candidates.shape[1])
        place = (candidates[targets.rows] == targets.values[:, None]).int().argmax(1)  # (nnz,) columns
        targets, seen, cutoff = replace(targets, values=place), places(seen, candidates, largest + 1), None
    elif among is not None:
        scores = recommender.score_of(query, among)
        check_scores(scores, recommender.name, len(query), among.stop - among.start, among.stop - among.start)
        targets, seen = (replace(rows, values=rows.values - among.start) for rows in (targets, seen))
    else:
        scores = recommender.score(query)
        check_scores(scores, recommender.name, len(query), largest + 1)
    found = ranks(scores, targets.to(scores.device), seen.to(scores.device), cutoff)
    return found, scores.shape[1]


def places(rows: Ragged, candidates: Tensor, n_items: int) -> Ragged:
    """In which columns of ``candidates``, (b, c), the items of b rows stand; those that stand in none are left out."""
    wanted = torch.arange(len(rows), device=candidates.device)[:, None] * n_items + candidates  # (b, c)
    keys = rows.rows * n_items + rows.values
    found = is_in(wanted, keys[sorted_order(keys)]).nonzero()  # (hits, 2)
    return Ragged.from_pairs(found[:, 0], found[:, 1], len(rows))


@torch.no_grad()
def evaluate(recommender: Recommender, questions: EvalSet, metrics: Sequence[str],
             chunk: int | None = None) -> dict[str, Tensor]:
    """Asks the questions, some users at a time, and grades the answers.

    Args:
        recommender: already fitted.
        questions: on the device of the scores or on the CPU.
        metrics: names such as ``"recall@20"``; a cut larger than the ranked list is clipped, with one notice logged.
        chunk: users per call of ``score``; None for :func:`users_at_once`.

    Returns:
        For each name (b,) float64 on the CPU, per user, in the order of ``questions.query``. Memory beyond the result
        is a few times ``chunk`` x n_items, never users x items.

    Raises:
        ValueError: unknown metric, unusable questions, or scores of a wrong shape.
        Diverged: a score is not finite.
    """
    check_metrics(metrics)
    parsed = {name: parse_metric(name) for name in metrics}
    cuts = [cut for _, cut in parsed.values()]
    largest = check_questions(questions)
    cutoff = None if None in cuts else max(cut for cut in cuts if cut is not None)
    found, n_ranked = recommender.ranked(questions) or compared(recommender, questions, cutoff, largest, chunk)
    if any(cut is not None and cut > n_ranked for cut in cuts):
        log.warning("%s ask for more than the %d ranked items of %r; cut at %d", ", ".join(
            name for name, (_, cut) in parsed.items() if cut is not None and cut > n_ranked), n_ranked,
            questions.name, n_ranked)
    return {name: METRICS[base](found, n_ranked if cut is None else min(cut, n_ranked))
            for name, (base, cut) in parsed.items()}


def compared(recommender: Recommender, questions: EvalSet, cutoff: int | None, largest: int,
             chunk: int | None) -> tuple[Ranks, int]:
    """Ranks of all targets, on the CPU, and the number of items they stand among, from scores of all items.

    Args:
        largest: see :func:`check_questions`. cutoff: see :func:`ranks`. chunk: see :func:`evaluate`.

    Raises:
        ValueError: see :func:`ask`.
        Diverged: see :func:`ask`.
    """
    first, tied, n_ranked = [], [], 0
    width = largest + 1 if questions.candidates is None else questions.candidates.shape[1]
    chunk = chunk or users_at_once(questions.query.users.device, width)
    with recommender.resting():
        for start in range(0, len(questions), chunk):
            part = slice(start, min(start + chunk, len(questions)))
            found, n_ranked = ask(recommender, questions, part, cutoff, largest)
            first.append(found.first.values)
            tied.append(found.tied)
    return Ranks(Ragged(questions.targets.offsets.cpu(), torch.cat(first).cpu()), torch.cat(tied).cpu()), n_ranked


@torch.no_grad()
def recommended(recommender: Recommender, query: Query, seen: Ragged, k: int,
                chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """The best items of each question, best first.

    Args:
        recommender: already fitted. query: b questions, on its device. seen: b rows of items that are left out.
        k: length of a list, at most the number of items.
        chunk: users per call of ``score``; None for :func:`users_at_once`.

    Returns:
        (b, k) int64 items and their scores, both on the CPU; the score is ``-inf`` where nothing else is left to show.

    Raises:
        ValueError: scores of a wrong shape.
        Diverged: a score is not finite.
    """
    largest = int(seen.values.max()) if len(seen.values) else 0
    chunk = chunk or users_at_once(query.users.device, largest + 1)
    items, scores = [], []
    with recommender.resting():
        for start in range(0, len(query), chunk):
            stop = min(start + chunk, len(query))
            found = recommender.score(query.slice(start, stop))
            check_scores(found, recommender.name, stop - start, largest + 1)
            known = seen.slice(start, stop).to(found.device)
            found[known.rows, known.values] = -torch.inf
            values, columns = best(found, k)  # (chunk, k) each
            items.append(columns)
            scores.append(values)
    return torch.cat(items).cpu(), torch.cat(scores).cpu()
