"""Diagonal Gaussians as vectors: means and standard deviations side by side, so that distances are Euclidean.

The squared 2-Wasserstein distance of two of them is ``|mean_a - mean_b|^2 + |std_a - std_b|^2``, since diagonal
covariances commute and the Bures term is that of their roots.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def variance(x: Tensor) -> Tensor:
    """``ELU(x) + 1``, positive, of any shape; STOSA, Eq. 5."""
    return F.elu(x) + 1


class Deviation(torch.autograd.Function):
    """See :func:`deviation`; where that is below 1 its slope is half of it, and half of one over it elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Of any shape."""
        found = x.clamp(min=0).add_(1).sqrt_().mul_(x.clamp(max=0).div_(2).exp_())  # one of the factors is 1
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Of the same shape."""
        (found,) = ctx.saved_tensors
        return torch.minimum(found, found.reciprocal()).mul_(grad).div_(2)


def deviation(x: Tensor) -> Tensor:
    """The root of :func:`variance`, of the shape of ``x``: ``exp(x / 2)`` below zero and ``sqrt(1 + x)`` above.

    ``ELU(x) + 1`` is zero in float32 from x = -17 on, and its root has an infinite slope there; this has neither.
    """
    found: Tensor = Deviation.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it so
    return found


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distances of Gaussians (..., 2d) and (..., 2d), pair by pair; (...).

    Source: STOSA (Fan et al., WWW 2022), Eq. 7; MStein, Eq. 2, which writes it without the square.
    """
    return (a - b).square().sum(-1)
