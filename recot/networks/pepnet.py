"""PEPNet as pre-training: one table of users and one of items, gated by domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.interactions import Domain
from recot.data.questions import Query
from recot.networks.domains import ByDomain
from recot.nn.table import Table
from recot.request.limits import check


class Gate(nn.Module):
    """``2 sigmoid(W_2 relu(W_1 [context ; vector] + b_1) + b_2)``, and the vector gets no gradient through it.

    W_1 starts by He, all others at zero: the gates start at 1.

    Args:
        dim: width d of contexts, vectors and gates. rate: what the steps of its weights are multiplied by.
    """

    def __init__(self, dim: int, rate: float):
        super().__init__()
        # Adam's steps do not depend on the scale of a gradient, so a weight that is ``rate`` times a parameter takes
        # steps of ``rate`` times the learning rate.
        self.rate = rate
        self.hidden, self.output = nn.Linear(2 * dim, dim), nn.Linear(dim, dim)
        nn.init.normal_(self.hidden.weight, std=dim ** -0.5 / rate)  # He: sqrt(2 / fan in)
        for zero in (self.hidden.bias, self.output.weight, self.output.bias):
            nn.init.zeros_(zero)

    def forward(self, context: Tensor, vectors: Tensor) -> Tensor:
        """(..., d) gates in 0..2, of contexts and vectors that broadcast to (..., d)."""
        of_context, of_vector = (self.rate * self.hidden.weight).chunk(2, 1)  # (d, d) each
        inner = F.linear(context, of_context, self.rate * self.hidden.bias) + F.linear(vectors.detach(), of_vector)
        return 2 * F.linear(inner.relu(), self.rate * self.output.weight, self.rate * self.output.bias).sigmoid()


class PEPNet(ByDomain):
    """Vectors of users and items, each coordinate scaled by a gate that sees the domain (PEPNet; UCLR Table 6).

    With D a vector for each domain, d(i) the domain of item i and sg(.) without gradient::

        u^d = gate_U([D_d ; sg(E_u)]) * E_u,  q_i = gate_V([D_d(i) ; sg(Q_i)]) * Q_i,  score = <u^d(i), q_i>

    All gates start at 1, where the scores are those of matrix factorisation with one table of users.

    Args:
        n_users, n_items: sizes. domains: the ranges of items; none are one of all items.
        dim: width of all vectors. std: deviation of the normal that the tables and D start from.
        gate_rate: the steps of the gates' weights over those of the tables (exact for Adam without weight decay).
        export: what a later stage goes on from. ``gated``: the mean of a user's vectors, and q. ``raw``: the tables.

    Raises:
        ValueError: a parameter is out of its range.

    Source: Chang et al. (KDD 2023), the EPNet; as TorchEasyRec, FuxiCTR and Scenario-Wise-Rec have its gate.

    Departures: UCLR says neither how PEPNet gives vectors to compare by inner product nor which ones it goes on from;
    this reading is ours. There is no PPNet, which gates the hidden layers of a tower; there is no tower here.
    ``gate_rate`` is ours: an L2 penalty is on the tables only, and at the full rate gates go to 2 in a few hundred
    steps, where they only scale the tables.
    """

    def __init__(self, n_users: int, n_items: int, domains: Sequence[Domain] = (), dim: int = 128, std: float = 0.01,
                 gate_rate: float = 0.1, export: Literal["gated", "raw"] = "gated"):
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("std", std, std > 0, "lets no gradient through; give more than 0, for example 0.01"),
              ("gate_rate", gate_rate, gate_rate > 0, "divides; give more than 0, and 1 for the rate of the tables"))
        super().__init__(n_items, domains)
        self.user_table, self.item_table = Table(n_users, dim), Table(n_items, dim)
        self.contexts = nn.Parameter(torch.empty(len(self.domains), dim))
        for weight in (self.user_table.weight, self.item_table.weight, self.contexts):
            nn.init.normal_(weight, std=std)
        self.user_gate, self.item_gate = Gate(dim, gate_rate), Gate(dim, gate_rate)
        self.export = export

    def views(self, query: Query) -> Tensor:
        """(b, n, dim)."""
        vectors = self.user_table(query.users)[:, None]  # (b, 1, dim)
        return self.user_gate(self.contexts, vectors) * vectors  # (b, n, dim)

    def vectors(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, dim)."""
        vectors = self.item_table(ids)
        return self.item_gate(self.contexts[self.domain if ids is None else self.domain[ids]], vectors) * vectors

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the tables."""
        return self.user_table(query.users), self.item_table(ids)

    def pretrained(self, query: Query) -> tuple[Tensor, Tensor]:
        """(b, dim) and (n_items, dim), see ``export``."""
        if self.export == "raw":
            return self.user_table(query.users), self.item_table()
        return self.views(query).mean(1), self.vectors()
