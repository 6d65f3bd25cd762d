"""LightGCN: free vectors, propagated over the graph of the training pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn import similarity
from recot.nn.graph import Graph, Operators, propagate
from recot.nn.lookup import Rows
from recot.nn.table import Table
from recot.request.limits import check


class LightGCN(TwoTower):
    """Mean of the layers of linear propagation on the normalised user-item graph (LightGCN; SCLRec Table 2).

    An encoder: any objective may train it. All look-ups of a step share one propagation and one backward pass, and all
    look-ups of an evaluation share one propagation. On a CPU a step makes the outermost layer where it is looked up.

    Args:
        n_users, n_items: sizes.
        dim: width d of the vectors. n_layers: K; 0 is matrix factorisation.
        score: how items are ranked, see :class:`recot.networks.factorisation.Tables`.
        init: of layer 0: ``xavier_uniform`` as in RecBole, or ``normal`` with deviation 0.1 as the authors have it.
        edge_drop_max: while training, leave out a share of the edges drawn anew for each propagation from
            0..edge_drop_max (BUIR-NB); LightGCN itself has none.

    Raises:
        ValueError: a parameter is out of its range.
        RuntimeError: asked for vectors before :meth:`bind`.

    Source: He et al. (SIGIR 2020). Pairs count as edges whatever their weight.

    Departures: the SCLRec paper names neither depth nor penalty. K = 3 and the squared penalty 1e-4 on layer 0
    (``loss.penalty``) are the authors' own, tuned on Gowalla; RecBole has K = 2 and 1e-5 on unsquared norms.
    Xavier-uniform tables follow RecBole.
    """

    alike = True  # edges are left out of one graph

    def __init__(self, n_users: int, n_items: int, dim: int = 64, n_layers: int = 3,
                 score: Literal["dot", "cosine"] = "dot",
                 init: Literal["xavier_uniform", "normal"] = "xavier_uniform", edge_drop_max: float = 0.0):
        super().__init__()
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("n_layers", n_layers, n_layers >= 0, "is a number of propagations; give 0 or more"),
              ("edge_drop_max", edge_drop_max, 0 <= edge_drop_max < 1,
               "is a share of the edges, and not all of them; give 0 or more and less than 1"))
        self.similarity = similarity.named(score)
        self.user_table, self.item_table = Table(n_users, dim), Table(n_items, dim)
        for table in (self.user_table, self.item_table):
            if init == "normal":
                nn.init.normal_(table.weight, std=0.1)
            else:
                nn.init.xavier_uniform_(table.weight)
        self.n_layers, self.edge_drop_max = n_layers, edge_drop_max
        self.graph: Graph | None = None
        self.cached: tuple[tuple[Any, ...], Callable[[int, Tensor | None], Tensor]] | None = None

    def bind(self, train: Interactions) -> None:
        """Build the graph of the training pairs, on their device."""
        self.graph = Graph.of(train.users, train.items, train.n_users, train.n_items)
        self.cached = None

    def after_step(self) -> None:
        """Forget vectors of the weights before the step; fused optimisers do not raise a tensor's version."""
        self.cached = None

    def propagated(self) -> Callable[[int, Tensor | None], Tensor]:
        """Looks up users (0) and items (1) at the end of propagation; computed once for the weights as they are."""
        if self.graph is None:
            raise RuntimeError("LightGCN has no graph yet; call bind(train) first")
        state = (self.user_table.weight._version, self.item_table.weight._version, torch.is_grad_enabled(),
                 self.training)  # loading and averaging raise the versions
        if self.cached is None or self.cached[0] != state:
            operators = self.graph.whole
            if self.training and self.edge_drop_max:
                operators = self.graph.operators(float(torch.rand(())) * self.edge_drop_max)
            few = self.training and self.n_layers > 0 and self.user_table.weight.device.type == "cpu"
            made = Rows if few else whole
            self.cached = state, made(self.user_table(), self.item_table(), operators, self.n_layers)
        return self.cached[1]

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: everything but vectors that hang on this network's autograd graph."""
        return self.__dict__ | {"cached": None}

    def users(self, query: Query) -> Tensor:
        """(b, d)."""
        return self.propagated()(0, query.users)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, d), or (n_items, d)."""
        return self.propagated()(1, ids)

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of layer 0."""
        return self.user_table(query.users), self.item_table(ids)


def whole(users: Tensor, items: Tensor, operators: Operators, n_layers: int) -> Callable[[int, Tensor | None], Tensor]:
    """As :class:`recot.nn.lookup.Rows`, with all rows made at once."""
    ends = propagate(users, items, operators, n_layers)
    return lambda side, ids: ends[side] if ids is None else ends[side][ids]
