"""Matrix factorisation of whole rows: few dimensions, and a ridge regression for users who have no vector."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.networks.factorisation import Tables
from recot.nn.precision import in_float32
from recot.request.limits import check


class MF(Tables):
    """Embedding tables of few dimensions that are to reproduce whole rows (SinkhornCF, Tables 3 to 5).

    Args:
        n_users, n_items: sizes.
        dim: width d of the vectors. std: deviation of the normal that both tables start from.
        fold_in: who has a vector. ``none``: training users, and no one else is served. ``transductive``: the histories
            of the users who are asked about are trained on as well. ``als``: while not training, every user is answered
            by the vector that solves ``min_u |x - V u|^2 + ridge |u|^2`` for the row x of the history and the item
            vectors V, so that it makes no difference who trained.
        ridge: of that regression.

    Attributes:
        inductive: true where ``fold_in`` is ``als``.

    Raises:
        ValueError: a parameter is out of its range.

    Source: Koren et al. (2009), Matrix Factorization Techniques for Recommender Systems, without biases; the width is
    SinkhornCF's.

    Departures: SinkhornCF says neither how the tables start nor how users are served who did not train; both are our
    choice. From a standard normal, 200 epochs of the squared error end below popularity.
    """

    inductive_if = {"fold_in": ("als",)}

    def __init__(self, n_users: int, n_items: int, dim: int = 16, std: float = 0.05,
                 fold_in: Literal["none", "transductive", "als"] = "none", ridge: float = 1.0):
        super().__init__(n_users, n_items, dim)
        check("model", ("std", std, std > 0, "lets no gradient through; give more than 0, for example 0.05"),
              ("ridge", ridge, ridge > 0, "could divide by zero; give more than 0, for example 1"))
        self.inductive, self.ridge = fold_in == "als", ridge
        for table in (self.user_table, self.item_table):
            nn.init.normal_(table.weight, std=std)

    def users(self, query: Query) -> Tensor:
        """(b, d)."""
        if self.training or not self.inductive:
            return super().users(query)
        return self.folded(query.history)

    def folded(self, history: Ragged) -> Tensor:
        """(b, d): the vectors that reproduce the rows of ``history`` best, see ``fold_in``."""
        items = self.item_table()
        summed = F.embedding_bag(history.values, items, history.offsets, mode="sum", include_last_offset=True)  # (b, d)
        return regressed(summed, items, self.ridge)


@in_float32
def regressed(summed: Tensor, items: Tensor, ridge: float) -> Tensor:
    """``(V^T V + ridge)^-1 s`` of each row s of ``summed``, (b, d), and V the ``items``, (n, d); (b, d)."""
    normal = items.T @ items + ridge * torch.eye(items.shape[1], device=items.device, dtype=items.dtype)  # (d, d)
    return torch.cholesky_solve(summed.T, torch.linalg.cholesky(normal)).T  # (b, d)
