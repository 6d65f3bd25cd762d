"""Formulas on scores. Every loss is unreduced, one value per row, because denoisers weigh rows before the mean."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def infonce(logits: Tensor) -> Tensor:
    """In-batch contrastive loss: cross entropy of each row of ``logits`` (n, n) against its diagonal; (n,).

    Source: van den Oord et al. (2018); SCLRec, Eq. 1.
    """
    own = torch.arange(len(logits), device=logits.device)
    loss: Tensor = F.cross_entropy(logits, own, reduction="none")
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """``(softmax(logits) - targets) * grad``; (n, k)."""
        softmax, targets = ctx.saved_tensors
        return torch.sub(softmax, targets).mul_(grad[:, None]), None


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
