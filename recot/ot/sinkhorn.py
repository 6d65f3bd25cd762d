"""Entropic optimal transport by alternate scaling, in log domain and, where it is safe, on the kernel itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SAFE_EXPONENT = 40.0
"""Largest absolute value of a log kernel that ``scale_kernel`` is exact for in float32.

Scalings reach exp(2 * 40) times the number of rows, which float32 still holds.
"""


def check_shapes(kernel: Tensor, a: Tensor, b: Tensor, n_iters: int) -> None:
    """Raise ValueError when the masses do not fit the kernel or the number of rounds is negative."""
    m, n = kernel.shape[-2:]
    if a.shape[-1] != m or b.shape[-1] != n:
        raise ValueError(f"the kernel is {m} x {n}, so the row masses need {m} entries and the column masses {n}; "
                         f"got {a.shape[-1]} and {b.shape[-1]}")
    if n_iters < 0:
        raise ValueError(f"n_iters is a number of rounds, 0 or more; got {n_iters}")


def balance(log_mass: Tensor, log_sum: Tensor) -> Tensor:
    """Potential that brings a row (or column) of total ``log_sum`` to ``log_mass``; zero where nothing is allowed."""
    return torch.where(log_sum == -torch.inf, 0.0, log_mass - log_sum)


def alone(own: Tensor) -> Tensor:
    """The total over all rows of the total over these: that of a kernel which is there as a whole."""
    return own


def sinkhorn(log_kernel: Tensor, log_a: Tensor, log_b: Tensor, n_iters: int,
             total: Callable[[Tensor], Tensor] = alone) -> Tensor:
    """Log of the plan that scales ``exp(log_kernel)`` towards the marginals ``a`` (rows) and ``b`` (columns).

    Balances the rows, then ``n_iters`` times the columns and the rows. Row sums are exact on return; column sums
    only at convergence, and :func:`column_error` says how far off they are. A row or column that allows no pair at
    all stays empty, whatever its mass.

    Args:
        log_kernel: (..., m, n), ``-cost / eps`` or ``similarity / lam``; ``-inf`` forbids a pair.
        log_a: (..., m), log row masses; ``-inf`` is an empty row.
        log_b: (..., n), log column masses, of the same total as ``a``.
        n_iters: rounds; 0 leaves the columns free, which for unit masses is a row softmax.
        total: where these are but some rows of a kernel, adds up logs of column sums, (..., n), over all of them.

    Returns:
        (..., m, n) on the device of ``log_kernel``, in its dtype but never below float32. Differentiable: the rounds
        are unrolled.

    Raises:
        ValueError: the shapes disagree, or ``n_iters`` is negative.

    Source: Cuturi (2013), Alg. 1, in the log form of Peyre and Cuturi (2019), Sec. 4.4.

    >>> ones = torch.zeros(2)  # the logs of two masses of 1
    >>> kernel = torch.tensor([[4.0, 2.0], [4.0, 4.0]])
    >>> sinkhorn(kernel.log(), ones, ones, 0).exp().round(decimals=2)  # a softmax of each row
    tensor([[0.6700, 0.3300],
            [0.5000, 0.5000]])
    >>> sinkhorn(kernel.log(), ones, ones, 50).exp().round(decimals=2)  # columns sum to 1 as well
    tensor([[0.5900, 0.4100],
            [0.4100, 0.5900]])
    """
    check_shapes(log_kernel, log_a, log_b, n_iters)
    if log_kernel.dtype in (torch.float16, torch.bfloat16):  # sums of a thousand terms need more than 11 bits
        log_kernel, log_a, log_b = log_kernel.float(), log_a.float(), log_b.float()
    f = balance(log_a, log_kernel.logsumexp(-1))  # (..., m) row potential
    g = torch.zeros_like(log_b)  # (..., n) column potential
    for _ in range(n_iters):
        g = balance(log_b, total((log_kernel + f[..., :, None]).logsumexp(-2)))
        f = balance(log_a, (log_kernel + g[..., None, :]).logsumexp(-1))
    return log_kernel + f[..., :, None] + g[..., None, :]


@torch.no_grad()
def scale_kernel(kernel: Tensor, a: Tensor, b: Tensor, n_iters: int,
                 total: Callable[[Tensor], Tensor] = alone) -> Tensor:
    """The plan of :func:`sinkhorn` (not its log), by matrix-vector products on the kernel itself.

    One pass of exponentials in place of ``2 n_iters + 1``. The caller vouches that the logs of the positive entries lie
    within +-:data:`SAFE_EXPONENT`; checking it here would wait for the device.

    Args:
        kernel: (m, n) float32 or float64, not negative; 0 forbids a pair. Overwritten with the plan.
        a: (m,) row masses. b: (n,) column masses.
        n_iters: rounds of columns and rows after the first balancing of the rows.
        total: where these are but some rows of a kernel, adds up column sums, (n,), over all of them.

    Returns:
        ``kernel``, (m, n). Not differentiable.

    Raises:
        ValueError: the shapes disagree, or ``n_iters`` is negative.
    """
    check_shapes(kernel, a, b, n_iters)
    u = divide(a, kernel.sum(-1))  # (m,) row scaling
    v = torch.ones_like(b)  # (n,) column scaling
    for _ in range(n_iters):
        v = divide(b, total(u @ kernel))
        u = divide(a, kernel @ v)
    return kernel.mul_(u[:, None]).mul_(v)


def divide(mass: Tensor, total: Tensor) -> Tensor:
    """``mass / total``, zero where the total is zero."""
    return torch.where(total > 0, mass / total, 0.0)


def column_error(log_plan: Tensor, log_b: Tensor) -> Tensor:
    """(...,) L1 distance of the column sums of ``log_plan``, (..., m, n), from ``exp(log_b)``, (..., n)."""
    return (log_plan.logsumexp(-2).exp() - log_b.exp()).abs().sum(-1)
