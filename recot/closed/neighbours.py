"""Item neighbourhoods: what a user took recommends what resembles it."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.questions import Query, Split
from recot.evaluation.recommender import Recommender
from recot.request.limits import check

ENTRIES = 2**22  # similarities computed at a time


class ItemKNN(Recommender):
    """Scores an item by its similarity to those of its nearest neighbours that the user took.

    The similarity of two items is the cosine of their columns of training weights, shrunk where little stands behind
    it: ``x_i.x_j / (|x_i| |x_j| + shrink)``, and 0 of an item to itself. Each item keeps its k most similar ones, ties
    by item number. Inductive: a history is all it needs, and every item in it counts as one. Memory: k similarities an
    item, and while fitting about 40 bytes for each of ``ENTRIES``; never items x items.

    Args:
        k: neighbours of an item. shrink: added to the denominator.

    Raises:
        ValueError: k is below 1, or shrink below 0.

    Source: Sarwar et al. (WWW 2001), Secs. 3.1.1 and 3.2.1; the shrinkage, and why a tuned neighbourhood belongs among
    the floors, from Ferrari Dacrema et al. (RecSys 2019).

    Departures: the score is the sum over neighbours, and Sarwar et al. divide it by the sum of their similarities to
    predict a rating; among items taken or not, that would score 1 whatever has one similar item and no other. Ferrari
    Dacrema et al. also search other similarities, and TF-IDF or BM25 weights of the columns, which are not here.
    """

    inductive = True
    weighted = True

    def __init__(self, k: int = 100, shrink: float = 0.0):
        check("model", ("k", k, k >= 1, "leaves an item without neighbours; give 1 or more, for example 100"),
              ("shrink", shrink, shrink >= 0, "could divide by zero; give 0 or more, for example 10"))
        self.k, self.shrink = k, shrink

    def fit(self, split: Split) -> Self:
        """Find the neighbours of every item."""
        train = split.train.to("cpu")
        n = train.n_items
        x = sparse.csr_array((train.weights.double().numpy(), (train.users.numpy(), train.items.numpy())),
                             (train.n_users, n))
        columns, step = x.T.tocsr(), max(1, ENTRIES // n)
        norm = np.sqrt(columns.multiply(columns).sum(1))  # (n_items,)
        blocks = [self.nearest(columns[start:start + step] @ x, norm, start) for start in range(0, n, step)]
        self.similarity = sparse.vstack(blocks).T.tocsr()  # (n_items in the history, n_items to score)
        return self

    def nearest(self, products: sparse.csr_array, norm: np.ndarray, start: int) -> sparse.csr_array:
        """The similarities kept of the items from ``start`` on, (b, n_items), from the products of their columns."""
        found = products.tocoo()
        rows, items = found.coords
        kept = (items != rows + start) & (found.data > 0)  # pairs of weight zero leave products that are
        rows, items = rows[kept], items[kept]
        similarity = found.data[kept] / (norm[rows + start] * norm[items] + self.shrink)
        order = np.lexsort((items, -similarity, rows))
        rows, items, similarity = rows[order], items[order], similarity[order]
        first = np.searchsorted(rows, np.arange(products.shape[0]))  # (b,)
        near = np.arange(len(rows)) - first[rows] < self.k
        return sparse.csr_array((similarity[near].astype(np.float32), (rows[near], items[near])), products.shape)

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, on the CPU."""
        history = query.history.to("cpu")
        taken = sparse.csr_array((np.ones(len(history.values), np.float32), history.values.numpy(),
                                  history.offsets.numpy()), (len(history), self.similarity.shape[0]))
        return torch.from_numpy((taken @ self.similarity).toarray())  # (b, n_items)
