"""Weighted sums over the neighbours of the nodes of a graph, where the weights are learnt."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from recot.data.interactions import Ragged
from recot.nn import graph
from recot.nn.precision import in_float32
from recot.nn.rows import picked


class Neighbourhood:
    """Which nodes each node of a graph hears, and which hear it.

    Attributes:
        heard: (n_nodes,) rows: the neighbours that each node hears; an edge is a value of these rows.
        hearers: (n_nodes,) rows: the nodes that hear each node.
        order: (edges,) int64, which edge each value of ``hearers`` is.
    """

    def __init__(self, heard: Ragged, hearers: Ragged, order: Tensor):
        self.heard, self.hearers, self.order = heard, hearers, order

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: it never changes."""
        return self

    @classmethod
    def of(cls, heard: Ragged) -> Self:
        """The graph where each node hears the nodes of its row; they may be in any order."""
        order = heard.values.argsort(stable=True)
        degrees = torch.zeros_like(heard.lengths).index_add_(0, heard.values, torch.ones_like(heard.values))
        return cls(heard, Ragged(graph.pointer(degrees), heard.rows[order]), order)

    @classmethod
    def bipartite(cls, users: Tensor, items: Tensor, n_users: int, n_items: int) -> Self:
        """Users and items who hear each other, of distinct pairs (n,) each; item i is the node ``n_users + i``."""
        rows = torch.cat([users, items + n_users])  # (edges,)
        columns = torch.cat([items + n_users, users])  # (edges,)
        order = (rows * (n_users + n_items) + columns).argsort()
        return cls.of(Ragged.from_pairs(rows[order], columns[order], n_users + n_items))

    def sampled(self, count: int, rng: torch.Generator) -> Neighbourhood:
        """The graph where a node hears at most ``count`` of its neighbours, drawn uniformly without replacement."""
        rows = self.heard.rows
        drawn = torch.rand(len(rows), generator=rng, device=rows.device, dtype=torch.float64)
        shuffled = self.heard.values[(rows + drawn).argsort()]  # still row by row
        return Neighbourhood.of(Ragged(self.heard.offsets, shuffled, self.heard.sizes).latest(count))

    def softmax(self, scores: Tensor) -> Tensor:
        """(edges,) weights that sum to one over what a node hears, of scores (edges,) in a small range such as 0..1."""
        grown, rows = scores.exp(), self.heard.rows
        total = grown.new_zeros(len(self.heard)).index_add(0, rows, grown)  # (n_nodes,)
        return grown / picked(total, rows)

    def sums(self, weights: Tensor, vectors: Tensor) -> Tensor:
        """(n_nodes, d): what each node hears of ``vectors`` (n_nodes, d), by ``weights`` (edges,); zeros for nothing.

        No array of edges x d is made, neither here nor in the backward pass.
        """
        # torch leaves apply without types.
        return Sums.apply(weights, vectors, self)  # type: ignore[no-untyped-call, no-any-return]


class Sums(torch.autograd.Function):
    """See :meth:`Neighbourhood.sums`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, vectors: Tensor, nodes: Neighbourhood) -> Tensor:
        """(n_nodes, d)."""
        ctx.save_for_backward(weights, vectors)
        ctx.nodes = nodes
        return added(nodes.heard.offsets, nodes.heard.values, weights, vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Gradients of the weights, an inner product for each edge, and of the vectors, the sums over the hearers."""
        weights, vectors = ctx.saved_tensors
        nodes: Neighbourhood = ctx.nodes
        of_weights = of_vectors = None
        if ctx.needs_input_grad[0]:
            of_weights = inner(nodes.heard.offsets, nodes.heard.values, grad, vectors)
        if ctx.needs_input_grad[1]:
            of_vectors = added(nodes.hearers.offsets, nodes.hearers.values, weights[nodes.order], grad)
        return of_weights, of_vectors, None


@in_float32
def added(offsets: Tensor, columns: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
    """(rows, d): the product of a CSR matrix and ``vectors`` (n, d)."""
    shape = (len(offsets) - 1, len(vectors))
    return graph.product(torch.sparse_csr_tensor(offsets, columns, weights, shape, check_invariants=False), vectors)


@in_float32
def inner(offsets: Tensor, columns: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """(edges,) inner products of rows of ``left`` (rows, d) and ``right`` (n, d) at the places of a CSR matrix.

    torch's product at the places of a sparse matrix takes half the time of gathering the rows in pieces that fit the
    cache, and a twentieth of gathering them all (180,000 edges, d = 128, one core).
    """
    places = torch.sparse_csr_tensor(offsets, columns, left.new_zeros(len(columns)), (len(left), len(right)),
                                     check_invariants=False)
    found: Tensor = torch.sparse.sampled_addmm(places, left.contiguous(), right.T, beta=0).values()
    return found
