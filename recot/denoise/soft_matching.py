"""SCLRec's denoiser: hard in-batch targets give way to an entropic matching of users and items."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from recot.batches.pairs import Pairs
from recot.data.interactions import Interactions
from recot.denoise.base import Denoiser
from recot.denoise.smoothing import powers
from recot.nn import ranks
from recot.nn.contracts import Network
from recot.nn.similarity import unit
from recot.nn.table import follow
from recot.ot.sinkhorn import SAFE_EXPONENT, scale_kernel, sinkhorn
from recot.request.limits import check

Popularity = Literal["softmax_count", "softmax_freq", "log", "marginal"]


def pair_similarity(a: Tensor, c: Tensor, pi: Tensor, gamma_u: float, gamma_v: float, gamma_p: float) -> Tensor:
    """How plausible it is that user ``x_i`` takes item ``y_j``, for all pairs of a batch (SCLRec, Eq. 2).

    ``S_ij = gamma_u a_i.a_j + gamma_v c_i.c_j + gamma_p pi_j + a_i.c_j``: x_i resembles x_j, who did take y_j; y_j
    resembles y_i, which x_i did take; y_j is popular; x_i is close to y_j.

    Args:
        a: (n, d) unit vectors of the users, row i for pair i.
        c: (n, d) unit vectors of the items, row j for pair j.
        pi: (n,) popularity of the item of each pair.

    Returns:
        (n, n), rows are users and columns items. Not symmetric.
    """
    left = torch.cat([a, c], 1)  # (n, 2d): three products in one
    rows = ranks.rows(len(a))
    right = rows.gathered(torch.cat([gamma_u * a + c, gamma_v * c], 1))  # (n, 2d)
    return torch.addmm(gamma_p * pi[None, :], left, right.T)  # (n, n)


def without(pairs: Tensor, forbidden: Tensor | None, value: float, first: int) -> Tensor:
    """``pairs`` (n, n), overwritten with ``value`` where they are ``forbidden`` (n, n); for None on the diagonal that
    begins in column ``first``.
    """
    if forbidden is None:
        pairs.diagonal(first).fill_(value)  # a mask would cost as much as the exponentials
        return pairs
    return pairs.masked_fill_(forbidden, value)


def matching(similarity: Tensor, forbidden: Tensor | None, masses: Tensor, lam: float, n_iters: int, fast: bool,
             first: int = 0) -> Tensor:
    """The soft matching M' of Eqs. 3 to 5: entropic transport on ``similarity / lam`` without the forbidden pairs.

    Args:
        similarity: (n, n) float32 or float64; overwritten.
        forbidden: (n, n) bool, pairs that get no mass: the diagonal at least, and nothing else for None.
        masses: (n,) column masses with mean one; every row has mass one.
        lam: entropy weight.
        n_iters: rounds; 0 is the row softmax over the pairs allowed.
        fast: scale the kernel itself; the caller vouches for ``SAFE_EXPONENT``.
        first: the column of the first row's own pair, where the rows are those of one of several processes.

    Returns:
        (n, n); rows sum to one, or to zero where every pair is forbidden; columns approximately to ``masses``.
    """
    log_kernel, ones = similarity.div_(lam), masses.new_ones(len(similarity))
    if fast:
        return scale_kernel(without(log_kernel.exp_(), forbidden, 0.0, first), ones, masses, n_iters, ranks.summed)
    return sinkhorn(without(log_kernel, forbidden, -torch.inf, first), ones.log(), masses.log(), n_iters,
                    ranks.log_summed).exp()


class SoftMatching(Denoiser):
    """Replaces the target "its own item" by ``alpha * own + (1 - alpha) * matching`` (SCLRec, Eqs. 2 to 6).

    The matching is a transport plan between the users and the items of the batch, on the similarities of a teacher
    that follows the network as an exponential moving average. No gradient runs through it.

    Args:
        alpha: share of the hard target; 1 is plain InfoNCE.
        gamma_u, gamma_v, gamma_p: weights of user similarity, item similarity and popularity in Eq. 2.
        lam: the entropy weight lambda of Eq. 3.
        n_iters: Sinkhorn rounds; 0 leaves out the transport and keeps a row softmax.
        popularity: how pi is made of the training counts c. ``softmax_count`` and ``softmax_freq`` are the softmax
            over the batch of c and of c / sum(c); ``log`` is log c / log max c; ``marginal`` leaves Eq. 2 without pi
            and gives column j the mass c_j ** kappa over its batch mean.
        kappa: exponent of ``marginal``.
        momentum: m of the teacher, ``teacher = m * teacher + (1 - m) * network`` after each step.
        ramp: let the momentum start at 0.1 and rise as ``min(m, (1 + t) / (10 + t))`` with the step t.
        warmup_epochs: epochs of plain InfoNCE before the first matching.

    Raises:
        ValueError: a parameter is out of its range; at :meth:`bind`, ``kappa`` takes a share of ``marginal`` to zero or
            out of float32.

    Source: Zhuang and Zhang, SCLRec. Defaults are those of its Table 3.

    Departures: pi_j is constant down a column, and Sinkhorn's column scaling divides it out again. After 6 rounds it
    moves a row of the plan by next to nothing (``popularity_effect`` in the history of a run says how much), so the 5 %
    that Table 3 loses without it cannot come from Eqs. 2 to 4 as written; ``marginal`` is a form that can act. What
    n_iters = 0 means is not said; the row softmax is what keeps Eq. 5's row sums. Eq. 3 omits its constraints; rows are
    the exact side here, because Eq. 6 reads them as distributions. ``log``, ``marginal``, ``ramp`` and
    ``warmup_epochs`` are not in the paper.
    """

    objectives = ("InfoNCE",)
    counts: Tensor
    shared = True

    def __init__(self, alpha: float = 0.9, gamma_u: float = 1.0, gamma_v: float = 1.0, gamma_p: float = 0.1,
                 lam: float = 0.1, n_iters: int = 6, popularity: Popularity = "softmax_count", kappa: float = 0.5,
                 momentum: float = 0.9, ramp: bool = False, warmup_epochs: int = 0):
        super().__init__()
        check("denoiser", ("alpha", alpha, 0 <= alpha <= 1, "is a share of the target; give 0 to 1"),
              ("lam", lam, lam > 0, "is the weight of the entropy, which divides; give more than 0, for example 0.1"),
              ("n_iters", n_iters, n_iters >= 0, "is a number of rounds; give 0 or more"),
              ("momentum", momentum, 0 <= momentum <= 1, "is a share; give 0 to 1"),
              ("warmup_epochs", warmup_epochs, warmup_epochs >= 0, "is a number of epochs; give 0 or more"))
        self.alpha, self.gammas, self.lam, self.n_iters = alpha, (gamma_u, gamma_v, gamma_p), lam, n_iters
        self.popularity, self.kappa = popularity, kappa
        self.momentum, self.ramp, self.warmup_epochs = momentum, ramp, warmup_epochs
        # Unit vectors and a pi in 0..1 bound the entries of S, so the choice needs no look at the data.
        self.fast = (abs(gamma_u) + abs(gamma_v) + 1 + abs(gamma_p)) / lam <= SAFE_EXPONENT
        self.step, self.epoch = 0, 0
        self.effect: Tensor | None = None

    def bind(self, network: Network, train: Interactions) -> None:
        """Copy the network as teacher and note the popularity of the items."""
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("counts", train.popularity.float(), persistent=False)
        if self.popularity == "marginal":
            powers(self.counts, self.kappa)

    @torch.no_grad()
    def before(self, batch: Pairs, network: Network) -> Pairs:
        """The batch with soft targets, (n, n) float32."""
        if self.epoch < self.warmup_epochs:
            return batch
        with torch.autocast(batch.items.device.type, enabled=False):  # exp(30) overflows float16
            a = unit(self.teacher.users(batch.query).float())  # (n, d)
            c = unit(self.teacher.items(batch.items).float())  # (n, d)
            rows = ranks.rows(len(a))
            pi, masses = self.item_popularity(rows.gathered(batch.items))
            forbidden = None if batch.observed is None else rows.diagonal(a.device) | batch.observed
            similarity = pair_similarity(a, c, pi, *self.gammas)
            plan = matching(similarity, forbidden, masses, self.lam, self.n_iters, self.fast, rows.first)
            if batch.observed is not None or rows.all == 1:
                # a row whose every pair is forbidden keeps its own
                plan.diagonal(rows.first).add_(1 - plan.sum(1).round())
            if self.effect is None:
                self.effect = self.popularity_effect(plan, a, c, forbidden, masses, rows.first)
            return replace(batch, targets=self.mixed(plan, batch.targets, rows.first))

    def item_popularity(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """pi of Eq. 2 and the column masses of a batch; (n,) each, for ``items`` (n,)."""
        counts = self.counts[items]  # (n,)
        nothing, ones = torch.zeros_like(counts), torch.ones_like(counts)
        if self.popularity == "marginal":
            mass = counts**self.kappa  # (n,)
            return nothing, mass / mass.mean()
        if self.popularity == "log":
            # All counts may be one, whose log is 0.
            return counts.log() / self.counts.max().clamp(min=2).log(), ones
        scale = 1.0 if self.popularity == "softmax_count" else 1 / self.counts.sum()
        return (counts * scale).softmax(0), ones

    def popularity_effect(self, plan: Tensor, a: Tensor, c: Tensor, forbidden: Tensor | None, masses: Tensor,
                          first: int) -> Tensor:
        """Scalar: mean L1 change of a row of ``plan`` when popularity is left out, so that nobody tunes a dead knob."""
        nothing = torch.zeros_like(masses)
        bare = pair_similarity(a, c, nothing, self.gammas[0], self.gammas[1], 0.0)
        other = matching(bare, forbidden, torch.ones_like(masses), self.lam, self.n_iters, self.fast, first)
        return ranks.average((plan - other).abs().sum(1))

    def mixed(self, plan: Tensor, hard: Tensor | None, first: int) -> Tensor:
        """``alpha * hard + (1 - alpha) * plan``, (n, n); the identity, from column ``first`` on, where ``hard`` is
        None. Overwrites ``plan``.
        """
        plan.mul_(1 - self.alpha)
        if hard is None:
            plan.diagonal(first).add_(self.alpha)
            return plan
        return plan.add_(hard, alpha=self.alpha)

    @torch.no_grad()
    def after_step(self, network: Network) -> None:
        """Move the teacher towards the network."""
        momentum = min(self.momentum, (1 + self.step) / (10 + self.step)) if self.ramp else self.momentum
        follow(self.teacher, network, 1 - momentum)
        self.step += 1

    def after_epoch(self) -> None:
        """Count the epoch."""
        self.epoch += 1

    def report(self) -> dict[str, float]:
        """``popularity_effect`` of the first batch since the last report."""
        effect, self.effect = self.effect, None
        return {} if effect is None else {"popularity_effect": float(effect)}

    def get_extra_state(self) -> dict[str, int]:
        """The counters a checkpoint has to hold."""
        return {"step": self.step, "epoch": self.epoch}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Put the counters back."""
        self.step, self.epoch = state["step"], state["epoch"]
