"""The papers' metrics, as functions of the ranks of a user's held-out items.

Items of equal score share a block of positions. Every metric is its exact expected value over all orders of such ties
(McSherry and Najork, ECIR 2008), so a single target has the middle of its block as expected rank, half a hit is counted
where half of the block lies inside the cut, and a constant scorer gets what chance gives it, never more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from recot.data.interactions import Ragged

BEYOND = 1 << 31  # stands for "somewhere below the cut"; above any catalogue, and times any number of users fits int64


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
    """Hits in the first k over all targets, ``hits / |T|``; (b,). SCLRec, ProRec, MStein.

    Of one user with targets at positions 1 and 4, and another whose only target shares positions 2 and 3:

    >>> ranks = Ranks(Ragged.from_lists([[1, 4], [2]]), torch.tensor([1, 1, 2]))
    >>> recall(ranks, 2)  # one of two; half a hit
    tensor([0.5000, 0.5000], dtype=torch.float64)
    >>> recall(ranks, 3)
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    return ranks.total(ranks.gain(flat(k))) / ranks.lengths


def recall_capped(ranks: Ranks, k: int) -> Tensor:
    """Hits in the first k over the most there can be, ``hits / min(k, |T|)``; (b,). SinkhornCF (Liang et al., 2018).

    >>> ranks = Ranks(Ragged.from_lists([[1, 4, 9]]), torch.ones(3, dtype=torch.int64))
    >>> recall(ranks, 2), recall_capped(ranks, 2)  # one hit of three targets, of two places
    (tensor([0.3333], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))
    """
    return ranks.total(ranks.gain(flat(k))) / ranks.lengths.clamp(max=k)


def ndcg(ranks: Ranks, k: int) -> Tensor:
    """Discounted gain over that of an ideal list of ``min(k, |T|)`` targets; (b,). SCLRec, SinkhornCF, MStein, UCLR.

    >>> ndcg(Ranks(Ragged.from_lists([[1], [3]]), torch.ones(2, dtype=torch.int64)), 5)  # 1 / log2(1 + 3) is a half
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
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
