"""An embedding table whose gradient is accumulated in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recot.nn.contracts import Network


class Lookup(torch.autograd.Function):
    """Rows of a table; the backward pass adds to ``weight.grad`` itself, at the rows of the batch only.

    The dense gradient of a lookup costs as much as the optimiser: it allocates, clears and adds a whole table for a
    few thousand rows. Adding in place gives the same dense gradient (so the same dense Adam) without that traffic.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor) -> Tensor:
        """(*ids.shape, d) of ``weight`` (rows, d) and ``ids`` int64."""
        ctx.save_for_backward(ids)
        ctx.weight = weight  # the parameter itself: its .grad is written to
        return weight.index_select(0, ids.reshape(-1)).reshape(*ids.shape, weight.shape[1])  # (*ids.shape, d)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        """Adds ``grad`` (*ids.shape, d) to the rows of ``weight.grad``."""
        (ids,) = ctx.saved_tensors
        weight = ctx.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad.index_add_(0, ids.reshape(-1), grad.reshape(-1, weight.shape[-1]).to(weight.dtype))
        return None, None


class Table(nn.Module):
    """Embedding table, Xavier normal: standard deviation ``sqrt(2 / (rows + dim))``.

    First derivatives only, and gradients bypass autograd hooks. Several processes that share a batch join them by the
    rows that were looked up, see :mod:`recot.nn.gradients`: a data-parallel wrapper would send whole tables, and leave
    the rows of other processes in ``weight.grad`` for the next step.

    Args:
        n_rows: number of embeddings. dim: their width.
    """

    def __init__(self, n_rows: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_rows, dim))
        nn.init.xavier_normal_(self.weight)
        self.touched: list[Tensor] = []
        self.whole = False

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, dim), or the whole table (n_rows, dim)."""
        training = torch.is_grad_enabled() and self.weight.requires_grad
        if ids is None:
            self.whole |= training
            return self.weight
        if not training:
            rows: Tensor = self.weight.index_select(0, ids.reshape(-1))
            return rows.reshape(*ids.shape, self.weight.shape[1])  # (*ids.shape, dim)
        self.touched.append(ids.reshape(-1))
        return Lookup.apply(self.weight, ids)  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it so

    def clear_gradient(self) -> None:
        """Zero the gradient; only the rows touched since the last call are written."""
        if self.weight.grad is not None:
            if self.whole:
                self.weight.grad.zero_()
            else:
                for ids in self.touched:
                    self.weight.grad.index_fill_(0, ids, 0.0)
        self.touched, self.whole = [], False


def clear_gradients(network: Network) -> None:
    """Make every gradient of ``network`` zero: tables in place, other parameters by dropping the tensor.

    To be called between a step and the next look-up, since a table clears the rows looked up so far.
    """
    for module in network.modules():
        if isinstance(module, Table):
            module.clear_gradient()
        else:
            for parameter in module.parameters(recurse=False):
                parameter.grad = None
