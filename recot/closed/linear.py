"""Linear autoencoders: weights between items by least squares on the training rows."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import lapack
from torch import Tensor

from recot.closed.factors import matrix
from recot.closed.items import ENTRIES, ItemToItem, taken
from recot.data.questions import Query, Split
from recot.request.limits import check

WELL_POSED = 1e-5
"""Share of the trace of a Gram matrix from which a ridge makes float32 enough: its condition is then below 1e5."""


class EASE(ItemToItem):
    """Scores by the weights B that minimise ``|X - X B|^2 + ridge |B|^2`` with a zero diagonal, in closed form.

    With ``P = (X^T X + ridge)^-1``, ``B_ij = -P_ij / P_jj``. The inverse is made in place, by Cholesky: in float32, and
    in float64 where the ridge is below 1e-5 of the sum of the squared weights of all pairs. Memory: items x items
    numbers once, and again in float32 where they were float64; 1.6 GB for 20,000 items, or 4.8 GB.

    Args:
        ridge: of the squared weights.

    Attributes:
        weights: (n_items, n_items) float32; row: an item of the history, column: an item to score.

    Raises:
        ValueError: ``ridge`` is not positive, or too small for float64.

    Source: Steck (WWW 2019), Embarrassingly Shallow Autoencoders for Sparse Data, Eq. 8.

    Departures: none. The paper has no weights of pairs; here they are the entries of X.
    """

    weights: np.ndarray

    def __init__(self, ridge: float = 500.0):
        check("model", ("ridge", ridge, ridge > 0, "would divide by zero; give more than 0, for example 500"))
        self.ridge = ridge

    def fit(self, split: Split) -> Self:
        """Invert the Gram matrix."""
        x = matrix(split.train)
        single = self.ridge >= WELL_POSED * float((x.data ** 2).sum())
        inverse = gram(x, np.float32 if single else np.float64)
        np.einsum("ii->i", inverse)[:] += self.ridge
        invert(inverse)
        inverse /= -inverse.diagonal()
        np.einsum("ii->i", inverse)[:] = 0
        self.weights = inverse.astype(np.float32, copy=False)
        return self

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, on the CPU."""
        return torch.from_numpy(taken(query, len(self.weights)) @ self.weights)  # (b, n_items)


def gram(x: sparse.csr_array, kind: type[np.floating]) -> np.ndarray:
    """(n, n) of numbers of ``kind``: ``x.T @ x`` of ``x``, (m, n), a block of rows at a time."""
    columns, n = x.T.tocsr(), x.shape[1]
    step, out = max(1, ENTRIES // n), np.empty((n, n), kind)
    for start in range(0, n, step):
        out[start:start + step] = (columns[start:start + step] @ x).toarray()
    return out


def invert(a: np.ndarray) -> None:
    """Put the inverse of ``a``, (n, n), symmetric and positive definite, in its place.

    Raises:
        ValueError: ``a`` is not positive definite in its precision.
    """
    kind, upper = "s" if a.dtype == np.float32 else "d", a.T  # of the order that LAPACK overwrites
    _, failed = getattr(lapack, f"{kind}potrf")(upper, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise ValueError("the Gram matrix of the training rows with model.ridge on its diagonal has no inverse in "
                         "float64; give a larger model.ridge, for example 500")
    getattr(lapack, f"{kind}potri")(upper, lower=1, overwrite_c=1)
    step = max(1, ENTRIES // len(a))
    for start in range(0, len(a), step):  # what LAPACK leaves is one half, here the upper one
        rows = slice(start, start + step)
        square = a[rows, rows]
        square[:] = np.triu(square) + np.triu(square, 1).T
        a[start + step:, rows] = a[rows, start + step:].T
