"""UCLR's objectives: an autoencoder of users whose contrast has a temperature for each user, and its adaptation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.batches.distinct import UserPairs, Users, distinct, shuffled
from recot.data.interactions import Interactions
from recot.nn.contracts import Encoder
from recot.nn.precision import in_float32, single
from recot.nn.rows import picked
from recot.nn.similarity import direction
from recot.objectives import losses
from recot.objectives.losses import weighted
from recot.objectives.pairs import BPR, LEFT_OUT
from recot.request.limits import check


class CodedEncoder(Encoder, Protocol):
    """An encoder whose users come out of an autoencoder, kept by ``networks.uclr.Coded``; its attributes are there."""

    training: bool
    width: int
    encoder: nn.Module
    decoder: nn.Module
    temperature: Tensor
    visits: Tensor
    drift: Tensor
    log_mean: Tensor

    def vectors(self, users: Tensor) -> Tensor:
        """(b, m) what enters the autoencoder, of ``users`` (b,)."""

    def ranking(self, x: Tensor, decoded: Tensor | None = None) -> Tensor:
        """(b, m) what ranks items, of vectors ``x`` (b, m) and what they are decoded to."""


class Temperatures:
    """How the temperature of a user moves: by gradient descent on that user's own contrast, in closed form.

    With s the cosines to N negatives, p their softmax at temperature t and H its entropy, the gradient of the contrast
    in t is H for ``literal`` (the sum over negatives, as printed) and ``rho - KL(p | uniform) = rho + H - log N`` for
    ``rho`` (their mean, and ``rho t``). The first is never negative, so that every temperature falls to ``lower``. The
    second is zero at one temperature, where ``rho`` is below log N.

    Args:
        form: ``literal``, ``rho``, or ``fixed``, which moves none.
        rho: how far p may be from uniform; of ``rho`` only.
        learning_rate: of the descent.
        lower, upper: a temperature stays between these.
        beta: weight of the new gradient in the average that a temperature moves by, from 0 on; 1 has no average.
        grad_clip: largest gradient either way that enters the average; None for any.
        gamma: weight of the new mean of ``exp(s / t)`` over the negatives in the average that is kept of each user's,
            which starts with the first; 1 has no average. Below 1 the negatives' weights in the gradients, of the
            network as well, are ``exp(s / t)`` over that average, and the value of the loss stays that of the batch.

    Raises:
        ValueError: a number is out of its range.

    Source: UCLR (WWW 2024), Eq. 3 and its algorithm. ``rho``, ``beta``, ``grad_clip`` and ``gamma`` are of iSogCLR
    (Qiu et al., ICML 2023).

    Departures: the paper names neither start nor rate of its own; they are ours. ``rho`` is none of the paper's.
    """

    def __init__(self, form: Literal["literal", "rho", "fixed"] = "literal", rho: float = 0.3,
                 learning_rate: float = 1e-3, lower: float = 1e-5, upper: float = 1.0, beta: float = 1.0,
                 grad_clip: float | None = None, gamma: float = 1.0):
        check("loss.temperatures", ("rho", rho, rho >= 0, "is a divergence; give 0 or more, as 0.1 to 2"),
              ("learning_rate", learning_rate, learning_rate > 0, "moves nothing; give more than 0, or form=fixed"),
              ("lower", lower, lower > 0, "could divide by zero; give more than 0, for example 1e-5"),
              ("upper", upper, upper >= lower, f"lies below lower = {lower}; give that or more"),
              ("beta", beta, 0 < beta <= 1, "is the weight of the new; give more than 0 and at most 1"),
              ("grad_clip", grad_clip, grad_clip is None or grad_clip > 0, "moves nothing; give more than 0, or null"),
              ("gamma", gamma, 0 < gamma <= 1, "is the weight of the new; give more than 0 and at most 1"))
        self.form, self.rho, self.learning_rate, self.lower, self.upper = form, rho, learning_rate, lower, upper
        self.beta, self.grad_clip, self.gamma = beta, grad_clip, gamma

    def offset(self, tau: Tensor, count: Tensor) -> Tensor | float:
        """(b,) what the loss adds to ``tau log sum exp(s / tau)`` of ``count`` negatives, (b,) each."""
        return tau * (self.rho - count.log()) if self.form == "rho" else 0.0

    @torch.no_grad()
    def move(self, network: CodedEncoder, users: Tensor, entropy: Tensor, log_sum: Tensor,
             count: Tensor) -> Tensor | None:
        """Move the temperatures of ``users``, none of them twice; one without a negative keeps its own.

        Args:
            network: has the temperatures.
            users: (b,) int64. entropy, log_sum: (b,) H, and ``log sum exp(s / t)``, at the temperatures as they are.
            count: (b,) N.

        Returns:
            (b,) what the negatives' softmax is multiplied by in the gradient of the network; None for ones.
        """
        some, log_n = count > 0, count.clamp(min=1).log()
        visits, first = network.visits[users], network.visits[users] == 0
        delta = self.averaged(network, users, log_sum - log_n, first, some)
        gradient = entropy if self.form == "literal" else entropy + (self.rho - log_n)
        if delta is not None:  # log u + rho - mean(w s / t), with w = p N exp(-delta) and log u = log mean + delta
            less = -torch.expm1(-delta)
            gradient = gradient + delta + less * (log_sum - entropy)
        clipped = gradient if self.grad_clip is None else gradient.clamp(-self.grad_clip, self.grad_clip)
        drift = torch.lerp(network.drift[users], clipped, self.beta)
        tau = network.temperature[users]
        moved = (tau - self.learning_rate * drift).clamp(self.lower, self.upper)
        for kept, old, new in ((network.temperature, tau, moved), (network.visits, visits, visits + 1),
                               (network.drift, network.drift[users], drift)):
            kept.index_copy_(0, users, torch.where(some, new, old))
        return None if delta is None else (-delta).exp()

    def averaged(self, network: CodedEncoder, users: Tensor, log_mean: Tensor, first: Tensor,
                 some: Tensor) -> Tensor | None:
        """(b,) log of the kept average over the mean of the batch, of which ``log_mean`` (b,) is the log.

        In the log domain, since the means themselves overflow below a temperature of 0.01. None without an average.
        """
        if self.gamma == 1:
            return None
        old = network.log_mean[users]
        delta = torch.logaddexp(old - log_mean + math.log1p(-self.gamma), torch.full_like(old, math.log(self.gamma)))
        delta = torch.where(first | ~some, 0.0, delta)
        network.log_mean.index_copy_(0, users, torch.where(some, log_mean + delta, old))
        return delta

    def report(self, network: CodedEncoder) -> dict[str, float]:
        """Least, mean and largest temperature, and the share of users at either end."""
        if self.form == "fixed":
            return {}
        tau = network.temperature
        return {"tau_min": float(tau.min()), "tau_mean": float(tau.mean()), "tau_max": float(tau.max()),
                "tau_at_lower": float((tau <= self.lower).float().mean()),
                "tau_at_upper": float((tau >= self.upper).float().mean())}


class Contrastive:
    """Users are decoded to what they were, and their code lies by that of what is left of them when some is hidden.

    With x a user's vector, x' the same with something hidden, e and e' their codes, ``s_ik = cos(e_i, e'_k)`` and t_i
    the temperature of user i, the loss of user i in a batch of b is ``-s_ii + t_i log sum_{k != i} exp(s_ik / t_i)``
    plus ``alpha (|dec(e_i) - x_i|^2 + |dec(e'_i) - x_i|^2)``. Then each t_i moves, see :class:`Temperatures`; the
    network's gradient is that at the temperature before. A user who has no negatives, being alone or beside hidden ones
    that are none, has ``-s_ii`` alone and keeps the temperature.

    Args:
        batch_size: users per step. steps: an epoch has so many, over as many passes as they take; None is one pass.
        streams: 1 leaves out what is hidden and the contrast with it: the loss is ``|dec(e_i) - x_i|^2``.
        alpha: weight of the reconstruction.
        mask: what is hidden: ``row`` the whole vector of a user, ``feature`` single entries of it, ``none`` nothing.
        ratio: probability that it is.
        masked_negatives: users who are hidden as a whole are negatives of others; all of these have the same code.
        temperatures: how they move; None is as printed.

    Raises:
        ValueError: a number is out of its range.

    Source: UCLR (WWW 2024), Eqs. 3 to 5.

    Departures: the paper gives an example of the ratio and no value. It has batches of users and validates by epochs;
    an epoch of one batch is little, so an epoch here may have any number of steps. What a hidden vector is decoded to
    is computed once for all who are hidden.
    """

    networks = ("ContrastiveAutoencoder",)

    def __init__(self, batch_size: int = 2048, steps: int | None = None, streams: Literal[1, 2] = 2,
                 alpha: float = 1e-3, mask: Literal["row", "feature", "none"] = "row", ratio: float = 0.3,
                 masked_negatives: bool = True, temperatures: Temperatures | None = None):
        check("loss", ("steps", steps, steps is None or steps >= 1, "leaves an epoch empty; give 1 or more, or null"),
              ("alpha", alpha, alpha >= 0, "would reward a wrong reconstruction; give 0 or more, as 1e-3 to 0.1"),
              ("ratio", ratio, 0 <= ratio < 1, "is a share that is hidden; give 0 or more and less than 1"))
        self.batch_size, self.steps, self.streams, self.alpha = batch_size, steps, streams, alpha
        self.mask, self.ratio, self.masked_negatives = mask, ratio, masked_negatives
        self.temperatures = temperatures or Temperatures()

    def batches(self, train: Interactions, rng: torch.Generator, network: CodedEncoder, epoch: int) -> Iterator[Users]:
        """Users, and what is hidden of them."""
        for ids in shuffled(train, self.batch_size, self.steps, rng):
            yield self.hidden(ids, network.width, rng)

    def hidden(self, ids: Tensor, width: int, rng: torch.Generator) -> Users:
        """Users ``ids`` (b,) with a fresh mask of vectors of ``width``."""
        if self.streams == 1 or self.mask == "none":
            return Users(ids)
        shape = (len(ids), 1 if self.mask == "row" else width)
        return Users(ids, torch.rand(shape, generator=rng, device=ids.device) >= self.ratio)

    def __call__(self, network: CodedEncoder, batch: Users) -> tuple[Tensor, Users]:
        """(b,) loss; moves the temperatures of a network in training."""
        return self.coded(network, network.vectors(batch.ids), batch)[0], batch

    def coded(self, network: CodedEncoder, x: Tensor, batch: Users) -> tuple[Tensor, Tensor]:
        """(b,) loss of ``x`` (b, m), the vectors of a batch, and what they are decoded to (b, m)."""
        codes, masked, decoded, error = streams(network, x, batch.kept)
        if self.streams == 1:
            return distance(decoded, x), decoded
        left_out = None
        if batch.kept is not None and self.mask == "row" and not self.masked_negatives:
            left_out = ~batch.kept.squeeze(1)  # (b,)
        return self.contrast(network, codes, masked, batch.ids, left_out) + self.alpha * error, decoded

    def contrast(self, network: CodedEncoder, codes: Tensor, masked: Tensor, users: Tensor,
                 left_out: Tensor | None) -> Tensor:
        """(b,) of the ``codes`` and ``masked`` codes (b, c) of ``users`` (b,), of whom some are no negatives."""
        tau = network.temperature.index_select(0, users)
        anchors, others = direction(single(codes)), direction(single(masked))  # (b, c) each
        pull = (anchors * others).sum(-1)  # (b,)
        allowed = torch.ones_like(tau) if left_out is None else (~left_out).to(tau.dtype)
        count = allowed.sum() - allowed  # (b,)
        push, entropy, log_sum = soft_maximum(anchors, others, tau, left_out)
        push = push + self.temperatures.offset(tau, count.clamp(min=1))
        if network.training and self.temperatures.form != "fixed":
            weight = self.temperatures.move(network, users, entropy, log_sum, count)
            if weight is not None:  # of the gradient alone
                push = torch.lerp(push.detach(), push, weight)
        loss: Tensor = torch.where(count > 0, push, 0.0) - pull
        return loss

    @torch.no_grad()
    def report(self, network: CodedEncoder) -> dict[str, float]:
        """What the temperatures are, and the relative error of reconstruction beside the least of that rank."""
        x = network.vectors(torch.arange(len(network.temperature), device=network.temperature.device))  # (n_users, m)
        codes = network.encoder(x)
        found = {"reconstruction": float((network.decoder(codes) - x).norm() / x.norm()),
                 "reconstruction_floor": least_error(x, codes.shape[1])}
        return found if self.streams == 1 else found | self.temperatures.report(network)


class Adapted:
    """An observed item above a sampled one, by decoded users, with the loss of stage 2 of the users of the batch.

    The loss of a pair is that of BPR, plus ``stage2_weight`` times the mean of :class:`Contrastive` over the users of
    the batch, each once: a user who occurs twice would be a negative of their own.

    Args:
        batch_size: pairs per step. negatives: items drawn per pair from those that are trained on.
        penalty: weight of an L2 penalty on what moves, as in :class:`recot.objectives.pairs.BPR`.
        stage2_weight: 1 is the paper's; 0 leaves stage 2 out.
        contrast: of stage 2; its ``batch_size`` and ``steps`` are of no account here.

    Raises:
        ValueError: a number is out of its range.

    Source: UCLR (WWW 2024), Eqs. 6 and 7.

    Departures: the paper adds sums; here it is a mean over pairs and one over users. What is to be reconstructed is a
    constant, though it is trained. A penalty is none of the paper's.
    """

    networks = ("Adapted",)

    def __init__(self, batch_size: int = 2048, negatives: int = 1, penalty: float = 0.0, stage2_weight: float = 1.0,
                 contrast: Contrastive | None = None):
        check("loss", ("stage2_weight", stage2_weight, stage2_weight >= 0, "would reward a loss; give 0 or more"))
        self.bpr, self.stage2_weight = BPR(batch_size, negatives, penalty), stage2_weight
        self.stage2 = contrast or Contrastive()

    def batches(self, train: Interactions, rng: torch.Generator, network: CodedEncoder,
                epoch: int) -> Iterator[UserPairs]:
        """Pairs with sampled negatives, and their users with what is hidden of them."""
        drawn = list(self.bpr.batches(train, rng, network, epoch))
        for pairs, users, place in distinct(drawn, train.n_users):
            yield UserPairs(pairs, self.stage2.hidden(users, network.width, rng), place)

    def __call__(self, network: CodedEncoder, batch: UserPairs) -> tuple[Tensor, UserPairs]:
        """(n,) loss; moves the temperatures of a network in training."""
        pairs, x = batch.pairs, network.vectors(batch.users.ids)
        again, decoded = self.stage2.coded(network, x, batch.users) if self.stage2_weight else (None, None)
        z = picked(network.ranking(x, decoded), batch.place)  # (n, m)
        items = torch.cat([pairs.items[:, None], pairs.negatives], 1)  # (n, 1 + k)
        scores = network.similarity(z[:, None], network.items(items)).squeeze(1)  # (n, 1 + k)
        loss = weighted(losses.bpr(scores[:, 0], scores[:, 1:]), pairs.weights)
        if self.bpr.penalty:
            loss = loss + self.bpr.shrinkage(*network.free(pairs.query, items))
        return loss if again is None else loss + self.stage2_weight * again.mean(), batch

    def report(self, network: CodedEncoder) -> dict[str, float]:
        """As of stage 2."""
        return self.stage2.report(network) if self.stage2_weight else {}


def streams(network: CodedEncoder, x: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes of ``x`` (b, m) and of what is left of it, (b, c) each, the decoded x (b, m), and both errors' sum (b,).

    Whole vectors that are hidden are all the same zero, and the others are x, so that one row more is all to encode.
    """
    if kept is None:
        codes = network.encoder(x)
        decoded = network.decoder(codes)
        return codes, codes, decoded, 2 * distance(decoded, x)
    b, whole = len(x), kept.shape[1] == 1
    both = network.encoder(torch.cat([x, torch.zeros_like(x[:1]) if whole else x * kept]))  # (b + 1 or 2 b, c)
    back = network.decoder(both)  # (b + 1 or 2 b, m)
    codes, decoded = both[:b], back[:b]
    own, other = distance(decoded, x), distance(back[b:], x)  # (b,) each; one row is held against all
    if not whole:
        return codes, both[b:], decoded, own + other
    return codes, torch.where(kept, codes, both[b:]), decoded, own + torch.where(kept.squeeze(1), own, other)


@in_float32
def distance(found: Tensor, x: Tensor) -> Tensor:
    """(b,) squared distance of ``found``, (b, m) or (1, m), from ``x`` (b, m), to which no gradient goes."""
    return (found - x.detach()).square().sum(-1)


class SoftMaximum(torch.autograd.Function):
    """See :func:`soft_maximum`; the gradient written out, for autograd would keep and walk four (b, b) buffers."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, others: Tensor, tau: Tensor,
                left_out: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(b,) each of (b, c), (b, c), (b,) and (b,)."""
        none = None if left_out is None else left_out.to(tau.dtype) * LEFT_OUT  # (b,), added within the product
        # In powers of two: torch's exp of what underflows takes ten times as long on a CPU, and its exp2 does not.
        scores = F.linear(anchors / (tau * math.log(2))[:, None], others, none).fill_diagonal_(LEFT_OUT)  # (b, b)
        top = scores.amax(1)
        shares = scores.sub_(top[:, None]).exp2()  # (b, b)
        total = shares.sum(1)
        log_total = total.log()
        entropy = log_total - math.log(2) * torch.linalg.vecdot(shares, scores) / total
        log_sum = math.log(2) * top + log_total
        ctx.save_for_backward(anchors, others, shares, total)
        ctx.mark_non_differentiable(entropy, log_sum)
        return tau * log_sum, entropy, log_sum

    @staticmethod
    @in_float32
    def backward(ctx: Any, grad: Tensor, *none: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """(b, c) of anchors and of others: a cosine's gradient is its share of the softmax."""
        anchors, others, shares, total = ctx.saved_tensors
        scale = (grad / total)[:, None]
        return (shares @ others) * scale, shares.T @ (anchors * scale), None, None


@in_float32
def soft_maximum(anchors: Tensor, others: Tensor, tau: Tensor,
                 left_out: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``tau_i log sum_k exp(s_ik / tau_i)`` over all k but i and those left out, s being the inner products.

    With the largest of a row subtracted first. Else the softmax does not sum to one at temperatures as low as 1e-5, and
    the entropy is wrong by hundreds.

    Args:
        anchors, others: (b, c). tau: (b,), constant. left_out: (b,) bool, which of the others are none; None for none.

    Returns:
        (b,) the value; (b,) the entropy of the softmax of ``s_i / tau_i``, which is the value's derivative in tau; (b,)
        the value over tau. The last two without gradient. A row that all are left out of has no meaning.
    """
    found: tuple[Tensor, Tensor, Tensor] = SoftMaximum.apply(  # type: ignore[no-untyped-call]  # torch leaves it so
        anchors, others, tau, left_out)
    return found


def least_error(x: Tensor, rank: int) -> float:
    """Norm of what the first ``rank`` singular vectors leave of ``x`` (n, m), over the norm of ``x``."""
    squares = torch.linalg.eigvalsh(x.double().T @ x.double()).clamp(min=0)  # (m,), rising
    return float((squares[: max(len(squares) - rank, 0)].sum() / squares.sum()).sqrt())
