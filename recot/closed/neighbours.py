"""Item neighbourhoods: what a user took recommends what resembles it."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.split import Query, Split

BLOCK = 1024  # item rows of the similarity computed at a time


class ItemKNN:
    """Scores an item by the similarity of its nearest neighbours that the user took. Inductive.

    The similarity of two items is the cosine of their columns of users, shrunk where few users stand behind it:
    ``x_i.x_j / (|x_i| |x_j| + shrink)``. Every item keeps its k largest similarities, ties by item number.

    Args:
        k: neighbours per item. shrink: added to the denominator.

    Raises:
        ValueError: k is below 1 or shrink negative.

    Source: Sarwar et al. (WWW 2001), with the shrinkage of Dacrema et al. (RecSys 2019), whose tuned neighbourhoods are
    the floor this is meant to be. Memory: k entries per item and ``BLOCK`` x n_items floats while fitting.

    Departures: no weighting of the columns (TF-IDF, BM25), which those authors search as well.
    """

    inductive = True

    def __init__(self, k: int = 100, shrink: float = 10.0):
        if k < 1 or shrink < 0:
            raise ValueError(f"model.k = {k} or model.shrink = {shrink} is out of range: k is 1 or more, shrink 0 or "
                             "more")
        self.k, self.shrink = k, shrink

    def fit(self, split: Split) -> Self:
        """Compute the neighbours."""
        train = split.train.to("cpu")
        self.n_items = train.n_items
        x = sparse.csr_matrix((np.ones(len(train), np.float32), (train.users.numpy(), train.items.numpy())),
                              (train.n_users, train.n_items))
        columns = x.T.tocsr()  # (n_items, n_users)
        norm = np.sqrt(np.asarray(columns.sum(1))).ravel()  # (n_items,), the entries are ones
        parts = [self.nearest((columns[start:start + BLOCK] @ x).toarray(), norm, start)
                 for start in range(0, self.n_items, BLOCK)]
        self.similarity = sparse.vstack(parts).T.tocsr()  # (n_items taken, n_items recommended)
        return self

    def nearest(self, products: np.ndarray, norm: np.ndarray, start: int) -> sparse.csr_matrix:
        """The k nearest neighbours of the items from ``start`` on; ``products`` (b, n_items) of their columns."""
        own = np.arange(len(products))
        similarity = products / (norm[start:start + len(products), None] * norm + self.shrink + 1e-12)
        similarity[own, own + start] = 0.0
        k = min(self.k, self.n_items)
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]  # (b, k)
        values = np.take_along_axis(similarity, order, 1)
        found = sparse.csr_matrix((values.ravel(), order.ravel(), np.arange(0, values.size + 1, k)), products.shape)
        found.eliminate_zeros()
        return found

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32."""
        history = query.history.to("cpu")
        taken = sparse.csr_matrix((np.ones(len(history.values), np.float32), history.values.numpy(),
                                   history.offsets.numpy()), (len(history), self.n_items))
        return torch.from_numpy((taken @ self.similarity).toarray().astype(np.float32))  # (b, n_items)
