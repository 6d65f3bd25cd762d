"""What scores by one weight for each pair of items: that with which a taken item speaks for another one."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.questions import Query
from recot.evaluation.recommender import Recommender

ENTRIES = 2**22
"""Numbers of a block of items x items that are held at a time."""


class ItemToItem(Recommender):
    """The score of an item is the sum of the weights with which the items of the history speak for it.

    Inductive: a history is all it needs, and every item in it counts as one.

    Attributes:
        similarity: (n_items, n_items) float32; row: an item of the history, column: an item to score.
    """

    inductive = True
    weighted = True
    similarity: sparse.csr_array

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, on the CPU."""
        return torch.from_numpy((taken(query, self.similarity.shape[0]) @ self.similarity).toarray())  # (b, n_items)


def taken(query: Query, n_items: int) -> sparse.csr_array:
    """(b, n_items) float32: one where an item is in the history of a question."""
    history = query.history.to("cpu")
    return sparse.csr_array((np.ones(len(history.values), np.float32), history.values.numpy(),
                             history.offsets.numpy()), (len(history), n_items))


def largest(rows: sparse.csr_array, k: int) -> sparse.csr_array:
    """The ``k`` largest entries of each row that are above zero, ties by column; of the shape of ``rows``."""
    entries = rows.tocoo()
    row, column = entries.coords
    kept = entries.data > 0
    row, column, data = row[kept], column[kept], entries.data[kept]
    order = np.lexsort((column, -data, row))
    row, column, data = row[order], column[order], data[order]
    first = np.searchsorted(row, np.arange(rows.shape[0]))  # (b,)
    near = np.arange(len(row)) - first[row] < k
    return sparse.csr_array((data[near], (row[near], column[near])), rows.shape)


def largest_of_columns(matrix: sparse.csr_array, k: int) -> sparse.csr_array:
    """The ``k`` largest entries of each column that are above zero, ties by row; a block of columns at a time."""
    turned = matrix.T.tocsr()
    step = max(1, ENTRIES // max(1, turned.shape[1]))
    blocks = [largest(turned[start:start + step], k) for start in range(0, turned.shape[0], step)]
    return sparse.vstack(blocks).T.tocsr()
