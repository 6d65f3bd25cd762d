"""BUIR: an online encoder predicts a slowly moving one, across observed pairs; no negatives."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.networks.factorisation import Tables
from recot.networks.lightgcn import LightGCN
from recot.nn import similarity
from recot.nn.table import follow
from recot.request.limits import check


class BUIR(TwoTower):
    """Bootstrapped user and item representations (BUIR; SCLRec Table 2).

    The score ``q(f(u)).f(i) + f(u).q(f(i))`` of the online encoder f and the predictor q is the inner product of
    ``[q(f(u)); f(u)]`` and ``[f(i); q(f(i))]``, unnormalised.

    Args:
        n_users, n_items: sizes.
        dim: width d of the encoder.
        encoder: ``tables`` is BUIR-ID, ``lightgcn`` BUIR-NB. n_layers, edge_drop_max: of the latter.
        momentum: of the target, ``target = momentum * target + (1 - momentum) * online`` after each step.
        bias: of the predictor at the start: ``zero``, or ``normal`` with deviation 1 as the authors have it.

    Raises:
        ValueError: ``momentum`` is out of 0..1, or a parameter of the encoder is.

    Source: Lee et al. (SIGIR 2021), Bootstrapping User and Item Representations.

    Departures: the SCLRec paper does not say which variant it ran; the weak row on Gowalla fits BUIR-ID, also the
    default of the library it most likely used. d = 64 and the schedule are SCLRec's; the authors have d = 250. The bias
    starts at 0 as in that library. Edge dropout of BUIR-NB, which its paper relies on, is off in the authors' script by
    default and on here.
    """

    objectives = ("Bootstrap",)

    alike = True  # edges are left out of one graph

    def __init__(self, n_users: int, n_items: int, dim: int = 64, encoder: Literal["tables", "lightgcn"] = "tables",
                 n_layers: int = 3, edge_drop_max: float = 0.2, momentum: float = 0.995,
                 bias: Literal["zero", "normal"] = "zero"):
        super().__init__()
        check("model", ("momentum", momentum, 0 <= momentum <= 1, "is a share; give 0 to 1, the authors use 0.995"))
        self.similarity, self.momentum = similarity.dot, momentum
        self.online: TwoTower = Tables(n_users, n_items, dim) if encoder == "tables" else LightGCN(
            n_users, n_items, dim, n_layers, edge_drop_max=edge_drop_max)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor = nn.Linear(dim, dim)
        nn.init.xavier_normal_(self.predictor.weight)
        if bias == "normal":
            nn.init.normal_(self.predictor.bias)
        else:
            nn.init.zeros_(self.predictor.bias)

    def bind(self, train: Interactions) -> None:
        """Give both encoders the training set."""
        self.online.bind(train)
        self.target.bind(train)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the target towards the online encoder."""
        self.online.after_step()
        follow(self.target, self.online, 1 - self.momentum)

    def predictions(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the online side predicts for b users and b items; (b, d) each."""
        return self.predictor(self.online.users(query)), self.predictor(self.online.items(ids))

    @torch.no_grad()
    def targets(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The slow vectors of b users and b items; (b, d) each, without gradients."""
        return self.target.users(query), self.target.items(ids)

    def users(self, query: Query) -> Tensor:
        """(b, 2 d)."""
        z = self.online.users(query)  # (b, d)
        return torch.cat([self.predictor(z), z], -1)  # (b, 2d)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, 2 d), or (n_items, 2 d)."""
        v = self.online.items(ids)
        return torch.cat([v, self.predictor(v)], -1)  # (*ids.shape, 2d)
