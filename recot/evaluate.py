"""Ranks of held-out items, the papers' metrics as functions of those ranks, and the loop that asks a recommender.

Items of equal score share a block of positions. Every metric is its exact expected value over all orders of such ties
(McSherry and Najork, ECIR 2008), so a single target has the middle of its block as expected rank, half a hit is counted
where half of the block lies inside the cut, and a constant scorer gets what chance gives it, never more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol, Self

import torch
from torch import Tensor

from recot.data.interactions import Ragged
from recot.data.split import EvalSet, Query, Split

log = logging.getLogger(__name__)

BEYOND = 1 << 31  # stands for "somewhere below the cut"; above any catalogue, and times any number of users fits int64
GROUP = 32  # columns per group in the search near the top; 16 to 64 measure alike


class Recommender(Protocol):
    """What can be trained and asked; classes fit this protocol by shape alone and do not inherit from it."""

    def fit(self, split: Split) -> Self:
        """Learns from ``split.train``, may select by ``split.valid``, and forgets any earlier fit."""
        ...

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, higher first, finite; a fresh tensor that the caller may overwrite."""
        ...


@dataclass(frozen=True)
class Ranks:
    """Where the targets stand in each user's ranking, best position 1.

    Attributes:
        first: b rows; the best position each target can take: one more than the number of items above it, or
            ``BEYOND`` where all that is known is that it lies below the cut.
        tied: (nnz,) int64, how many items have the target's score, itself included; 1 below the cut.
    """

    first: Ragged
    tied: Tensor

    @property
    def lengths(self) -> Tensor:
        """(b,) int64, the number of targets ``|T|``."""
        return self.first.lengths

    def total(self, values: Tensor) -> Tensor:
        """(b,) float64, sums of ``values``, (nnz,), over the targets of each user."""
        return torch.zeros(len(self.first), dtype=torch.float64).index_add_(0, self.first.rows, values.double())

    def gain(self, weights: Tensor) -> Tensor:
        """(nnz,) float64, each target's expected weight when position p weighs ``weights[p - 1]``, and 0 below them."""
        table = torch.cat([weights.new_zeros(1), weights.cumsum(0)])  # (k + 1,)
        before = (self.first.values - 1).clamp(max=len(weights))
        last = (self.first.values - 1 + self.tied).clamp(max=len(weights))
        return (table[last] - table[before]) / self.tied


def flat(k: int) -> Tensor:
    """(k,) float64, every position weighs one: a hit."""
    return torch.ones(k, dtype=torch.float64)


def reciprocal(k: int) -> Tensor:
    """(k,) float64, position p weighs 1 / p."""
    return torch.arange(1, k + 1, dtype=torch.float64).reciprocal()


def discount(k: int) -> Tensor:
    """(k,) float64, position p weighs 1 / log2(p + 1)."""
    return torch.arange(2, k + 2, dtype=torch.float64).log2().reciprocal()


def recall(ranks: Ranks, k: int) -> Tensor:
    """Hits in the first k over all targets, ``hits / |T|``; (b,). SCLRec, ProRec, MStein."""
    return ranks.total(ranks.gain(flat(k))) / ranks.lengths


def recall_capped(ranks: Ranks, k: int) -> Tensor:
    """Hits in the first k over the most there can be, ``hits / min(k, |T|)``; (b,). SinkhornCF (Liang et al., 2018)."""
    return ranks.total(ranks.gain(flat(k))) / ranks.lengths.clamp(max=k)


def ndcg(ranks: Ranks, k: int) -> Tensor:
    """Discounted gain over that of an ideal list of ``min(k, |T|)`` targets; (b,). SCLRec, SinkhornCF, MStein, UCLR."""
    return ranks.total(ranks.gain(discount(k))) / discount(k).cumsum(0)[ranks.lengths.clamp(max=k) - 1]


def ndcg_full(ranks: Ranks, k: int) -> Tensor:
    """Discounted gain over that of an ideal list of all ``|T|`` targets, even beyond k; (b,). ProRec."""
    ideal = discount(int(ranks.lengths.max())).cumsum(0)[ranks.lengths - 1]
    return ranks.total(ranks.gain(discount(k))) / ideal


def average_precision(ranks: Ranks, k: int) -> Tensor:
    """Precision at every hit in the first k, summed, over ``min(k, |T|)``; (b,). The usual MAP.

    A target at position p of its block meets the targets above the block, itself, and its share of the block's other
    targets: one in every ``(tied - 1) / (mates - 1)`` of the positions before p.
    """
    first, rows = ranks.first.values, ranks.first.rows
    _, block, counts = torch.unique(rows * (2 * BEYOND) + first, return_inverse=True, return_counts=True)
    mates = counts[block]
    above = (counts.cumsum(0) - counts)[block] - ranks.first.offsets[rows]
    share = (mates - 1).double() / (ranks.tied - 1).clamp(min=1)
    precision = (above + 1 - share * first) * ranks.gain(reciprocal(k)) + share * ranks.gain(flat(k))
    return ranks.total(precision) / ranks.lengths.clamp(max=k)


def map_running(ranks: Ranks, k: int) -> Tensor:
    """Precision averaged over all of the first k positions, hit or not; (b,). ProRec's "MAP"."""
    precisions = [ranks.total(ranks.gain(flat(p))) / p for p in range(1, k + 1)]
    return torch.stack(precisions).mean(0)


def best_target(ranks: Ranks, weights: Tensor) -> Tensor:
    """(b,) float64, the expected ``weights[p - 1]`` where p is the position of the user's best target; 0 below them."""
    first = torch.zeros_like(ranks.lengths).scatter_reduce(
        0, ranks.first.rows, ranks.first.values, "amin", include_self=False)  # (b,)
    leads = ranks.first.values == first[ranks.first.rows]
    mates = ranks.total(leads)
    tied = ranks.total(ranks.tied * leads) / mates
    padded = torch.cat([weights, weights.new_zeros(1)])
    depth = torch.minimum(tied - mates + 1, (len(weights) + 1 - first).clamp(min=0))
    total, missed = torch.zeros_like(tied), torch.ones_like(tied)
    for step in range(int(depth.max())):  # positions of the block, one after the other, until one holds a target
        here = missed * mates / (tied - step).clamp(min=1)
        total += here * padded[(first - 1 + step).clamp(max=len(weights))]
        missed -= here
    return total


def hr(ranks: Ranks, k: int) -> Tensor:
    """Whether any target is in the first k; (b,). UCLR."""
    return best_target(ranks, flat(k))


def mrr(ranks: Ranks, k: int) -> Tensor:
    """One over the position of the best target, 0 below k; (b,). MStein and UCLR."""
    return best_target(ranks, reciprocal(k))


METRICS: dict[str, Callable[[Ranks, int], Tensor]] = {
    "recall": recall, "recall_capped": recall_capped, "ndcg": ndcg, "ndcg_full": ndcg_full,
    "map": average_precision, "map_running": map_running, "hr": hr, "mrr": mrr,
}


def parse_metric(name: str) -> tuple[str, int | None]:
    """``"recall@20"`` as ("recall", 20), and ``"mrr"``, the one metric that needs no cut, as ("mrr", None).

    Raises:
        ValueError: the metric is unknown, or its cut is missing or not a positive number.
    """
    base, at, cut = name.partition("@")
    if base not in METRICS:
        nearest = get_close_matches(base, METRICS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no metric is called {base!r}; did you mean {nearest!r}? Known: {', '.join(METRICS)}")
    if base == "mrr" and not at:
        return base, None
    if not (cut.isdecimal() and int(cut) > 0):
        raise ValueError(f"{name!r} has no usable cut; write a whole number from 1 up, for example {base}@20")
    return base, int(cut)


def check_metrics(names: Sequence[str]) -> None:
    """Refuses a list of metric names that :func:`evaluate` could not compute.

    Raises:
        ValueError: the list is empty, or see :func:`parse_metric`.
    """
    if not names:
        raise ValueError(f"no metric was asked for; name at least one of {', '.join(METRICS)}, for example recall@20")
    for name in names:
        parse_metric(name)


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


def count_near_top(scores: Tensor, rows: Tensor, values: Tensor, cutoff: int) -> tuple[Tensor, Tensor]:
    """As :func:`count`, but (``BEYOND``, 1) for a value that ``cutoff`` groups of columns outrank.

    Columns ``j, j + groups, j + 2 groups, ...`` form a group. A value below the maxima of ``cutoff`` groups is below
    ``cutoff`` items, so its place does not matter. Any other has everything above or equal to it in the groups whose
    maximum reaches it, usually fewer than ``cutoff``, and only those are opened.
    """
    n = scores.shape[1]
    groups = -(-n // GROUP)
    whole = n - n % groups
    maxima = scores[:, :whole].view(len(scores), -1, groups).amax(1)  # (b, groups)
    maxima[:, : n - whole] = torch.maximum(maxima[:, : n - whole], scores[:, whole:])
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


def ranks(scores: Tensor, targets: Ragged, seen: Ragged, cutoff: int | None, candidates: Tensor | None = None) -> Ranks:
    """Ranks of the targets of b users, on the CPU.

    Args:
        scores: (b, n_items), finite, higher first; **overwritten**.
        targets: b rows of items.
        seen: b rows of items left out of the ranking.
        cutoff: ranks up to this one are exact and lower targets may be ``BEYOND``; None for exact ranks throughout.
        candidates: (b, c) int64, the items to rank, targets included; None for all.

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
    if candidates is not None:
        above, equal = count(scores.gather(1, candidates), rows, values)
    elif cutoff is None or cutoff * GROUP >= n_items:
        above, equal = count(scores, rows, values)
    else:
        above, equal = count_near_top(scores, rows, values, cutoff)
    return Ranks(Ragged(targets.offsets.cpu(), above.cpu() + 1), equal.cpu())


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


def check_scores(scores: Tensor, name: str, users: int, largest: int) -> None:
    """Refuses scores that cannot be ranked.

    Raises:
        ValueError: not floating point, not (users, n_items) with item ``largest`` inside, or not finite.
    """
    if not scores.is_floating_point() or scores.dim() != 2 or len(scores) != users or scores.shape[1] <= largest:
        raise ValueError(f"{name}.score returned {scores.dtype} of shape {tuple(scores.shape)} for {users} users and "
                         f"items up to {largest}; return float32 of shape ({users}, n_items)")
    if not scores.sum().isfinite():  # one cheap pass; a finite sum proves finite terms, and a sum may overflow
        broken = int((~scores.isfinite()).sum())
        if broken:
            raise ValueError(f"{name}.score returned {broken} non-finite scores out of {scores.numel()}; lower the "
                             "learning rate or find the division by zero, and leave masking seen items to evaluate")


def ask(recommender: Recommender, questions: EvalSet, part: slice, cutoff: int | None,
        largest: int) -> tuple[Ranks, int]:
    """Ranks of the questions in ``part`` and the number of items they were ranked among.

    The scores die on return: were they still held while the next are computed, the two would not fit the cache.

    Raises:
        ValueError: see :func:`check_scores` and :func:`ranks`.
    """
    query = questions.query.slice(part.start, part.stop)
    scores = recommender.score(query)
    check_scores(scores, type(recommender).__name__, len(query), largest)
    targets = questions.targets.slice(part.start, part.stop).to(scores.device)
    seen = questions.seen.slice(part.start, part.stop).to(scores.device)
    candidates = None if questions.candidates is None else questions.candidates[part].to(scores.device)
    found = ranks(scores, targets, seen, cutoff, candidates)
    return found, scores.shape[1] if candidates is None else candidates.shape[1]


@torch.no_grad()
def evaluate(recommender: Recommender, questions: EvalSet, metrics: Sequence[str],
             chunk: int = 64) -> dict[str, Tensor]:
    """Asks the questions, ``chunk`` users at a time, and grades the answers.

    Args:
        recommender: already fitted.
        questions: on the device of the scores or on the CPU.
        metrics: names such as ``"recall@20"``; a cut larger than the ranked list is clipped, with one notice logged.
        chunk: users per call of ``score``; 64 keep the scores in a CPU's cache, a GPU wants thousands.

    Returns:
        For each name (b,) float64 on the CPU, per user, in the order of ``questions.query``. Memory beyond the result
        is a few times ``chunk`` x n_items, never users x items.

    Raises:
        ValueError: unknown metric, unusable questions, or scores of a wrong shape or not finite.
    """
    check_metrics(metrics)
    parsed = {name: parse_metric(name) for name in metrics}
    cuts = [cut for _, cut in parsed.values()]
    cutoff = None if None in cuts else max(cut for cut in cuts if cut is not None)
    largest, first, tied, n_ranked = check_questions(questions), [], [], 0
    for start in range(0, len(questions), chunk):
        found, n_ranked = ask(recommender, questions, slice(start, min(start + chunk, len(questions))), cutoff, largest)
        first.append(found.first.values)
        tied.append(found.tied)
    if any(cut is not None and cut > n_ranked for cut in cuts):
        log.warning("%s ask for more than the %d ranked items of %r; cut at %d", ", ".join(
            name for name, (_, cut) in parsed.items() if cut is not None and cut > n_ranked), n_ranked,
            questions.name, n_ranked)
    found = Ranks(Ragged(questions.targets.offsets.cpu(), torch.cat(first)), torch.cat(tied))
    return {name: METRICS[base](found, n_ranked if cut is None else min(cut, n_ranked))
            for name, (base, cut) in parsed.items()}
