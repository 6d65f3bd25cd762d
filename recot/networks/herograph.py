"""HeroGRAPH: private vectors for each domain, and shared ones from a graph over all domains."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recot.data.interactions import Domain, Interactions
from recot.data.questions import Query
from recot.networks.domains import ByDomain
from recot.nn.neighbourhood import Neighbourhood
from recot.nn.precision import in_float32
from recot.nn.rows import joined, picked
from recot.nn.table import Table
from recot.request.limits import check


class Layer(nn.Module):
    """The weights of one step of attention from width ``d`` to width ``d'``.

    Attributes:
        attention: (2, d), for the neighbour and for the node itself. own: (d', d), of the next vectors.
    """

    def __init__(self, d: int, width: int):
        super().__init__()
        self.attention, self.own = nn.Parameter(torch.empty(2, d)), nn.Parameter(torch.empty(width, d))
        nn.init.xavier_uniform_(self.attention.view(1, -1))  # of a vector (2 d)
        nn.init.xavier_uniform_(self.own)

    def forward(self, product: Tensor) -> tuple[Tensor, Tensor]:
        """(2, dim) and (d', dim): its scores and its vectors from what ``product`` (d, dim) makes vectors of."""
        return multiplied(self.attention, product), multiplied(self.own, product)


class HeroGRAPH(ByDomain):
    """Vectors of users and items for each domain, beside those of one graph of all domains (HeroGRAPH; UCLR Table 2).

    With g the shared vectors of the nodes, N(v) the neighbours of node v in all domains, and W of each layer its own::

        a_vj = softmax over j in N(v) of sigmoid(w [g_j ; g_v]),  o_v = sum_j a_vj g_j,  g_v <- W_q (g_v + o_v)
        h_v = relu(W_o [g_v ; W_V o_v + b_V] + b_o)               the o_v of the last layer
        score of user u and item i of domain d = <P^d_u, Q_i> + <h_u, h_i>

    All look-ups of a step share one pass over the graph.

    Args:
        n_users, n_items: sizes. domains: the ranges of items; none are one of all items.
        dim: width of P, Q and g.
        widths: of g after each layer and of h after the last; as many layers.
        neighbours: at most as many are drawn for a node, anew for each epoch of training; None has all. Ranking has
            all.

    Raises:
        ValueError: a parameter is out of its range.
        RuntimeError: asked for vectors before :meth:`bind`.

    Source: Cui et al. (RecSys workshop ORSUM 2020). The authors' repository explains the private and the shared
    vectors and that the losses of the domains are summed; their code was not to be had. The attention is that of a
    public re-implementation (https://github.com/AmadeusClo/RobustCDR).

    Departures: tables and matrices start Xavier uniform and biases at zero, where the re-implementation draws biases
    from U(0, 1). It has widths 64 and 16. A node without neighbours has o = 0 and takes no part in b_V. Before the
    output everything but the attention is linear, so the matrices are multiplied with each other and then with the rows
    that are looked up, not with all nodes in every layer. Pairs count as edges whatever their weight.
    """

    objectives = ("DomainBPR",)

    def __init__(self, n_users: int, n_items: int, domains: Sequence[Domain] = (), dim: int = 128,
                 widths: Sequence[int] = (128, 128), neighbours: int | None = None):
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("widths", widths, len(widths) > 0 and min(widths) >= 1,
               "has to name the width of each layer, 1 or more"),
              ("neighbours", neighbours, neighbours is None or neighbours >= 1,
               "leaves nothing to attend to; give 1 or more, or null for all"))
        super().__init__(n_items, domains)
        self.n_users, self.neighbours = n_users, neighbours
        self.private_users, self.private_items = Table(n_users * len(self.domains), dim), Table(n_items, dim)
        self.nodes = Table(n_users + n_items, dim)
        self.layers = nn.ModuleList(Layer(d, width) for d, width in itertools.pairwise((dim, *widths)))
        before, last = (dim, *widths)[-2:]
        self.neighbour, self.output = nn.Linear(before, last), nn.Linear(2 * last, last)
        self.start()
        self.graph: Neighbourhood | None = None
        self.drawn: Neighbourhood | None = None
        self.cached: tuple[tuple[Any, ...], tuple[Tensor, ...]] | None = None

    @torch.no_grad()
    def start(self) -> None:
        """Xavier uniform for each table of each domain, zero for biases."""
        for linear in (self.neighbour, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.nodes.weight)
        users = self.private_users.weight.view(self.n_users, len(self.domains), -1)  # (n_users, n, dim)
        for number, domain in enumerate(self.domains):
            users[:, number] = nn.init.xavier_uniform_(torch.empty(self.n_users, users.shape[2]))
            nn.init.xavier_uniform_(self.private_items.weight[domain.items])

    def bind(self, train: Interactions) -> None:
        """Build the graph of the training pairs of all domains, on their device."""
        self.graph = Neighbourhood.bipartite(train.users, train.items, train.n_users, train.n_items)
        self.drawn = self.cached = None

    def sample(self, rng: torch.Generator) -> None:
        """Draw ``neighbours`` for each node."""
        if self.neighbours is not None and self.graph is not None:
            self.drawn, self.cached = self.graph.sampled(self.neighbours, rng), None

    def after_step(self) -> None:
        """Forget vectors of the weights before the step; fused optimisers do not raise a tensor's version."""
        self.cached = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: everything but vectors that hang on this network's autograd graph."""
        return self.__dict__ | {"cached": None}

    def passed(self) -> tuple[Tensor, ...]:
        """What h is made of, computed once for the weights as they are and all look-ups; see :meth:`outputs`.

        Without gradients, h of all nodes (n_nodes, w) itself.
        """
        graph = self.drawn if self.training and self.drawn is not None else self.graph
        if graph is None:
            raise RuntimeError("HeroGRAPH has no graph yet; call bind(train) first")
        state = (*(parameter._version for parameter in self.parameters()), torch.is_grad_enabled(), self.training)
        if self.cached is None or self.cached[0] != state:
            found = self.attended(graph)
            self.cached = state, found if torch.is_grad_enabled() else (self.outputs(*found),)
        return self.cached[1]

    def attended(self, graph: Neighbourhood) -> tuple[Tensor, ...]:
        """One pass over the graph: the arguments of :meth:`outputs` for all nodes.

        With z = g before the first layer and ``z <- z + sum_j a_j z_j``, the g of a layer are z times the product of
        the W_q so far.
        """
        z = heard = self.nodes()
        before = product = torch.eye(z.shape[1], device=z.device)  # (dim, dim)
        for layer in self.layers:
            before = product
            scorer, product = layer(before)
            heard = attention(graph, z, scorer)  # (n_nodes, dim)
            z = z + heard
        of_own, of_heard = self.output.weight.chunk(2, 1)  # (w, w) each
        values = multiplied(self.neighbour.weight, before)  # (w, dim)
        joint = torch.cat([multiplied(of_own, product), multiplied(of_heard, values)], 1)  # (w, 2 * dim)
        constant = multiplied(of_heard, self.neighbour.bias[:, None])[:, 0]  # (w,)
        return z, heard, (graph.heard.lengths > 0).to(z.dtype), joint, constant

    def outputs(self, z: Tensor, heard: Tensor, hears: Tensor, joint: Tensor, constant: Tensor) -> Tensor:
        """(b, w): the vectors h of nodes.

        Args:
            z, heard: (b, dim) what the nodes are and what they heard last. hears: (b,) 1 where they have neighbours.
            joint: (w, 2 * dim) all matrices up to h, of both. constant: (w,) what b_V adds.
        """
        return (nn.functional.linear(joined(z, heard), joint, self.output.bias)
                + hears[:, None] * constant).relu()

    def shared(self, ids: Tensor) -> Tensor:
        """(*ids.shape, w): the vectors h of nodes."""
        passed, flat = self.passed(), ids.reshape(-1)
        if len(passed) == 1:
            found = passed[0].index_select(0, flat)
        else:
            found = self.outputs(*(picked(whole, flat) for whole in passed[:3]), *passed[3:])
        return found.reshape(*ids.shape, found.shape[1])  # (*ids.shape, w)

    def views(self, query: Query) -> Tensor:
        """(b, n, dim + w): P of each domain, and h."""
        places = torch.arange(len(self.domains), device=query.users.device)
        private = self.private_users(query.users[:, None] * len(places) + places)  # (b, n, dim)
        return torch.cat([private, self.shared(query.users)[:, None].expand(-1, len(places), -1)], 2)  # (b, n, dim + w)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, dim + w): Q and h."""
        if ids is None:
            ids = torch.arange(len(self.domain), device=self.domain.device)
        return joined(self.private_items(ids), self.shared(ids + self.n_users))  # (*ids.shape, dim + w)

    def within(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(b, dim + w) and (b, k, dim + w)."""
        b, private = len(ids), self.private_users(self.own(query, ids))
        shared = self.shared(torch.cat([query.users, ids.flatten() + self.n_users]))  # (b + b * k, w)
        items = joined(self.private_items(ids.flatten()), shared[b:])  # (b * k, dim + w)
        return joined(private, shared[:b]), items.reshape(*ids.shape, items.shape[1])  # (b, dim + w), (b, k, dim + w)

    def own(self, query: Query, ids: Tensor) -> Tensor:
        """(b,) rows of P of users, in the domain of the first of ``ids`` (b, k)."""
        return query.users * len(self.domains) + self.domain[ids[:, 0]]

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of P, of Q and of g before the first layer, (b, 2 * dim) and (b, k, 2 * dim)."""
        users = joined(self.private_users(self.own(query, ids)), self.nodes(query.users))  # (b, 2 * dim)
        return users, joined(self.private_items(ids), self.nodes(ids + self.n_users))  # (b, k, 2 * dim)


@in_float32
def multiplied(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices."""
    return left @ right


@in_float32
def attention(graph: Neighbourhood, z: Tensor, scorer: Tensor) -> Tensor:
    """(n_nodes, d): means of what each node hears of ``z`` (n_nodes, d), by the softmax of the sigmoid of its scores.

    Args:
        scorer: (2, d), for the neighbour and for the node itself.
    """
    of_neighbour, of_node = (scorer @ z.T).unbind(0)  # (n_nodes,) each; torch is slow at the gradients of z @ scorer.T
    edges = picked(of_neighbour, graph.heard.values) + picked(of_node, graph.heard.rows)  # (edges,)
    return graph.sums(graph.softmax(edges.sigmoid()), z)
