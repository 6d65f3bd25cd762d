"""Partially relaxed transport between rows and columns, streamed by blocks of rows.

A plan of m x n cells is never held. What leaves a pass over the rows is a vector of length n; a second pass then gives
the plan of one block at a time. Kernels are ``score / gamma`` in float64: ``exp`` of them alone would overflow float32
from 88 on, and differences of the size that a threshold depends on get lost in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from recot.ot.sinkhorn import balance

Blocks = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""A pass over the rows: places (b,) int64 of some of them, and their log kernel (b, n), which may be overwritten."""


class LogSum:
    """Logarithm of the column sums of ``exp`` of a matrix that arrives in blocks of rows.

    Args:
        like: (n,), gives width, dtype and device.
    """

    def __init__(self, like: Tensor):
        self.largest, self.total = torch.full_like(like, -torch.inf), torch.zeros_like(like)

    def add(self, block: Tensor) -> None:
        """Take in some rows, (b, n); overwrites them."""
        largest = torch.maximum(self.largest, block.amax(0))
        shift = torch.where(largest == -torch.inf, 0.0, largest)  # a column without mass so far
        self.total.mul_((self.largest - shift).exp_()).add_(block.sub_(shift).exp_().sum(0))
        self.largest = largest

    def value(self) -> Tensor:
        """(n,); ``-inf`` for a column without mass.

        >>> sums = LogSum(torch.zeros(2, dtype=torch.float64))
        >>> for _ in range(2):
        ...     sums.add(torch.tensor([[-1000.0, 1000.0]], dtype=torch.float64))
        >>> sums.value().round()  # exp(1000) alone overflows
        tensor([-999., 1001.], dtype=torch.float64)
        """
        return self.total.log() + self.largest.clamp(min=torch.finfo(self.total.dtype).min)


def column_sums(blocks: Blocks, log_p: Tensor) -> Tensor:
    """(n,) log of the column sums of the kernel, in one pass; ``log_p`` (n,) gives dtype and device."""
    sums = LogSum(log_p)
    for _, kernel in blocks():
        sums.add(kernel)
    return sums.value()


def relaxed_rows(kernel: Tensor, log_q: Tensor, log_p: Tensor, log_columns: Tensor) -> Tensor:
    """Log of the partially relaxed plan of some rows (ProRec, Eqs. 6 to 16).

    Dropping the constraint on the columns leaves ``q_i exp(A_ij) / sum_j exp(A_ij)``, dropping that on the rows
    ``p_j exp(A_ij) / sum_i exp(A_ij)``; the plan is the larger of both. Each is the first half-step of Sinkhorn from
    unit scalings. Their maximum is no coupling: its rows sum to at least q, its columns to at least p.

    Args:
        kernel: (b, n) A, overwritten. log_q: (b,) log row masses. log_p: (n,) log column masses.
        log_columns: (n,) of :func:`column_sums`.

    Returns:
        (b, n).
    """
    by_row = balance(log_q, kernel.logsumexp(1))  # (b,)
    by_column = balance(log_p, log_columns)  # (n,)
    return kernel.add_(torch.maximum(by_row[:, None], by_column))


def column_potential(blocks: Blocks, log_q: Tensor, log_p: Tensor, n_iters: int, tolerance: float) -> Tensor:
    """The column potential g of the entropic plan ``exp(A + f + g)`` with marginals q and p; one pass a round.

    Rounds balance the rows, then the columns, and end once the rows are off by less than ``tolerance`` in total, or
    after ``n_iters``. The row-normalised plan is ``softmax(A + g)``, so f need not be kept.

    Args:
        blocks: see :data:`Blocks`. log_q: (m,) log row masses. log_p: (n,) log column masses.
        n_iters: rounds at most. tolerance: L1 error of the row sums at which to stop.

    Returns:
        (n,).
    """
    g = torch.zeros_like(log_p)
    before = torch.full_like(log_q, torch.nan)
    for _ in range(n_iters):
        sums, off = LogSum(log_p), 0.0
        for place, kernel in blocks():
            f = balance(log_q[place], (kernel + g).logsumexp(1))  # (b,)
            off += float((log_q[place].exp() * (1 - (before[place] - f).exp()).abs()).sum())  # of the last round's plan
            before[place] = f
            sums.add(kernel.add_(f[:, None]))
        if off < tolerance:  # NaN in the first round
            break
        g = balance(log_p, sums.value())
    return g
