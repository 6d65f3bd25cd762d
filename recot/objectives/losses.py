"""Formulas on scores. Every loss is unreduced, one value per row, because denoisers weigh rows before the mean.

Every loss is float32, or float64 of float64, whatever the precision of the network: see :mod:`recot.nn.precision`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recot.nn import ranks
from recot.nn.precision import in_float32


def weighted(loss: Tensor, weights: Tensor | None) -> Tensor:
    """``loss`` (n,) times the weights of its pairs, (n,) or None for ones."""
    return loss if weights is None else loss * weights


@in_float32
def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Pairwise ranking loss ``softplus(negative - positive)``, averaged over the negatives of a row.

    Args:
        positive: (n,) scores of observed items.
        negative: (n, k) scores of sampled unobserved items.

    Returns:
        (n,), positive; log 2 where both scores are equal.

    Source: Rendle et al. (2009), BPR-Opt. ``-log sigmoid`` written as softplus, which does not saturate.
    """
    loss: Tensor = F.softplus(negative - positive[:, None])
    return loss.mean(-1)


@in_float32
def infonce(logits: Tensor, first: int = 0) -> Tensor:
    """In-batch contrastive loss: cross entropy of each row of ``logits`` (n, n) against its diagonal; (n,).

    Args:
        first: the column of the first row, where they are but some rows of the batch.

    Source: van den Oord et al. (2018); SCLRec, Eq. 1.
    """
    own = torch.arange(first, first + len(logits), device=logits.device)
    loss: Tensor = F.cross_entropy(logits, own, reduction="none")
    return loss


@in_float32
def softmax(logits: Tensor, chosen: Tensor) -> Tensor:
    """Cross entropy of the columns that were ``chosen``, (n,) int64, among all columns of ``logits`` (n, m); (n,)."""
    loss: Tensor = F.cross_entropy(logits, chosen, reduction="none")
    return loss


class SoftCrossEntropy(torch.autograd.Function):
    """Cross entropy with constant soft targets and the gradient ``softmax - targets`` written out.

    Autograd keeps three (n, k) buffers and walks each several times; this needs one.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """(n,) of ``logits`` (n, k) and ``targets`` (n, k) whose rows sum to one."""
        softmax = logits.softmax(-1)
        ctx.save_for_backward(softmax, targets)
        # The largest probability is at least 1 / k, so its log is safe where that of a target may not be.
        log_total = logits.amax(-1) - softmax.amax(-1).log()
        loss: Tensor = log_total - torch.linalg.vecdot(targets, logits)
        return loss

    @staticmethod
    @in_float32
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """``(softmax(logits) - targets) * grad``; (n, k)."""
        softmax, targets = ctx.saved_tensors
        return torch.sub(softmax, targets).mul_(grad[:, None]), None


@in_float32
def soft_infonce(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy ``-sum_j targets_ij log softmax(logits)_ij`` of each row.

    Args:
        logits: (n, n) similarities over temperature; a pair is left out by a very low finite value, not by ``-inf``.
        targets: (n, n), rows sum to one; constant, no gradient reaches them.

    Returns:
        (n,); equals :func:`infonce` for the identity.

    Source: SCLRec, Eq. 6.
    """
    loss: Tensor = SoftCrossEntropy.apply(logits, targets)  # type: ignore[no-untyped-call]  # torch leaves it so
    return loss


class BinaryCrossEntropy(torch.autograd.Function):
    """See :func:`bce`; torch's own goes through ``log_sigmoid``, four times as slow as softplus on a CPU."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the shape of both."""
        ctx.save_for_backward(logits, labels)
        gap = logits.relu().addcmul_(labels, logits, value=-1)  # exactly zero where a large logit is right
        return gap.add_(F.softplus(logits.abs().neg_()))

    @staticmethod
    @in_float32
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """``(sigmoid(logits) - labels) * grad``."""
        logits, labels = ctx.saved_tensors
        return logits.sigmoid().sub_(labels).mul_(grad), None


@in_float32
def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of each logit, of the shape of ``logits`` and ``labels``; log 2 at logit zero.

    No gradient reaches the labels.

    Source: T-CE (Wang et al., WSDM 2021), whose truncation and reweighting need it unreduced.
    """
    loss: Tensor = BinaryCrossEntropy.apply(logits, labels)  # type: ignore[no-untyped-call]  # torch leaves it so
    return loss


@in_float32
def squared(scores: Tensor, targets: Tensor) -> Tensor:
    """``(scores - targets)^2`` of each entry, of the shape of both.

    Source: Koren et al. (2009), Matrix Factorization Techniques for Recommender Systems.
    """
    return (scores - targets).square()


@in_float32
def multinomial(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log likelihood ``-sum_j targets_j log softmax(logits)_j`` of each row, up to a constant of the targets.

    Args:
        logits: (b, n). targets: (b, n), counts; fractions where pairs are trusted in part.

    Returns:
        (b,); ``sum_j targets_j * log n`` for equal logits, and unmoved by a constant added to a row of logits.

    Source: Mult-VAE (Liang et al., WWW 2018), Eq. 2.
    """
    loss: Tensor = -torch.linalg.vecdot(targets, logits.log_softmax(-1))
    return loss


@in_float32
def likelihood(log_p: Tensor, targets: Tensor) -> Tensor:
    """:func:`multinomial` of log probabilities that others need as well.

    Args:
        log_p: (b, n), ``log_softmax`` of scores. targets: (b, n), counts.

    Returns:
        (b,).
    """
    loss: Tensor = -torch.linalg.vecdot(targets, log_p)
    return loss


@in_float32
def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """Divergence of N(mean, exp(log_std)^2) from N(0, 1), of each coordinate; the shape of both; 0 where both are 0.

    Source: Kingma and Welling (2014), Appendix B.
    """
    return (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std


@in_float32
def alignment(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of each pair of unit vectors, (n,) of two (n, d); 2 - 2 cos.

    Source: DirectAU (Wang et al., KDD 2022), Eq. 5.
    """
    return (a - b).square().sum(-1)


class Uniformity(torch.autograd.Function):
    """See :func:`uniformity`; the gradient written out, for autograd would keep and walk three (n, n) buffers."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rows: ranks.Rows) -> Tensor:
        """Scalar of (n, d), n >= 2; the kernel has a row for each of these, and a column for all of the batch."""
        others, n = rows.gathered(z), rows.all
        kernel: Tensor = torch.addmm(z.new_full((), -4.0), z, others.T, alpha=4.0).exp_()  # exp(-2 |a - b|^2), (n, n)
        kernel.diagonal(rows.first).fill_(0.0)
        total = ranks.summed(kernel.sum())
        ctx.save_for_backward(others, kernel, total)
        loss: Tensor = (total / (n * (n - 1))).log()
        return loss

    @staticmethod
    @in_float32
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """(n, d): every entry of the kernel counts twice, once for either vector."""
        others, kernel, total = ctx.saved_tensors
        pull: Tensor = (kernel @ others) * (8.0 * ranks.summed(grad) / total)
        return pull, None


@in_float32
def uniformity(z: Tensor) -> Tensor:
    """``log mean_{a<b} exp(-2 |z_a - z_b|^2)`` of unit vectors (n, d); scalar, 0 for one vector and where all agree.

    The distances come from the Gram matrix, without a root whose gradient breaks down where two vectors are equal.
    Rows must have length one: the gradient is that of ``exp(4 a.b - 4)``, right once the normalisation before it is
    differentiated too.

    Source: Wang and Isola (2020); DirectAU, Eq. 6.
    """
    rows = ranks.rows(len(z))
    if rows.all < 2:
        return z.sum() * 0.0
    return Uniformity.apply(z, rows)  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it so


@in_float32
def bootstrap(predicted: Tensor, target: Tensor) -> Tensor:
    """``2 - 2 cos`` of each prediction and its target, (n,) of two (n, d), in 0..4; no gradient reaches the target.

    Source: BUIR (Lee et al., SIGIR 2021), Eq. 3.
    """
    return 2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=-1)
