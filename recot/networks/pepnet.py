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
        dim: width d of contexts, vectors and gates.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.hidden, self.output = nn.Linear(2 * dim, dim), nn.Linear(dim, dim)
        nn.init.kaiming_normal_(self.hidden.weight)
        for zero in (self.hidden.bias, self.output.weight, self.output.bias):
            nn.init.zeros_(zero)

    def forward(self, context: Tensor, vectors: Tensor) -> Tensor:
        """(..., d) gates in 0..2, of contexts and vectors that broadcast to (..., d)."""
        of_context, of_vector = self.hidden.weight.chunk(2, 1)  # (d, d) each
        inner = F.linear(context, of_context, self.hidden.bias) + F.linear(vectors.detach(), of_vector)  # (..., d)
        return 2 * torch.sigmoid(self.output(inner.relu()))


class PEPNet(ByDomain):
    """Vectors of users and items, each coordinate scaled by a gate that sees the domain (PEPNet; UCLR Table 6).

    With D a vector for each domain, d(i) the domain of item i and sg(.) without gradient::

        u^d = gate_U([D_d ; sg(E_u)]) * E_u,  q_i = gate_V([D_d(i) ; sg(Q_i)]) * Q_i,  score = <u^d(i), q_i>

    All gates start at 1, where the scores are those of matrix factorisation with one table of users.

    Args:
        n_users, n_items: sizes. domains: the ranges of items; none are one of all items.
        dim: width of all vectors. std: deviation of the normal that the tables and D start from.
        export: what a later stage goes on from. ``gated``: the mean of a user's vectors, and q. ``raw``: the tables.

    Raises:
        ValueError: a parameter is out of its range.

    Source: Chang et al. (KDD 2023), the EPNet; as TorchEasyRec, FuxiCTR and Scenario-Wise-Rec have its gate.

    Departures: UCLR says neither how PEPNet gives vectors to compare by inner product nor which ones it goes on from;
    this reading is ours. There is no PPNet, which gates the hidden layers of a tower; there is no tower here.
    ``trainer.weight_decay`` is on the gates alone, the penalty on the tables. Without it all gates are 2.000 after
    88 steps on amazon_kbe, with a deviation of 0.0002, and only scale the tables; a tenth of the learning rate makes
    that 300 steps. With 0.01 they stay near 1.7, deviate by 0.05 and differ by domain; validation is the same.
    """

    undecayed = ("user_table.weight", "item_table.weight", "contexts")

    def __init__(self, n_users: int, n_items: int, domains: Sequence[Domain] = (), dim: int = 128, std: float = 0.01,
                 export: Literal["gated", "raw"] = "gated"):
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("std", std, std > 0, "lets no gradient through; give more than 0, for example 0.01"))
        super().__init__(n_items, domains)
        self.user_table, self.item_table = Table(n_users, dim), Table(n_items, dim)
        self.contexts = nn.Parameter(torch.empty(len(self.domains), dim))
        for weight in (self.user_table.weight, self.item_table.weight, self.contexts):
            nn.init.normal_(weight, std=std)
        self.user_gate, self.item_gate = Gate(dim), Gate(dim)
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
