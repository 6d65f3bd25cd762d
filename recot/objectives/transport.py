"""Objectives that move a user's items to what the network expects, at the cost of their unlikeness (SinkhornCF)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recot.batches.rows import Rows
from recot.data.interactions import Interactions, Ragged
from recot.nn import ranks
from recot.nn.contracts import Code, Encoder
from recot.nn.precision import single
from recot.objectives import losses
from recot.objectives.rows import Multinomial
from recot.ot import ragged
from recot.ot.cost import Cost, dense, listed
from recot.request.limits import check

Debias = Literal["none", "self"]
CELLS = {"cpu": 2**20}
"""Costs between items and columns that are held at a time, as a few tensors; with fewer, calls cost more than cells."""
CELLS_OF_A_CARD = 2**25


class Cosine:
    """The cost of two items is one minus the cosine of their columns of training pairs, shrunk where there are few.

    Args:
        shrink: added to the divisor of the cosine.
        dtype: of what is kept; it is computed with in float32.
        topn: keep each item's most similar ones only, so many, and call all others unlike; None keeps all.

    Raises:
        ValueError: ``shrink`` is negative, or ``topn`` below 1.

    Departures: SinkhornCF's code stores costs in 16 bits; here they are similarities, see :mod:`recot.ot.cost`.
    """

    def __init__(self, shrink: float = 0.0, dtype: Literal["float16", "float32"] = "float16", topn: int | None = None):
        check("loss.cost", ("shrink", shrink, shrink >= 0, "could divide by zero; give 0 or more, for example 50"),
              ("topn", topn, topn is None or topn >= 1, "leaves no item a similar one; give 1 or more, or null"))
        self.shrink, self.dtype, self.topn = shrink, dtype, topn

    def of(self, users: Tensor, items: Tensor, n_users: int, n_items: int) -> Cost:
        """The costs between all items from the pairs ``users`` and ``items``, (n,) int64 each, on their device."""
        kept = torch.float16 if self.dtype == "float16" else torch.float32
        if self.topn is None:
            return dense(users, items, n_users, n_items, self.shrink, kept)
        return listed(users, items, n_users, n_items, self.shrink, kept, self.topn)


def divergence(code: Code) -> Tensor | None:
    """(b,): how far the distribution of each code is from a standard Gaussian, or one draw's estimate of that.

    None where nothing is drawn.
    """
    if code.log_ratio is not None:
        return single(code.log_ratio)
    if code.mean is None or code.log_std is None:
        return None
    return losses.gaussian_kl(code.mean, code.log_std).sum(-1)


class Sinkhorn(Multinomial):
    """The transport of a user's items to the softmax over all items (SinkhornCF's replaced loss, Tables 3 to 5).

    Users have their items as row masses, each as much as its pair is trusted. The columns are all items, with the
    network's probabilities. The loss is what the entropic plan costs, and not the regularised value.

    Args:
        batch_size: users per step.
        eps: of the entropy; costs lie within 0..1. From ``1 / 40`` on there are no logs, and products of matrices.
        n_iters: rounds.
        debias: ``self`` gives ``2 OT(x, p) - OT(p, p)``, with the gradient of both arguments of the second.
        cost: of two items; None is the plain cosine.
        beta, anneal_steps: of the divergence, as in :class:`Multinomial`. A fraction is one of all steps of the run,
            and ``beta`` 0 leaves the divergence out.
        kl_scale: ``activity`` divides the weight of the divergence by the mean number of items of a user, as the
            likelihood that a divergence is weighed against is a sum over these and the transport is none.
        epochs: of the run, to know a fraction of its steps; it may end before.
        shuffle: draw users in another order each epoch.

    Raises:
        ValueError: a number is out of its range, or ``anneal_steps`` is a fraction and ``epochs`` is None.

    Source: SinkhornCF (WWW 2021), Sec. 2.4 and Algorithm 1.

    Departures: none in the plain form. At ``eps`` 1 its optimum is not the data but the one item that is most like all
    items of the user, since the plan is nearly the product of the masses and the cost nearly linear; ``debias=self``,
    which the authors' code has beside the likelihood, puts the optimum back at the data. Costs are of the training
    pairs, so that no answer enters them.
    """

    shared = True

    def __init__(self, batch_size: int = 200, eps: float = 1.0, n_iters: int = 5, debias: Debias = "none",
                 cost: Cosine | None = None, beta: float = 0.0, kl_scale: Literal["none", "activity"] = "none",
                 anneal_steps: int | float = 0, epochs: int | None = None, shuffle: bool = True):
        check("loss", ("eps", eps, eps > 0, "divides the costs; give more than 0, for example 1"),
              ("n_iters", n_iters, n_iters >= 1, "is a number of rounds; give 1 or more"),
              ("anneal_steps", anneal_steps, isinstance(anneal_steps, int) or epochs is not None or anneal_steps == 0,
               "is a fraction of all steps, and how many there are is not known; give a whole number of steps, or the "
               "epochs as well"))
        super().__init__(batch_size, beta, anneal_steps, shuffle=shuffle)  # type: ignore[arg-type]  # made one below
        self.eps, self.n_iters, self.debias = eps, n_iters, debias
        self.settings, self.fraction, self.epochs = cost or Cosine(), anneal_steps, epochs
        self.train_set: Interactions | None = None
        self.square: ragged.Shared | None = None
        self.epoch, self.kl_scale, self.divisor = 0, kl_scale, 1.0

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Rows]:
        """Users with their rows; the first call computes the costs of the items."""
        self.epoch = epoch
        if self.train_set is not train:
            self.meet(train)
        return super().batches(train, rng, network, epoch)

    def meet(self, train: Interactions) -> None:
        """Compute what follows from the training set: costs, and how many steps there will be."""
        self.train_set = train
        own = train.unfolded()
        self.cost = self.settings.of(own.users, own.items, own.n_users, own.n_items)
        self.square = None
        users = int((train.activity > 0).sum())
        self.divisor = len(train) / users if self.kl_scale == "activity" else 1.0
        if isinstance(self.fraction, float):
            self.anneal_steps = math.ceil(self.fraction * -(-users // self.batch_size) * (self.epochs or 0))

    def forward(self, network: Encoder, batch: Rows) -> tuple[Tensor, Rows]:
        """(b,) loss; counts the step."""
        code = network.encode(batch.query)
        log_p = single(network.similarity(code.vectors, network.items())).log_softmax(1)  # (b, n_items)
        return self.coded(self.over_all(batch, log_p), code), batch

    def coded(self, loss: Tensor, code: Code) -> Tensor:
        """``loss`` (b,) with the weighted divergence of the codes; counts the step."""
        found, weight = divergence(code), self.weight() / self.divisor
        self.step += 1
        return loss if found is None or not weight else loss + weight * found

    def over_all(self, batch: Rows, log_p: Tensor) -> Tensor:
        """(b,): the cost of transport to all items, of which ``log_p`` (b, n_items) are log probabilities."""
        b, n = log_p.shape
        if not ragged.is_linear(self.eps):
            return self.moved(batch.query.history, batch.weights, torch.arange(n, device=log_p.device).expand(b, n),
                              log_p)
        if self.square is None or self.square.cells.dtype != log_p.dtype:
            self.square = ragged.Shared(self.cost.whole().to(log_p.dtype), self.eps)
        cost = ragged.transport(self.square, batch.targets(n).to(log_p.dtype).log(), log_p, self.n_iters)
        return cost if self.debias == "none" else 2 * cost - ragged.transport(self.square, log_p, log_p, self.n_iters)

    def moved(self, history: Ragged, weights: Tensor | None, columns: Tensor, log_p: Tensor,
              gradient: ragged.Gradient = "exact") -> Tensor:
        """(b,): the cost of transport from each history to columns of its own.

        Args:
            history: b rows of items. weights: (nnz,) their masses, or None for ones. columns: (b, k) items.
            log_p: (b, k) the logs of their masses. gradient: see :func:`recot.ot.ragged.transport`.
        """
        own = columns.shape[1] if self.debias == "self" else 0
        found = []
        for start, stop in blocks(history, columns.shape[1], own):
            part, log_nu, items = history.slice(start, stop), log_p[start:stop], columns[start:stop]
            rows = ragged.Rows(part.offsets, part.rows, part.sizes.tolist())
            kernel = ragged.ragged(self.cost.gather(part.values, items, part.rows).to(log_p.dtype), rows, self.eps)
            log_mu = (torch.zeros_like(part.values, dtype=log_p.dtype) if weights is None else
                      weights[int(history.bounds[start]):int(history.bounds[stop])].to(log_p.dtype).log())
            cost = ragged.transport(kernel, log_mu, log_nu, self.n_iters, gradient)
            found.append(cost if not own else 2 * cost - self.within(items, log_nu, gradient))
        return torch.cat(found)

    def within(self, columns: Tensor, log_p: Tensor, gradient: ragged.Gradient) -> Tensor:
        """(b,): the cost of transport from the columns (b, k) to themselves."""
        rows = ragged.Rows.even(len(columns), columns.shape[1], columns.device)
        cost = self.cost.gather(columns.flatten(), columns, rows.owners).to(log_p.dtype)  # (b k, k)
        kernel = ragged.ragged(cost, rows, self.eps)
        return ragged.transport(kernel, log_p.flatten(), log_p, self.n_iters, gradient)


def blocks(history: Ragged, k: int, own: int) -> Iterator[tuple[int, int]]:
    """Spans of users whose rows, with ``own`` more of each, times ``k`` columns are no more cells than are held.

    A user alone may have more.
    """
    limit = CELLS.get(history.values.device.type, CELLS_OF_A_CARD)
    start, held = 0, 0
    for user, size in enumerate(history.sizes.tolist()):
        cells = (size + own) * k
        if held and held + cells > limit:
            yield start, user
            start, held = user, 0
        held += cells
    yield start, len(history)


class SinkhornCF(Sinkhorn):
    """A smoothed likelihood of a user's row, and the transport of the user's items to the k most probable ones.

    The likelihood counts observed items as one and all others as ``concentration``. The transport moves the items of
    the user to the k items of largest probability, at cost one minus similarity. Neither draws random numbers.

    Args:
        batch_size: users per step.
        weight: of the transport; 0 leaves it out.
        concentration: what an item that was not observed counts in the likelihood; the paper's alpha.
        k: items that mass is moved to; all where there are fewer.
        eps, n_iters, debias, cost: see :class:`Sinkhorn`.
        mass: of the k items: ``restricted`` is their probability among all items, ``renorm`` that among the k.
        gradient: of the transport: ``exact`` of the rounds without autograd, ``unrolled`` by autograd through the
            rounds, ``implicit`` of the plan that they converge to.
        scale: ``norm`` makes the weight a share: the gradient of the transport on the scores has that share of the norm
            of the likelihood's, in every step.
        every: the transport enters one step in so many, counted from the first step of the run on.
        start_epoch: the first epoch with the transport, from 0.
        max_rows: users of a batch that enter the transport; the mean is over these. None takes all.
        beta, anneal_steps, epochs, shuffle: see :class:`Sinkhorn`.

    Raises:
        ValueError: a number is out of its range.

    Source: SinkhornCF (WWW 2021), Algorithm 1 and Sec. 2.5; the authors' code for ``debias``, ``every``,
    ``start_epoch`` and ``max_rows``.

    Departures: none in the settings of the paper. A pair that a denoiser trusts in part counts between
    ``concentration`` and one, and has that part as its mass in the transport. With ``mass=restricted`` the cost also
    falls when probability leaves the k items, which ``weight`` has to stay small for; ``renorm`` is ours.
    """

    shared = True

    def __init__(self, batch_size: int = 500, weight: float = 1.0, concentration: float = 0.03, k: int = 200,
                 eps: float = 1.0, n_iters: int = 5, mass: Literal["restricted", "renorm"] = "restricted",
                 debias: Debias = "none", gradient: ragged.Gradient = "exact",
                 scale: Literal["none", "norm"] = "none", every: int = 1, start_epoch: int = 0,
                 max_rows: int | None = None, cost: Cosine | None = None, beta: float = 0.2,
                 anneal_steps: int | float = 200_000, epochs: int | None = None, shuffle: bool = True):
        check("loss", ("weight", weight, weight >= 0, "would reward costly plans; give 0 or more"),
              ("concentration", concentration, 0 <= concentration <= 1,
               "is what an unobserved item counts beside an observed one; give 0 or more and at most 1"),
              ("k", k, k >= 1, "leaves nowhere to move mass to; give 1 or more"),
              ("every", every, every >= 1, "is a number of steps; give 1 or more"),
              ("start_epoch", start_epoch, start_epoch >= 0, "is an epoch; give 0 or more"),
              ("max_rows", max_rows, max_rows is None or max_rows >= 1, "leaves no user; give 1 or more, or null"))
        super().__init__(batch_size, eps, n_iters, debias, cost, beta, "none", anneal_steps, epochs, shuffle)
        self.share, self.concentration, self.k, self.mass = weight, concentration, k, mass
        self.gradient, self.scale, self.every = gradient, scale, every
        self.start_epoch, self.max_rows = start_epoch, max_rows
        self.told: list[Tensor] = []

    def report(self, network: Encoder) -> dict[str, float]:
        """Means over the steps of the epoch that have a transport: its weight, and the probability of the k items."""
        if not self.told:
            return {}
        weight, mass = torch.stack(self.told).mean(0).tolist()
        self.told = []
        return {"transport_weight": weight, "top_mass": mass}

    def forward(self, network: Encoder, batch: Rows) -> tuple[Tensor, Rows]:
        """(b,) loss; counts the step."""
        code = network.encode(batch.query)
        logits = single(network.similarity(code.vectors, network.items()))  # (b, n_items)
        log_p = logits.log_softmax(1)
        targets = batch.targets(logits.shape[1]).mul_(1 - self.concentration).add_(self.concentration)
        loss = losses.likelihood(log_p, targets.to(log_p.dtype))
        if self.share and self.epoch >= self.start_epoch and self.step % self.every == 0:
            cost, top_mass = self.to_top(batch, log_p)
            weight = top_mass.new_full((), self.share) if self.scale == "none" else self.share * quotient(
                loss, cost, logits)
            self.told.append(torch.stack([weight, top_mass]))
            loss = loss + cost * (self.share if self.scale == "none" else weight)
        return self.coded(loss, code), batch

    def to_top(self, batch: Rows, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """(b,): the cost of transport to the most probable items; of the first ``max_rows`` users, as large a mean.

        And their mean probability among all items, without a gradient.
        """
        b, rows = len(log_p), ranks.rows(len(log_p))
        limit = min(rows.all, self.max_rows or rows.all)
        taken = min(b, max(limit - rows.first, 0))
        log_p, history, weights = log_p[:taken], batch.query.history, batch.weights
        if taken < b:
            weights = None if weights is None else weights[:int(history.bounds[taken])]
            history = history.slice(0, taken)
        top = largest(log_p.detach(), min(self.k, log_p.shape[1]))  # (taken, k)
        log_nu = log_p.gather(1, top)  # (taken, k)
        top_mass = ranks.average(log_nu.detach().exp().sum(1))
        log_nu = log_nu.log_softmax(1) if self.mass == "renorm" else log_nu
        cost = self.moved(history, weights, top, log_nu, self.gradient)
        return F.pad(cost * (rows.all / limit), (0, b - taken)), top_mass


def largest(values: Tensor, k: int) -> Tensor:
    """(b, k) int64: where the largest of ``values`` (b, n) are, in any order.

    numpy finds 200 of 10,000 eight times faster than torch on a CPU, hence the detour.
    """
    n = values.shape[1]
    if values.device.type == "cpu":
        return torch.from_numpy(np.argpartition(values.numpy(), n - k, axis=1)[:, n - k:])  # (b, k)
    return values.topk(k, 1, sorted=False).indices  # (b, k)


def quotient(loss: Tensor, cost: Tensor, logits: Tensor) -> Tensor:
    """The norm of the gradient of ``loss`` on the ``logits`` over that of the gradient of ``cost``; without a gradient.
    """
    norms = [ranks.norm(torch.autograd.grad(part.sum(), logits, retain_graph=True)[0]) for part in (loss, cost)]
    found: Tensor = norms[0] / norms[1].clamp(min=torch.finfo(logits.dtype).tiny)
    return found
