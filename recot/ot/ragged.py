"""The cost of entropic transport, of many problems at once, and how the cost changes with the masses.

Problem u has rows of its own, which lie end to end with those of the others, and k columns. Rounds balance the rows,
then the columns, so that the column masses are exact after any number of rounds and the row masses in the limit. What
is differentiated is the sharp cost ``<C, P>`` of the plan after those rounds, without an entropy.

A kernel answers what the rounds and their derivative ask: totals of its rows and columns under scalings, and means over
the conditional distributions ``K b / r`` of a row and ``K a / s`` of a column. The means do not depend on the masses,
so that a mass too small for its number breaks nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from recot.ot.sinkhorn import SAFE_EXPONENT, balance


@dataclass(frozen=True)
class Rows:
    """How the rows of b problems lie end to end.

    Attributes:
        offsets: (b + 1,) int64; problem u has the rows from ``offsets[u]`` up to ``offsets[u + 1]``, maybe none.
        owners: (e,) int64, the problem of each row.
        sizes: b numbers of rows, on the host.
    """

    offsets: Tensor
    owners: Tensor
    sizes: Sequence[int]

    @classmethod
    def even(cls, problems: int, rows: int, device: torch.device) -> Rows:
        """``problems`` with ``rows`` each."""
        owners = torch.arange(problems, device=device).repeat_interleave(rows, output_size=problems * rows)
        return cls(torch.arange(problems + 1, device=device) * rows, owners, [rows] * problems)

    def sums(self, cells: Tensor, weights: Tensor) -> Tensor:
        """(b, k): sums over the rows of each problem of ``cells`` (e, k) times ``weights`` (e,)."""
        places = torch.arange(len(cells), device=cells.device)
        return F.embedding_bag(places, cells, self.offsets, mode="sum", per_sample_weights=weights,
                               include_last_offset=True)  # one pass, where index_add of the product takes five


class Scalings(Protocol):
    """What a kernel offers; see the module. Scalings and totals are as the kernel keeps them, maybe logs."""

    def masses(self, log_mass: Tensor) -> Tensor:
        """Masses, or their logs."""

    def scaled(self, mass: Tensor, total: Tensor) -> Tensor:
        """The scaling that brings ``total`` to ``mass``."""

    def start(self, log_columns: Tensor) -> Tensor:
        """Scalings of the columns that change nothing."""

    def row_totals(self, b: Tensor) -> Tensor:
        """Totals of the rows under scalings of the columns."""

    def column_totals(self, a: Tensor) -> Tensor:
        """(b, k) totals of the columns under scalings of the rows."""

    def row_means(self, b: Tensor, total: Tensor, values: Tensor | None) -> Tensor:
        """Of each row the mean of ``values`` (b, k) over its columns, or of the cost where that is None."""

    def column_means(self, a: Tensor, total: Tensor, values: Tensor | None) -> Tensor:
        """(b, k): of each column the mean of ``values`` of the rows, or of the cost where that is None."""

    def gathered(self, values: Tensor) -> Tensor:
        """(b,): sums of values of the rows over the rows of each problem."""

    def at_rows(self, values: Tensor) -> Tensor:
        """``values`` (b,) of each problem in the shape of values of its rows."""


class Linear:
    """A kernel whose scalings float32 holds; the products with it are left to subclasses.

    Args:
        cost: any shape, within 0..1; float32 or float64. eps: of the entropy, at least ``1 / SAFE_EXPONENT``.
    """

    def __init__(self, cost: Tensor, eps: float):
        self.cost, self.cells = cost, (cost / -eps).exp_()
        self.priced = self.cells * cost

    def masses(self, log_mass: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return log_mass.exp()

    def scaled(self, mass: Tensor, total: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return quotient(mass, total)

    def start(self, log_columns: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return torch.ones_like(log_columns)

    def over_columns(self, cells: Tensor, b: Tensor) -> Tensor:
        """Products of the rows of ``cells`` with ``b`` (b, k)."""
        raise NotImplementedError

    def over_rows(self, cells: Tensor, a: Tensor) -> Tensor:
        """(b, k): products of the columns of ``cells`` with ``a``."""
        raise NotImplementedError

    def row_totals(self, b: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return self.over_columns(self.cells, b)

    def column_totals(self, a: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return self.over_rows(self.cells, a)

    def row_means(self, b: Tensor, total: Tensor, values: Tensor | None) -> Tensor:
        """See :class:`Scalings`."""
        found = self.over_columns(self.priced, b) if values is None else self.over_columns(self.cells, b * values)
        return quotient(found, total)

    def column_means(self, a: Tensor, total: Tensor, values: Tensor | None) -> Tensor:
        """See :class:`Scalings`."""
        found = self.over_rows(self.priced, a) if values is None else self.over_rows(self.cells, a * values)
        return quotient(found, total)


class Kernel(Linear):
    """``exp(-cost / eps)`` of problems with rows of their own.

    Args:
        cost: (e, k). rows: of the problems. eps: see :class:`Linear`.
    """

    def __init__(self, cost: Tensor, rows: Rows, eps: float):
        super().__init__(cost, eps)
        self.rows = rows

    def over_columns(self, cells: Tensor, b: Tensor) -> Tensor:
        """(e,)."""
        return b.index_select(0, self.rows.owners).mul_(cells).sum(1)

    def over_rows(self, cells: Tensor, a: Tensor) -> Tensor:
        """See :class:`Linear`."""
        return self.rows.sums(cells, a)

    def gathered(self, values: Tensor) -> Tensor:
        """(b,) of (e,)."""
        return self.rows.sums(values[:, None], torch.ones_like(values)).squeeze(1)  # (b,)

    def at_rows(self, values: Tensor) -> Tensor:
        """(e,)."""
        return values.index_select(0, self.rows.owners)


class Shared(Linear):
    """``exp(-cost / eps)`` of problems that have all rows and columns in common and differ by their masses.

    Args:
        cost: (m, n). eps: see :class:`Linear`.
    """

    def over_columns(self, cells: Tensor, b: Tensor) -> Tensor:
        """(b, m)."""
        return b @ cells.T

    def over_rows(self, cells: Tensor, a: Tensor) -> Tensor:
        """(b, n) of (b, m)."""
        return a @ cells

    def gathered(self, values: Tensor) -> Tensor:
        """(b,) of (b, m)."""
        return values.sum(1)

    def at_rows(self, values: Tensor) -> Tensor:
        """(b, 1)."""
        return values[:, None]


class LogKernel:
    """``-cost / eps`` of problems with rows of their own; scalings are logs, and any ``eps`` is safe.

    Args:
        cost: (e, k), float32 or float64. rows: of the problems. eps: of the entropy.
    """

    def __init__(self, cost: Tensor, rows: Rows, eps: float):
        self.cost, self.log, self.rows = cost, cost / -eps, rows

    def masses(self, log_mass: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return log_mass

    def scaled(self, mass: Tensor, total: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return balance(mass, total)

    def start(self, log_columns: Tensor) -> Tensor:
        """See :class:`Scalings`."""
        return torch.zeros_like(log_columns)

    def spread(self, values: Tensor) -> Tensor:
        """(e, k): ``values`` (b, k) of each problem at all its rows."""
        return values.index_select(0, self.rows.owners)

    def row_totals(self, b: Tensor) -> Tensor:
        """(e,)."""
        return (self.log + self.spread(b)).logsumexp(1)

    def column_totals(self, a: Tensor) -> Tensor:
        """See :class:`Scalings`; ``-inf`` where a problem has no rows."""
        cells, owners = self.log + a[:, None], self.rows.owners  # (e, k)
        largest = torch.full((len(self.rows.sizes), cells.shape[1]), -torch.inf, dtype=cells.dtype, device=cells.device)
        largest = largest.scatter_reduce(0, owners[:, None].expand_as(cells), cells.detach(), "amax")
        shift = torch.where(largest == -torch.inf, 0.0, largest)  # (b, k)
        powers = (cells - self.spread(shift)).exp()  # (e, k)
        return torch.zeros_like(shift).index_add(0, owners, powers).log() + shift

    def row_means(self, b: Tensor, total: Tensor, values: Tensor | None) -> Tensor:
        """(e,), see :class:`Scalings`."""
        shares = (self.log + self.spread(b) - finite(total)[:, None]).exp()  # (e, k)
        return (shares * (self.cost if values is None else self.spread(values))).sum(1)

    def column_means(self, a: Tensor, total: Tensor, values: Tensor | None) -> Tensor:
        """See :class:`Scalings`."""
        shares = (self.log + a[:, None] - self.spread(finite(total))).exp()  # (e, k)
        shares = shares * self.cost if values is None else shares
        return self.rows.sums(shares, torch.ones_like(a) if values is None else values)

    def gathered(self, values: Tensor) -> Tensor:
        """(b,) of (e,)."""
        return self.rows.sums(values[:, None], torch.ones_like(values)).squeeze(1)  # (b,)

    def at_rows(self, values: Tensor) -> Tensor:
        """(e,)."""
        return values.index_select(0, self.rows.owners)


def quotient(mass: Tensor, total: Tensor) -> Tensor:
    """``mass / total``, zero where the total is zero, and with a gradient of zero there."""
    return mass / total.masked_fill(total == 0, torch.inf)


def finite(total: Tensor) -> Tensor:
    """The log totals, zero where nothing is there: what is shared there is nothing either way."""
    return torch.where(total == -torch.inf, 0.0, total)


def is_linear(eps: float) -> bool:
    """Whether costs within 0..1 over ``eps`` are safe without logs; known on the host."""
    return eps * SAFE_EXPONENT >= 1


def ragged(cost: Tensor, rows: Rows, eps: float) -> Kernel | LogKernel:
    """The kernel of problems with rows of their own, in logs where ``eps`` asks for it.

    Args:
        cost: (e, k) within 0..1, of any floating type; 16 bits become 32.
    """
    cost = cost.float() if cost.dtype in (torch.float16, torch.bfloat16) else cost
    return Kernel(cost, rows, eps) if is_linear(eps) else LogKernel(cost, rows, eps)


@dataclass(frozen=True)
class Round:
    """One round: the row totals that it found and the scalings it gave them, then the same of the columns."""

    row_totals: Tensor
    a: Tensor
    column_totals: Tensor
    b: Tensor


def level(kernel: Scalings, log_rows: Tensor, log_columns: Tensor) -> Tensor:
    """Log masses of the rows, with the total of the columns' masses.

    The plan is that of any other total, but scalings would grow by the quotient of the totals in every round: of 1,000
    items of mass one and columns of .1 in all they reach 1e40 after 10 rounds, and float32 ends before.
    """
    with torch.no_grad():  # what moves no cost has no gradient
        shift = balance(log_columns.logsumexp(1), kernel.gathered(log_rows.exp()).log())  # (b,)
    return log_rows + kernel.at_rows(shift)


def rounds(kernel: Scalings, log_rows: Tensor, log_columns: Tensor, n_iters: int) -> list[Round]:
    """``n_iters`` rounds from scalings of the columns that change nothing; both masses of one total."""
    rows, columns = kernel.masses(log_rows), kernel.masses(log_columns)
    b, found = kernel.start(log_columns), list[Round]()
    for _ in range(n_iters):
        row_totals = kernel.row_totals(b)
        a = kernel.scaled(rows, row_totals)
        column_totals = kernel.column_totals(a)
        b = kernel.scaled(columns, column_totals)
        found.append(Round(row_totals, a, column_totals, b))
    return found


def slopes(kernel: Scalings, done: list[Round], of_first: bool = True) -> tuple[Tensor, Tensor]:
    """Derivatives of the cost after the rounds ``done`` by the masses of the rows and of the columns, without autograd.

    The plan is of degree one in the column masses and of degree zero in the row masses. By Euler's theorem the column
    masses times their derivatives sum to the cost itself, and the row masses times theirs to zero.

    Args:
        of_first: False leaves out the rows of the first round, which nothing but their own derivatives needs.

    Returns:
        As many as there are rows, and (b, k).
    """
    last = done[-1]
    by_column = kernel.column_means(last.a, last.column_totals, None)  # (b, k)
    by_row = kernel.row_means(last.b, last.row_totals, None)
    of_columns, of_rows = torch.zeros_like(by_column), torch.zeros_like(by_row)
    for at in reversed(range(len(done))):
        of_columns += by_column
        if not (at or of_first):
            break
        by_row = by_row - kernel.row_means(done[at].b, done[at].row_totals, by_column)
        of_rows += by_row
        if at:
            by_column = -kernel.column_means(done[at].a, done[at - 1].column_totals, by_row)
            by_row = torch.zeros_like(by_row)
    return of_rows, of_columns


Gradient = Literal["exact", "unrolled", "implicit"]


def transport(kernel: Scalings, log_rows: Tensor, log_columns: Tensor, n_iters: int,
              gradient: Gradient = "exact") -> Tensor:
    """The cost ``<C, P>`` of each problem's plan P after ``n_iters`` rounds; differentiable by the masses.

    The total mass is that of the columns, whatever the rows have: the rows count by their shares. A problem without
    rows costs nothing.

    Args:
        kernel: of b problems. log_rows: as many as it has rows, or (b, m) where all rows are shared; ``-inf`` is an
            empty row. log_columns: (b, k). n_iters: 1 or more.
        gradient: ``exact`` and ``unrolled`` are the same number, that of the rounds: the first computes it with the
            value and keeps nothing for the backward pass, the second has autograd walk the rounds. ``implicit`` is that
            of the converged plan (see :func:`implicit_slopes`).

    Returns:
        (b,), float32, or float64 where the kernel is.

    Raises:
        ValueError: ``n_iters`` is below 1, or the plan of a shared kernel is to be differentiated implicitly.

    Source: SinkhornCF (WWW 2021), Algorithm 1.

    Two rows and two columns of mass .5 each, at cost .9 off the diagonal, where it is ``.9 / (1 + exp(.9 / eps))``:

    >>> cost = torch.tensor([[0.0, 0.9], [0.9, 0.0]])
    >>> half = torch.full((2,), 0.5).log()
    >>> transport(ragged(cost, Rows.even(1, 2, cost.device), eps=1.0), half, half[None], 5)
    tensor([0.2601])
    """
    if n_iters < 1:
        raise ValueError(f"n_iters is a number of rounds, 1 or more; got {n_iters}")
    with whole(log_columns.device.type):
        log_rows = level(kernel, log_rows, log_columns)
        if gradient == "unrolled":
            last = rounds(kernel, log_rows, log_columns, n_iters)[-1]
            return (log_columns.exp() * kernel.column_means(last.a, last.column_totals, None)).sum(1)
        with torch.no_grad():
            done = rounds(kernel, log_rows, log_columns, n_iters)
            of_rows, of_columns = (slopes(kernel, done, log_rows.requires_grad) if gradient == "exact" else
                                   implicit_slopes(kernel, done, log_rows))
        # Linear in the masses with the right slopes, and by Euler's theorem of the right value.
        cost = (log_columns.exp() * of_columns).sum(1)
        return cost + kernel.gathered(log_rows.exp() * of_rows) if log_rows.requires_grad else cost


def whole(device: str) -> contextlib.AbstractContextManager[object]:
    """No autocast, which would take the products of a shared kernel in 16 bits."""
    return (torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device)
            else contextlib.nullcontext())


def plan(kernel: Kernel | LogKernel, done: list[Round]) -> Tensor:
    """(e, k): the plan after the rounds ``done``."""
    a, b = done[-1].a[:, None], done[-1].b.index_select(0, kernel.rows.owners)  # (e, 1), (e, k)
    return (kernel.log + a + b).exp() if isinstance(kernel, LogKernel) else kernel.cells * a * b


def implicit_slopes(kernel: Scalings, done: list[Round], log_rows: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`slopes` of the converged plan, from the adjoint of what the marginals ask: one linear system a problem.

    With the row sums r and the column sums c of P, ``[diag(r) P; P' diag(c)] (f, g) = [(P * C) 1; (P * C)' 1]``. The
    rows are eliminated, which leaves a system of the columns. It is singular along a constant, and Euler's theorem says
    which constant. Right only as far as the rounds have converged; computed in float64.

    Raises:
        ValueError: the rows are shared.
    """
    if not isinstance(kernel, Kernel | LogKernel):
        raise ValueError("gradient=implicit needs problems with rows of their own; use exact")
    cells, sizes = plan(kernel, done).double(), list(kernel.rows.sizes)  # (e, k)
    parts = [adjoint(*part) for part in zip(cells.split(sizes), kernel.cost.double().split(sizes), strict=True)]
    f, g = torch.cat([part[0] for part in parts]), torch.stack([part[1] for part in parts])  # (e,), (b, k)
    f = f * quotient(cells.sum(1), log_rows.double().exp())  # the row masses may have another total
    return f.to(log_rows.dtype), g.to(log_rows.dtype)


def adjoint(plan: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the cost of one converged plan (m, n) by its own row and column sums.

    Returns:
        (m,) with ``plan.sum(1) @ (m,) = 0``, and (n,) with ``plan.sum(0) @ (n,)`` the cost; zeros without rows.
    """
    if not len(plan):
        return plan.new_zeros(0), plan.new_zeros(plan.shape[1])
    rows, columns, spent = plan.sum(1), plan.sum(0), plan * cost
    shares, total = quotient(plan, rows[:, None]), columns.sum()  # (m, n)
    # The rank-one term fills the constant direction, in which the system is singular, and moves nothing else.
    system = columns.diag() - plan.T @ shares + torch.outer(columns, columns) / total
    g = torch.linalg.solve_ex(system, spent.sum(0) - shares.T @ spent.sum(1))[0]  # (n,)
    g = g + (spent.sum() - columns @ g) / total
    return quotient(spent.sum(1) - plan @ g, rows), g
