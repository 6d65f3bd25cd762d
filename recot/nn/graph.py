"""The bipartite graph of users and items, and linear propagation on it."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

Operators = tuple[Tensor, Tensor]
"""The normalised adjacency, (n_users, n_items) and (n_items, n_users), sparse CSR."""


class Graph:
    """``D^{-1/2} A D^{-1/2}`` of a bipartite graph, where A joins each user to their items; no self-loops.

    A node without edges gets zeros. Both directions are kept in CSR.

    Attributes:
        sides: for users and for items, the row pointer (rows + 1,), columns (edges,) and values (edges,) of the CSR
            matrix, the first two int32 where the edges are few enough. order: (edges,), which edge of the user side
            each edge of the item side is.
    """

    def __init__(self, sides: tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], order: Tensor):
        self.sides, self.order = sides, order

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: it never changes, and sparse tensors refuse to be copied."""
        return self

    @cached_property
    def whole(self) -> Operators:
        """The operators with all edges."""
        return self.operators()

    @classmethod
    def of(cls, users: Tensor, items: Tensor, n_users: int, n_items: int) -> Self:
        """The graph of distinct pairs (edges,) each, in any order."""
        place = (users * n_items + items).argsort()
        users, items = users[place], items[place]
        degree_u = torch.bincount(users, minlength=n_users)
        degree_i = torch.bincount(items, minlength=n_items)
        values = (degree_u[users] * degree_i[items]).float().rsqrt()  # (edges,)
        order = (items * n_users + users).argsort()
        short = torch.int32 if len(users) < 2**31 else torch.int64  # half as much to read in every product
        rows, rows_t = pointer(degree_u).to(short), pointer(degree_i).to(short)
        return cls(((rows, items.to(short), values), (rows_t, users[order].to(short), values[order])), order)

    def operators(self, drop: float = 0.0) -> Operators:
        """The two matrices; with ``drop``, each edge is left out with that probability and the others are scaled up by
        ``1 / (1 - drop)``, the same edges in both. Draws from torch's global generator.
        """
        (rows, columns, values), (rows_t, columns_t, values_t) = self.sides
        if drop:
            kept = (torch.rand_like(values) >= drop) / (1 - drop)  # (edges,)
            values, values_t = values * kept, values_t * kept[self.order]
        n_users, n_items = len(rows) - 1, len(rows_t) - 1
        return (torch.sparse_csr_tensor(rows, columns, values, (n_users, n_items), check_invariants=False),
                torch.sparse_csr_tensor(rows_t, columns_t, values_t, (n_items, n_users), check_invariants=False))


def pointer(degrees: Tensor) -> Tensor:
    """Row pointer of a CSR matrix, (rows + 1,) of the entries in each row."""
    return torch.cat([degrees.new_zeros(1), degrees.cumsum(0)])


def product(matrix: Tensor, dense: Tensor) -> Tensor:
    """``matrix @ dense`` for a CSR matrix; (rows, d).

    On a CPU a row is a weighted bag of embeddings: that kernel fetches ahead, and takes an eighth of the time of the
    sparse product on Gowalla's graph. On CUDA the sparse product is the fast one, a fourteenth of the bag's time. It
    adds in another order every time, and torch does not say so: where algorithms have to be deterministic, it is the
    bag.
    """
    if dense.device.type != "cpu" and not torch.are_deterministic_algorithms_enabled():
        return matrix @ dense
    return F.embedding_bag(matrix.col_indices(), dense, matrix.crow_indices(), mode="sum", include_last_offset=True,
                           per_sample_weights=matrix.values())


def horner(users: Tensor, items: Tensor, operators: Operators, n_layers: int) -> tuple[Tensor, Tensor]:
    """``E + S E + ... + S^K E`` with S the symmetric operator, as ``E + S (E + S (...))``: K products."""
    to_users, to_items = operators
    u, i = users, items
    for _ in range(n_layers):
        u, i = product(to_users, i).add_(users), product(to_items, u).add_(items)
    return u, i


def mean(users: Tensor, items: Tensor, operators: Operators, n_layers: int) -> tuple[Tensor, Tensor]:
    """Of the layers 0 to K; two tensors like ``users`` and ``items``."""
    u, i = horner(users, items, operators, n_layers)
    return u.div(n_layers + 1), i.div(n_layers + 1)


class Propagation(torch.autograd.Function):
    """See :func:`propagate`. The operator is symmetric, so the backward pass is the forward pass of the gradients."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, operators: Operators, n_layers: int) -> tuple[Tensor, Tensor]:
        """Two tensors like ``users`` and ``items``."""
        ctx.operators, ctx.n_layers = operators, n_layers
        return mean(users, items, operators, n_layers)

    @staticmethod
    def backward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of both."""
        return *mean(users, items, ctx.operators, ctx.n_layers), None, None


def propagate(users: Tensor, items: Tensor, operators: Operators, n_layers: int) -> tuple[Tensor, Tensor]:
    """Mean of the layers 0 to K of linear propagation.

    Args:
        users, items: (n_users, d) and (n_items, d), layer 0.
        operators: from :meth:`Graph.operators`. n_layers: K.

    Returns:
        Two tensors of the same shapes.

    Source: LightGCN (He et al., SIGIR 2020), Eqs. 3 to 8.
    """
    # torch leaves apply without types.
    found: tuple[Tensor, Tensor] = Propagation.apply(users, items, operators, n_layers)  # type: ignore[no-untyped-call]
    return found
