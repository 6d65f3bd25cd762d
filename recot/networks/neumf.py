"""A network in place of the inner product: products of factors, and a tower over two vectors side by side."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn.table import Table
from recot.request.limits import check

ENTRIES = 2**24
"""Numbers of the first layer of all pairs that are held at a time: 64 MB in float32."""


class Matching(nn.Module):
    """How well a user and an item match: ``w.[p q; tower(relu(a + b))] + bias`` of vectors ``[p; a]`` and ``[q; b]``.

    It stands where other networks have an inner product. The sum a + b is the first layer of the tower, split into what
    is made of the user and what is made of the item, so that all pairs of b users and n items cost one addition each.

    Args:
        factors: width of p and q; 0 for none. layers: widths of the tower, of which a and b have the first one.
    """

    def __init__(self, factors: int, layers: list[int]):
        super().__init__()
        self.factors, self.width = factors, layers[0]
        tower = [nn.Linear(wide, narrow) for wide, narrow in pairwise(layers)]
        self.tower, self.output = nn.ModuleList(tower), nn.Linear(factors + layers[-1], 1)
        for layer in tower:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.uniform_(self.output.weight, -sqrt(3 / self.output.in_features), sqrt(3 / self.output.in_features))
        nn.init.zeros_(self.output.bias)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(..., m, d), (..., n, d) -> (..., m, n), some items at a time."""
        pairs_of_an_item = users.numel() // users.shape[-1] * self.width
        step = max(1, ENTRIES // max(1, pairs_of_an_item))
        return torch.cat([self.matched(users, part) for part in items.split(step, -2)], -1)  # (..., m, n)

    def matched(self, users: Tensor, items: Tensor) -> Tensor:
        """(..., m, d), (..., n, d) -> (..., m, n), all at once."""
        f, weight = self.factors, self.output.weight[0]
        z = (users[..., :, None, f:] + items[..., None, :, f:]).relu()  # (..., m, n, width)
        for layer in self.tower:
            z = layer(z).relu()
        scores = z @ weight[f:] + self.output.bias  # (..., m, n)
        return scores + (users[..., :f] * weight[:f]) @ items[..., :f].mT if f else scores


class NeuMF(TwoTower):
    """Generalised matrix factorisation and a tower over the vectors of a user and an item, added up by one last layer.

    Args:
        n_users, n_items: sizes.
        factors: width f of the vectors that are multiplied; 0 leaves these out, as in SinkhornCF's Table 4.
        dim: width of the vectors that the tower reads, half of its input.
        layers: widths of the tower's layers, each with a ReLU behind it.
        std: deviation of the normal that the tables start from.
        fold_in: who has a vector. ``none``: training users, and no one else is served. ``transductive``: the histories
            of the users who are asked about are trained on as well.

    Raises:
        ValueError: a width is not positive, or ``std``.

    Source: He et al. (WWW 2017), Neural Collaborative Filtering, Sec. 3.4, and the authors' program.

    Departures: the tables of both parts are trained together from the start; the paper also trains each by itself
    first and joins them. The score is the logit. Losses over whole rows are SinkhornCF's.
    """

    objectives = ("BCE", "BPR", "RowBCE", "SampledRowBCE", "Multinomial", "Squared", "Sinkhorn")

    def __init__(self, n_users: int, n_items: int, factors: int = 8, dim: int = 32,
                 layers: list[int] = [32, 16, 8],  # noqa: B006  # read and never changed; a config gives lists
                 std: float = 0.01, fold_in: Literal["none", "transductive"] = "none"):
        super().__init__()
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"),
              ("factors", factors, factors >= 0, "is the width of the vectors; give 1 or more, or 0 for none"),
              ("layers", layers, len(layers) > 0 and min(layers, default=0) >= 1,
               "are the widths of the tower; give one or more of 1 or more, for example [32, 16, 8]"),
              ("std", std, std > 0, "lets no gradient through; give more than 0, for example 0.01"))
        self.factors, self.similarity = factors, Matching(factors, layers)
        self.user_table, self.item_table = Table(n_users, factors + dim), Table(n_items, factors + dim)
        self.of_user, self.of_item = nn.Linear(dim, layers[0]), nn.Linear(dim, layers[0], bias=False)
        for table in (self.user_table, self.item_table):
            nn.init.normal_(table.weight, std=std)
        limit = sqrt(6 / (2 * dim + layers[0]))  # Glorot's, of the one layer that both halves are
        for half in (self.of_user, self.of_item):
            nn.init.uniform_(half.weight, -limit, limit)
        nn.init.zeros_(self.of_user.bias)

    def users(self, query: Query) -> Tensor:
        """(b, f + layers[0]): factors, and the user's half of the tower's first layer."""
        vectors = self.user_table(query.users)
        return torch.cat([vectors[:, :self.factors], self.of_user(vectors[:, self.factors:])], -1)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, f + layers[0]), or (n_items, f + layers[0])."""
        vectors = self.item_table(ids)
        return torch.cat([vectors[..., :self.factors], self.of_item(vectors[..., self.factors:])], -1)

    def free(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`TwoTower`; the rows of the tables."""
        return self.user_table(query.users), self.item_table(ids)
