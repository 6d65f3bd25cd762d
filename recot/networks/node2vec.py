"""node2vec: a vector for each node of the graph of users and items, by walks on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.networks.base import TwoTower
from recot.nn import similarity
from recot.nn.table import Table
from recot.request.limits import check


class Node2Vec(TwoTower):
    """Vectors of users and items as nodes of one graph, those that meet on walks being alike (GA-MTCDR, its stage 1).

    User u is row u and item i is row ``n_users + i``. A node without a training pair has the vector 0. By itself the
    network ranks by the cosine.

    Args:
        n_users, n_items: sizes. dim: width m of the vectors.

    Attributes:
        centres, contexts: tables of n_users + n_items rows: what a node is, and how it looks to nodes near it.

    Raises:
        ValueError: ``dim`` is not positive.

    Source: Grover and Leskovec (KDD 2016), with return and in-out parameters of one, where a walk draws uniformly
    among neighbours; vectors start as those of word2vec do.

    Departures: of the objective, see :class:`recot.objectives.walks.SkipGram`. The authors of GA-DTCDR look rows up by
    the id of a user although theirs are sorted by frequency, so that users get vectors of other nodes; here a row
    is found by its node.
    """

    objectives = ("SkipGram",)

    def __init__(self, n_users: int, n_items: int, dim: int = 128):
        super().__init__()
        check("model", ("dim", dim, dim >= 1, "is the width of the vectors; give 1 or more"))
        self.similarity, self.n_users, self.n_items = similarity.cosine, n_users, n_items
        self.centres, self.contexts = Table(n_users + n_items, dim), Table(n_users + n_items, dim)
        nn.init.uniform_(self.centres.weight, -0.5 / dim, 0.5 / dim)
        nn.init.zeros_(self.contexts.weight)

    @torch.no_grad()
    def bind(self, train: Interactions) -> None:
        """Set the vectors of nodes without a training pair to 0; no gradient will reach them."""
        degree = torch.cat([train.activity, train.popularity])  # (n_users + n_items,)
        self.centres.weight.mul_((degree > 0)[:, None])

    def users(self, query: Query) -> Tensor:
        """(b, m)."""
        return self.centres(query.users)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """(*ids.shape, m), or (n_items, m)."""
        return self.centres()[self.n_users:] if ids is None else self.centres(ids + self.n_users)
