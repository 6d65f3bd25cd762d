"""ProRec: what a transport plan between users and items finds implausible counts for less."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.denoise.base import Relabelling
from recot.nn.contracts import Scorer
from recot.ot.exact import exact_plan
from recot.ot.relaxed import Blocks, column_potential, column_sums, relaxed_rows
from recot.request.limits import check

CELLS = 2**20  # of the plan that are computed at a time; a block of float64 then stays in the cache of a CPU
CELLS_DEVICE = 2**26  # and on a device that idles between small blocks

SCORE_MAPS = {
    "identity": lambda scores: scores,
    "sigmoid": torch.sigmoid,
    "softmax_rowmax": lambda scores: (scores - scores.amax(1, keepdim=True)).exp(),
}


def descending(values: Tensor) -> Tensor:
    """Rows of (b, n) sorted, largest first; numpy sorts float64 some ten times faster than torch on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1)).flip(1)
    return values.sort(1, descending=True).values


def split_rank(values: Tensor) -> Tensor:
    """Where a falling row breaks in two: the rank whose two parts are closest to their means (ProRec, Eqs. 20 and 21).

    The squared error of both parts is a constant less ``F_k ** 2 n / (k (n - k))``, where F_k is the sum of the first k
    values after their mean was taken off. Off the mean, because the sums of a long row differ in digits that float32,
    and a row that is not centred, do not have.

    Args:
        values: (b, n) float64, falling along a row.

    Returns:
        (b,) int64 in 1..n-1, the last rank of the upper part, the first of equal ones; 1 where n is 1.
    """
    n = values.shape[1]
    if n == 1:
        return torch.ones(len(values), dtype=torch.int64, device=values.device)
    above = (values - values.mean(1, keepdim=True)).cumsum(1)[:, :-1]  # (b, n - 1)
    rank = torch.arange(1, n, dtype=values.dtype, device=values.device)
    return above.square_().div_(rank * (n - rank)).argmax(1) + 1


class ProRec(Relabelling):
    """Weighs observed pairs by a personalised threshold on a partially relaxed transport plan (ProRec).

    The scores s of a fitted model are the negative costs of moving users (mass: their share of the pairs) to items
    (mass: likewise). The plan's rows, normalised to rho, are ranked and split in two by least squares at rank kappa; an
    observed pair with ``rho < t``, the value at that rank, is noise. It gets the weight ``lam + (1 - lam) * r`` with
    ``r = sigmoid(beta * (rho - t))``, and the model is fitted again. Unobserved pairs stay unobserved.

    Time: two passes over users x items and a sort of every row. Memory: a few blocks of ``CELLS``, and vectors of the
    users, the items and the pairs; never users x items.

    Args:
        gamma: entropy weight; the kernel is ``exp(s / gamma)``.
        lam: least share of a weight that stays; 1 changes nothing.
        beta: steepness of r.
        plan: ``relaxed`` is the larger of the two one-sided plans; ``row`` keeps the users' side alone; ``sinkhorn``
            satisfies both marginals; ``exact`` is transport without entropy, of ``exact_users`` users at a time.
        rank: one rank for all users in place of kappa (the ROT of Table III), or None.
        gap_scale: what ``rho - t`` is multiplied by: 1 (``none``), the number of items (``n``), or one over the largest
            rho of the user (``row_max``).
        score_map: how scores become the s of a plan; identity for models of X itself, ``sigmoid`` for logits of pairs,
            ``softmax_rowmax`` for logits of a row.
        origin: the weights that are scaled: ``original`` ones in every round, or those of the ``previous`` round.
        rounds: how often to relabel and fit again.
        n_iters, tolerance: of ``sinkhorn``: rounds at most, and the error of the rows at which to stop.
        exact_users: of ``exact``: users in a block, whose marginals are uniform.

    Raises:
        ValueError: a parameter is out of its range.

    Source: ProRec, Partial Relaxed Optimal Transport for Denoised Recommendation (2022), Eqs. 4 to 23, Algorithm 1.

    Departures: Algorithm 1 names p and q the other way round than Eqs. 4 to 17; p is the items' here. The means of Eq.
    21 are printed as mean square errors. How many rounds are run is not said; the training times of Table III leave
    room for about one. Users without a pair have no mass and take no part. A user whose rho are all equal has no split,
    and nothing of theirs is noise. Proposition 2, that relabelling lowers the loss, does not hold: a target of 1
    predicted as .95 and relabelled .8 goes from an error of .0025 to one of .0225. Which threshold the EMD
    and Sinkhorn rows of Table III use is not said; our table gives them one ``rank``. Its exact transport cannot have
    been solved in the time printed for Yahoo; here it is solved by blocks.
    """

    weighs = True
    shared = True

    def __init__(self, gamma: float = 0.1, lam: float = 0.5, beta: float = 20.0,
                 plan: Literal["relaxed", "row", "sinkhorn", "exact"] = "relaxed", rank: int | None = None,
                 gap_scale: Literal["none", "n", "row_max"] = "none",
                 score_map: Literal["identity", "sigmoid", "softmax_rowmax"] = "identity",
                 origin: Literal["original", "previous"] = "original", rounds: int = 1, n_iters: int = 50,
                 tolerance: float = 1e-3, exact_users: int = 1000):
        super().__init__(rounds)
        check("denoiser", ("gamma", gamma, gamma > 0, "is a temperature, which divides; give more than 0, as 0.1"),
              ("lam", lam, 0 <= lam <= 1, "is the share of a weight that stays; give 0 to 1"),
              ("beta", beta, beta >= 0, "would trust noise more; give 0 or more, for example 20"),
              ("rank", rank, rank is None or rank >= 1, "is a rank; give 1 or more, or null for one per user"),
              ("n_iters", n_iters, n_iters >= 1, "is a number of rounds; give 1 or more"),
              ("tolerance", tolerance, tolerance >= 0, "is an error at which to stop; give 0 or more"),
              ("exact_users", exact_users, exact_users >= 1, "is a number of users; give 1 or more"))
        self.gamma, self.lam, self.beta, self.plan, self.rank = gamma, lam, beta, plan, rank
        self.gap_scale, self.map, self.origin = gap_scale, SCORE_MAPS[score_map], origin
        self.n_iters, self.tolerance, self.exact_users = n_iters, tolerance, exact_users

    @torch.no_grad()
    def relabel(self, original: Interactions, current: Interactions, network: Scorer) -> Interactions:
        """The training pairs with the weights of the next fit.

        Args:
            original: what was observed. current: the same pairs with the weights of the last fit.
            network: what was fitted; its ``score`` is all that is asked of it.

        Raises:
            ValueError: there are no pairs, a score is not finite, or ``gamma`` is too small to divide by.
        """
        if not len(original):
            raise ValueError("denoiser=prorec has no training pair to weigh; check the split")
        matching = self.matching(original, network)
        share = torch.sigmoid(self.beta * matching["gap"])  # (nnz,)
        base = original if self.origin == "original" else current
        weights = (self.lam + (1 - self.lam) * share).float() * base.weights
        self.marks = {name: matching[name] for name in ("rho", "noise")}
        self.told = summary(original, current, matching, weights)
        return original.reweighted(weights)

    def matching(self, original: Interactions, network: Scorer) -> dict[str, Tensor]:
        """How the plan sees each observed pair.

        Returns:
            ``rho``, ``gap`` (``rho - t``, scaled) and ``noise`` (bool), (nnz,) each in the order of ``original``; and
            ``rank``, (users with pairs,) int64.
        """
        users = original.activity.nonzero().flatten()
        kernels = partial(self.kernels, original, users, network)
        total = math.log(len(original))
        log_q = original.activity[users].double().log() - total  # (m,)
        log_p = original.popularity.double().log() - total  # (n,)
        columns = self.columns(kernels, log_q, log_p)
        # Made beforehand: what a block left behind would lie in the middle of the memory that the next one needs.
        found = {name: torch.empty(len(original), dtype=dtype, device=users.device) for name, dtype in (
            ("rho", torch.float64), ("gap", torch.float64), ("noise", torch.bool))}
        found["rank"] = torch.empty_like(users)
        done = 0
        for place, kernel in kernels():
            history = original.by_user.take(users[place])
            rho = self.distribution(kernel, log_q[place], log_p, columns)  # (b, n)
            ordered = descending(rho)
            rank = split_rank(ordered) if self.rank is None else torch.full_like(place, min(self.rank, rho.shape[1]))
            threshold = ordered.gather(1, rank[:, None] - 1).squeeze(1)  # (b,)
            own = rho[history.rows, history.values]
            gap = own - threshold[history.rows]
            scale = {"none": 1.0, "n": float(rho.shape[1]), "row_max": 1 / ordered[history.rows, 0]}[self.gap_scale]
            pairs = slice(done, done + len(own))
            # A mapping of numbers and tensors holds mere objects to a type checker.
            found["rho"][pairs], found["gap"][pairs], found["noise"][pairs] = (
                own, gap * scale, gap < 0)  # type: ignore[operator]
            found["rank"][place] = rank
            done += len(own)
        return found

    def kernels(self, original: Interactions, users: Tensor, network: Scorer) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the ``users`` (m,): places (b,) of some, and their log kernel ``s / gamma``, (b, n) float64."""
        cells = CELLS if users.device.type == "cpu" else CELLS_DEVICE
        size = self.exact_users if self.plan == "exact" else max(1, cells // original.n_items)
        for place in torch.arange(len(users), device=users.device).split(size):
            who = users[place]
            scores = network.score(Query(who, original.by_user.take(who)))  # (b, n)
            kernel = self.map(scores.double()) / self.gamma  # type: ignore[no-untyped-call]  # of three, two are lambdas
            if not bool(kernel.sum().isfinite()) and not bool(kernel.isfinite().all()):
                cause = f"denoiser.gamma = {self.gamma} is too small to divide by" if bool(
                    scores.isfinite().all()) else f"{type(network).__name__} gave scores that are not finite"
                raise ValueError(f"ProRec cannot match users to items: {cause}; "
                                 "raise gamma, or fit the model with more regularisation")
            yield place, kernel

    def columns(self, kernels: Blocks, log_q: Tensor, log_p: Tensor) -> Tensor:
        """What the passes before the last one find out about the columns, (n,)."""
        if self.plan == "relaxed":
            return column_sums(kernels, log_p)
        if self.plan == "sinkhorn":
            return column_potential(kernels, log_q, log_p, self.n_iters, self.tolerance)
        return torch.zeros_like(log_p)

    def distribution(self, kernel: Tensor, log_q: Tensor, log_p: Tensor, columns: Tensor) -> Tensor:
        """(b, n) rows of the plan with sum one; ``kernel`` may be overwritten."""
        if self.plan == "exact":
            plan = exact_plan(-kernel)
            return plan / plan.sum(1, keepdim=True)
        if self.plan == "relaxed":
            kernel = relaxed_rows(kernel, log_q, log_p, columns)
        elif self.plan == "sinkhorn":
            kernel = kernel.add_(columns)
        return kernel.softmax(1)


def summary(original: Interactions, current: Interactions, matching: dict[str, Tensor],
            weights: Tensor) -> dict[str, float]:
    """What a relabelling did: scalars.

    ``flagged`` is the share of pairs taken for noise, ``weight`` the mean weight, ``rank`` the median kappa, ``change``
    the relative change of the weights. Where noise is known, ``hit_ratio`` is the share of it that is flagged,
    ``false_alarms`` the share of the other pairs that are, and ``precision`` the share of known noise in what is.
    """
    noise, before = matching["noise"], current.weights.norm()
    change = (weights - current.weights).norm() / torch.where(before > 0, before, 1.0)  # all weights may be zero
    told = {"flagged": float(noise.double().mean()), "weight": float(weights.mean()),
            "rank": float(matching["rank"].double().median()), "change": float(change)}
    if original.noisy is not None and 0 < int(original.noisy.sum()) < len(original):
        known = original.noisy
        told |= {"hit_ratio": float(noise[known].double().mean()), "false_alarms": float(noise[~known].double().mean())}
        if bool(noise.any()):
            told["precision"] = float(known[noise].double().mean())
    return told
