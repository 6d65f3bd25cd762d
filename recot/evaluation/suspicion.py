"""How little a model believes in the pairs that it was trained on, or in pairs that were kept from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.evaluation.evaluate import check_scores, users_at_once
from recot.evaluation.recommender import Recommender


@dataclass(frozen=True)
class Belief:
    """Where a model ranks n pairs among the items that their users have not taken, (n,) each, on the CPU.

    Attributes:
        score: float64, of the pair. margin: float64, the score less the mean score of those items.
        above, equal: int64, how many of those items score higher, and how many the same.
        others: int64, how many of those items there are.
    """

    score: Tensor
    margin: Tensor
    above: Tensor
    equal: Tensor
    others: Tensor

    @property
    def share(self) -> Tensor:
        """(n,) float64, the share of those items that score above the pair, ties half; NaN where there is no item.

        It is 0 for a pair that the model believes in most, about one half for one that it knows nothing of, and 1 for
        one that it would show last.
        """
        return (self.above + self.equal / 2).double() / self.others


@torch.no_grad()
def belief_in(recommender: Recommender, known: Interactions, pairs: Interactions, taken: Ragged,
             chunk: int | None = None) -> Belief:
    """Ranks pairs among the items that their users have not taken; in data with domains, among those of their domain.

    Args:
        recommender: already fitted. known: what it may know: the histories of the users that it is asked about.
        pairs: n of the same users and items, on the CPU. taken: (n_users,) rows of items that a user is known to have
            taken, ``pairs`` among them.
        chunk: users per call of ``score``; None for as many as an evaluation asks about.

    Returns:
        In the order of ``pairs``. Memory beyond that is a few times ``chunk`` x n_items, never users x items.

    Raises:
        ValueError: scores of a wrong shape.
        Diverged: a score is not finite.
    """
    ranges = [domain.items for domain in pairs.domains] or [slice(0, pairs.n_items)]
    chunk, found = chunk or users_at_once(recommender.device, pairs.n_items), []
    for users in pairs.activity.nonzero().squeeze(1).split(chunk):  # rising, as the pairs are sorted
        scores = recommender.score(Query(users, known.by_user.take(users)).to(recommender.device))  # (chunk, n_items)
        check_scores(scores, recommender.name, len(users), pairs.n_items, pairs.n_items)
        found.append(placed(scores, pairs.by_user.take(users).to(scores.device),
                            taken.take(users).to(scores.device), ranges).cpu())
    score, margin, *counts = torch.cat([torch.zeros(5, 0, dtype=torch.float64), *found], 1)
    return Belief(score, margin, *(part.long() for part in counts))


def placed(scores: Tensor, judged: Ragged, taken: Ragged, ranges: list[slice]) -> Tensor:
    """The five numbers of :class:`Belief` of the items in ``judged``, b rows; (5, nnz) float64, which counts fit.

    Args:
        scores: (b, n_items), finite; **overwritten**. taken: b rows, ``judged`` among them. ranges: items ranked alone.
    """
    rows, items = judged.rows, judged.values
    values, given = scores[rows, items], scores[taken.rows, taken.values].double()  # (nnz,), (nnz',)
    found = scores.new_empty(5, len(items), dtype=torch.float64)
    found[0] = values
    totals = [scores[:, part].sum(1).double() for part in ranges]  # (b,) each
    scores[taken.rows, taken.values] = -torch.inf
    for part, total in zip(ranges, totals, strict=True):
        here = (items >= part.start) & (items < part.stop)
        inside = (taken.values >= part.start) & (taken.values < part.stop)
        row, of_taken, size = rows[here], taken.rows[inside], part.stop - part.start
        left = size - torch.bincount(of_taken, minlength=len(taken))  # (b,)
        mean = total.index_add(0, of_taken, given[inside], alpha=-1) / left
        ordered = keys(rising(scores[:, part]), torch.arange(len(taken), device=rows.device)[:, None]).flatten()
        wanted = keys(values[here], row)
        last = torch.searchsorted(ordered, wanted, right=True)  # all rows before, and what is not above in this one
        found[1, here] = values[here] - mean[row]
        found[2, here] = (size * (row + 1) - last).double()
        found[3, here] = (last - torch.searchsorted(ordered, wanted)).double()
        found[4, here] = left[row].double()
    return found


def rising(scores: Tensor) -> Tensor:
    """Each row of (b, n) in rising order. numpy sorts float32 several times faster than torch on a CPU."""
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.numpy(), axis=1))
    return scores.sort(1).values


def keys(scores: Tensor, rows: Tensor) -> Tensor:
    """Whole numbers that are in order of row, then of score, and equal where both are; int64 of the shape of both.

    So one search in rows that lie end to end finds the place of any number of scores of each. A search by row wants as
    many of every row, and most of them would be padding.
    """
    bits = (scores.float() + 0.0).contiguous().view(torch.int32)  # + 0.0 makes one of the two zeros
    return (rows << 32) + torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # a negative float has falling bits


def levels(share: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """How much is believed in n pairs, as (n,) int64 from 0, least first; equal pairs have one level.

    Args:
        share: (n,), see :class:`Belief`; NaN, where nothing is known, comes last. weights: (n,) of a denoiser, which
            come before the share; None where there are none.
    """
    outranked = np.asarray(share, dtype=np.float64)
    by_share = np.where(np.isnan(outranked), np.inf, -outranked)
    by_weight = np.zeros_like(by_share) if weights is None else np.asarray(weights)
    order = np.lexsort((by_share, by_weight))
    changes = (np.diff(by_share[order]) != 0) | (np.diff(by_weight[order]) != 0)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.concatenate([np.zeros(min(1, len(order)), dtype=np.int64), changes.cumsum()])
    return found


def precision(level: ArrayLike, noisy: ArrayLike, k: int) -> float:
    """The share of noisy pairs among the first k by their level, ties as expected over all their orders.

    >>> precision([0, 1, 1, 2], [True, True, False, False], 2)  # the first, and one of two of which one is noisy
    0.75
    """
    rank, bad = np.asarray(level), np.asarray(noisy, dtype=bool)
    order = np.argsort(rank, kind="stable")
    k = min(k, len(order))
    hits = np.concatenate([np.zeros(1), bad[order].cumsum()])  # (n + 1,)
    start, stop = (int(np.searchsorted(rank[order], rank[order][k - 1], side)) for side in ("left", "right"))
    return float((hits[start] + (k - start) * (hits[stop] - hits[start]) / (stop - start)) / k)
