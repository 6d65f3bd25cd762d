"""Rows picked and joined, with backward passes that add whole rows.

On a CPU torch adds the gradients of picked rows one element at a time where they are not contiguous, and those of
``torch.cat`` never are: 3 ms in place of 0.8 ms for 16,000 rows of 128.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Picked(torch.autograd.Function):
    """See :func:`picked`."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, ids: Tensor) -> Tensor:
        """(n, ...)."""
        ctx.save_for_backward(ids)
        ctx.shape = whole.shape
        return whole.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The rows of ``grad``, added up where they are of one row."""
        (ids,) = ctx.saved_tensors
        return grad.new_zeros(ctx.shape).index_add_(0, ids, grad.contiguous()), None


class Joined(torch.autograd.Function):
    """See :func:`joined`."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        """(..., m + n)."""
        ctx.width = left.shape[-1]
        return torch.cat([left, right], -1)  # (..., m + n)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Both parts, contiguous."""
        return grad[..., : ctx.width].contiguous(), grad[..., ctx.width :].contiguous()


def picked(whole: Tensor, ids: Tensor) -> Tensor:
    """(n, ...): the rows of ``whole`` at ``ids`` (n,)."""
    return Picked.apply(whole, ids)  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it so


def joined(left: Tensor, right: Tensor) -> Tensor:
    """(..., m + n): rows of ``left`` (..., m) and ``right`` (..., n) side by side."""
    return Joined.apply(left, right)  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it so
