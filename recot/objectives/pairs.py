"""Which scores of which batch enter which loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from recot.batches.pairs import Pairs, pairs
from recot.data.interactions import Interactions
from recot.nn import ranks
from recot.nn.contracts import BootstrapEncoder, Encoder
from recot.nn.precision import in_float32, single
from recot.nn.similarity import unit
from recot.objectives import losses
from recot.objectives.losses import weighted
from recot.request.limits import check

LEFT_OUT = -1e30
"""Logit of a pair that takes no part: its softmax is exactly zero, and zero times it is zero (unlike ``-inf``)."""


class BPR:
    """An observed item above a sampled unobserved one (BPRMF; Rendle et al. 2009; SCLRec Table 2, baseline).

    Args:
        batch_size: pairs per step.
        negatives: items drawn per pair, uniformly from what the user has not taken, anew every epoch.
        scope: whether negatives come from ``all`` items, or from the ``domain`` of the pair's item.
        penalty: weight of an L2 penalty on the free vectors the batch looks up (LightGCN: those before propagation).
        penalty_form: ``squared`` adds ``penalty / 2`` times the squared norms of a pair's vectors to its loss (the
            LightGCN authors); ``norm`` adds ``penalty / n`` times the unsquared norms of all users' vectors of the
            batch, of all its positive and of all its negative items' (RecBole).

    Raises:
        ValueError: ``penalty`` is negative, or there are no negatives.

    Departures: an epoch is every pair once. The LightGCN authors draw users uniformly and then one of their pairs,
    which over-weights light users; the library the SCLRec authors most likely used draws pairs, as here.
    """

    shared = True

    def __init__(self, batch_size: int = 1024, negatives: int = 1, penalty: float = 0.0,
                 penalty_form: Literal["squared", "norm"] = "squared", scope: Literal["all", "domain"] = "all"):
        check("loss", ("negatives", negatives, negatives >= 1, "leaves nothing to compare with; give 1 or more"),
              ("penalty", penalty, penalty >= 0, "would reward large vectors; give 0 or more"))
        self.batch_size, self.negatives = batch_size, negatives
        self.penalty, self.penalty_form, self.scope = penalty, penalty_form, scope

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Pairs]:
        """Pairs with sampled negatives."""
        return pairs(train, self.batch_size, rng, negatives=self.negatives, history=network.inductive,
                     scope=self.scope)

    def __call__(self, network: Encoder, batch: Pairs) -> tuple[Tensor, Pairs]:
        """(n,) loss."""
        items = torch.cat([batch.items[:, None], batch.negatives], 1)  # (n, 1 + k)
        scores = network.similarity(network.users(batch.query)[:, None], network.items(items)).squeeze(1)  # (n, 1 + k)
        loss = weighted(losses.bpr(scores[:, 0], scores[:, 1:]), batch.weights)
        return loss + self.shrinkage(*network.free(batch.query, items)) if self.penalty else loss, batch

    @in_float32
    def shrinkage(self, users: Tensor, items: Tensor) -> Tensor:
        """The penalty of ``users`` (n, d) and ``items`` (n, 1 + k, d): (n,), or the same for all rows."""
        if self.penalty_form == "squared":
            return self.penalty / 2 * (users.square().sum(-1) + items.square().sum((-1, -2)))
        return self.penalty / ranks.rows(len(users)).all * (
            ranks.norm(users) + ranks.norm(items[:, 0]) + ranks.norm(items[:, 1:]))


class InfoNCE:
    """Each observed item against the other items of its batch, by cosine (CLRec; Zhou et al. 2021; SCLRec Eq. 1).

    Items of a batch are drawn by popularity, so the denominator discounts popular items. A denoiser may replace the
    hard target "the item of this row" by ``batch.targets``.

    Args:
        batch_size: pairs per step, and one less is the number of negatives.
        tau: temperature. The paper states none and the result hangs on it: tune it.
        symmetric: average with the item-to-user loss.
        duplicates: what becomes of the other columns the row's user has taken in training (copies of the row's own
            item among them). ``none`` leaves them as negatives, as the paper does; ``mask`` takes them out of the
            softmax; ``multi_positive`` shares the target equally among them.

    Raises:
        ValueError: ``tau`` is not positive.

    Departures: one-sided, user to item, like Eq. 6. tau 0.2 is the default of the library the authors most likely
    used. ``symmetric`` and ``duplicates`` are not in the paper.
    """

    shared = True

    def __init__(self, batch_size: int = 1024, tau: float = 0.2, symmetric: bool = False,
                 duplicates: Literal["none", "mask", "multi_positive"] = "none"):
        check("loss", ("tau", tau, tau > 0, "is a temperature, which divides; give more than 0, as 0.05 to 1"))
        self.batch_size, self.tau, self.symmetric, self.duplicates = batch_size, tau, symmetric, duplicates

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Pairs]:
        """Pairs; ``observed`` and ``targets`` filled where ``duplicates`` needs them."""
        drawn = pairs(train, self.batch_size, rng, observed=self.duplicates != "none", history=network.inductive)
        if self.duplicates != "multi_positive":
            return drawn
        return (share_targets(batch) for batch in drawn)

    def __call__(self, network: Encoder, batch: Pairs) -> tuple[Tensor, Pairs]:
        """(n,) loss."""
        rows = ranks.rows(len(batch.items))
        logits = cosines(network.users(batch.query), rows.gathered(network.items(batch.items)), self.tau)  # (n, n)
        if self.duplicates == "mask" and batch.observed is not None:
            logits = logits.masked_fill(batch.observed & ~rows.diagonal(logits.device), LEFT_OUT)
        loss = cross_entropy(logits, batch.targets, rows.first)
        if self.symmetric:
            targets = None if batch.targets is None else rows.own(transposed(rows.gathered(batch.targets)))  # (n, n)
            loss = (loss + cross_entropy(rows.own(rows.gathered(logits).T), targets, rows.first)) / 2
        return weighted(loss, batch.weights), batch


class DirectAU:
    """Pulls the vectors of a pair together and spreads users and items over the sphere (DirectAU; Wang et al. 2022).

    Args:
        batch_size: pairs per step.
        gamma: weight of uniformity.

    Raises:
        ValueError: ``gamma`` is negative.

    Departures: none in the loss. The uniformity of a batch is one number, added to the loss of each of its rows, so
    that the mean over rows is the paper's loss. Items are ranked as ``model.score`` says; the authors train cosines
    and rank by the raw inner product.
    """

    shared = True

    def __init__(self, batch_size: int = 1024, gamma: float = 1.0):
        check("loss", ("gamma", gamma, gamma >= 0, "would reward a collapse; give 0 or more, the authors 0.01 to 10"))
        self.batch_size, self.gamma = batch_size, gamma

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Pairs]:
        """Pairs without negatives."""
        return pairs(train, self.batch_size, rng, history=network.inductive)

    def __call__(self, network: Encoder, batch: Pairs) -> tuple[Tensor, Pairs]:
        """(n,) loss."""
        z, v = unit(single(network.users(batch.query))), unit(single(network.items(batch.items)))  # (n, d) each
        spread = (losses.uniformity(z) + losses.uniformity(v)) / 2
        return weighted(losses.alignment(z, v), batch.weights) + self.gamma * spread, batch


class BCE:
    """Is this an observed pair? Each one and some sampled unobserved ones, by binary cross entropy.

    Args:
        batch_size: pairs per step.
        negatives: items drawn per pair, uniformly from what the user has not taken, anew every epoch.
        scope: whether negatives come from ``all`` items, or from the ``domain`` of the pair's item.

    Raises:
        ValueError: ``negatives`` is negative.

    Departures: T-CE's authors put pairs and negatives into one list, shuffle it and cut it, so that the share of
    positives varies from batch to batch; here it is ``1 / (1 + negatives)`` in each.
    """

    shared = True

    def __init__(self, batch_size: int = 1024, negatives: int = 1, scope: Literal["all", "domain"] = "all"):
        check("loss", ("negatives", negatives, negatives >= 0, "is a number of items; give 0 or more"))
        self.batch_size, self.negatives, self.scope = batch_size, negatives, scope

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Pairs]:
        """Pairs with sampled negatives."""
        return pairs(train, self.batch_size, rng, negatives=self.negatives, history=network.inductive,
                     scope=self.scope)

    def __call__(self, network: Encoder, batch: Pairs) -> tuple[Tensor, Pairs]:
        """(n, 1 + k) loss, the observed item first, and the batch with its labels. Weights scale the observed ones."""
        items = torch.cat([batch.items[:, None], batch.negatives], 1)  # (n, 1 + k)
        logits = single(network.similarity(network.users(batch.query)[:, None], network.items(items)).squeeze(1))
        labels = torch.zeros_like(logits)  # (n, 1 + k)
        labels[:, 0] = 1.0
        loss = losses.bce(logits, labels)
        if batch.weights is not None:
            loss = torch.cat([weighted(loss[:, 0], batch.weights)[:, None], loss[:, 1:]], 1)  # (n, 1 + k)
        return loss, replace(batch, labels=labels)


class Bootstrap:
    """The online vector of either side predicts the slow target of the other; no negatives (BUIR; Lee et al. 2021).

    Args:
        batch_size: pairs per step.

    Departures: none in the loss; for the networks see :class:`recot.networks.buir.BUIR`.
    """

    networks = ("BUIR",)
    shared = True

    def __init__(self, batch_size: int = 1024):
        self.batch_size = batch_size

    def batches(self, train: Interactions, rng: torch.Generator, network: BootstrapEncoder,
                epoch: int) -> Iterator[Pairs]:
        """Pairs without negatives."""
        return pairs(train, self.batch_size, rng, history=network.inductive)

    def __call__(self, network: BootstrapEncoder, batch: Pairs) -> tuple[Tensor, Pairs]:
        """(n,) loss in 0..8."""
        user, item = network.predictions(batch.query, batch.items)
        slow_user, slow_item = network.targets(batch.query, batch.items)
        return weighted(losses.bootstrap(user, slow_item) + losses.bootstrap(item, slow_user), batch.weights), batch


@in_float32
def cosines(z: Tensor, v: Tensor, tau: float) -> Tensor:
    """(n, n) cosines of users (n, d) and items (n, d), over the temperature."""
    return (unit(z) / tau) @ unit(v).T


def cross_entropy(logits: Tensor, targets: Tensor | None, first: int) -> Tensor:
    """(n,) against soft ``targets`` (n, n), or against the diagonal, from column ``first`` on, where there are none."""
    return losses.infonce(logits, first) if targets is None else losses.soft_infonce(logits, targets)


def transposed(targets: Tensor) -> Tensor:
    """``targets`` (n, n) seen from the items: transposed, rows brought back to sum one.

    An item that is the target of no row, not even of its own, keeps its own row.
    """
    total = targets.sum(0)  # (n,)
    found = targets.T / torch.where(total > 0, total, 1.0)[:, None]
    found.diagonal().add_((total <= 0).to(found.dtype))
    return found


def share_targets(batch: Pairs) -> Pairs:
    """The batch with targets shared equally among all columns its user has taken."""
    # Only batches that say what was observed are brought here; the diagonal always was.
    observed = batch.observed.float()  # type: ignore[union-attr]  # (n, n)
    return replace(batch, targets=observed / observed.sum(1, keepdim=True))
