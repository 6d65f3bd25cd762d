"""Sparse linear autoencoders: few non-negative weights for each item, all columns of a block at once."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from scipy.linalg import lapack
from torch import Tensor

from recot.closed.factors import matrix
from recot.closed.items import ENTRIES, ItemToItem, largest
from recot.closed.linear import gram
from recot.data.questions import Split
from recot.request.limits import check

ROWS = 128
"""Rows of the weights between two products with the Gram matrix."""

SWEEPS = 1000
"""Sweeps after which a block is refused; some ten are enough."""


class SLIM(ItemToItem):
    """Scores by sparse non-negative weights of which each column reproduces an item from all others.

    Column j minimises ``|x_j - X w|^2 / (2 U) + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) / 2 |w|^2`` over w >= 0
    with w_j = 0, for U users. So ``alpha`` and ``l1_ratio`` are those of scikit-learn's ElasticNet. Each column keeps
    its k largest weights, ties by item number.

    A block of columns is solved on the Gram matrix: a sweep moves each coordinate to its best value, and then each
    column to the best point on the coordinates that are above zero. It ends when no coordinate moves by more than
    ``tolerance`` in a sweep. Memory: items x items numbers in float32, 1.6 GB for 20,000 items, and some 20 bytes for
    each of ``ENTRIES``.

    Args:
        alpha: weight of the penalty. l1_ratio: share of the absolute values in it, in 0..1; the rest are squares.
        k: weights that a column keeps. tolerance: largest step that is left to any weight.

    Raises:
        ValueError: a parameter is out of its range, or the weights do not settle.

    Source: Ning and Karypis (ICDM 2011), SLIM: Sparse Linear Methods for Top-N Recommender Systems; in the form of an
    elastic net with k weights, Levy and Jack (2013) and Ferrari Dacrema et al. (RecSys 2019).

    Departures: the code of Ferrari Dacrema et al. keeps one weight fewer where at most k are above zero. The papers
    have no weights of pairs; here they are the entries of X.
    """

    def __init__(self, alpha: float = 1e-3, l1_ratio: float = 0.1, k: int = 100, tolerance: float = 1e-4):
        check("model", ("alpha", alpha, alpha > 0, "leaves weights undetermined; give more than 0, for example 1e-3"),
              ("l1_ratio", l1_ratio, 0 <= l1_ratio <= 1, "is a share; give 0 to 1, for example 0.1"),
              ("k", k, k >= 1, "leaves an item without neighbours; give 1 or more, for example 100"),
              ("tolerance", tolerance, tolerance >= 1e-6, "is below what float32 resolves; give 1e-6 or more"))
        self.k, self.tolerance = k, tolerance
        self.absolute, self.ridge = alpha * l1_ratio, alpha * (1 - l1_ratio)

    def fit(self, split: Split) -> Self:
        """Solve for all columns, a block at a time."""
        x = matrix(split.train)
        order = np.argsort(-x.sum(0), kind="stable")  # what is above zero then lies side by side, mostly
        back, n = np.argsort(order), x.shape[1]
        products = torch.from_numpy(gram(x[:, order], np.float32)).div_(x.shape[0])  # (n_items, n_items)
        blocks = [largest(sparse.csr_array(self.solved(products, columns).T.numpy()[:, back]), self.k)
                  for columns in torch.arange(n).split(max(1, ENTRIES // n))]
        self.similarity = sparse.vstack(blocks)[back].T.tocsr()
        return self

    def solved(self, products: Tensor, columns: Tensor) -> Tensor:
        """(n, c): the weights of ``columns``, (c,), from the Gram matrix divided by U, (n, n).

        Raises:
            ValueError: they do not settle.
        """
        out, left = products.new_zeros(len(products), len(columns)), torch.arange(len(columns))
        pull = products[:, columns] - self.absolute  # (n, c)
        for _ in range(SWEEPS):
            w = out[:, left]
            moved = sweep(products, w, pull[:, left], columns[left], self.ridge)
            out[:, left] = w
            left = left[moved > self.tolerance]
            if not len(left):
                return out
            rows = zip(out.T[left].numpy(), pull.T[left].numpy(), strict=True)  # a column's numbers side by side
            best = np.stack([settled(products.numpy(), *row, self.ridge) for row in rows])  # (c', n)
            out[:, left] = torch.from_numpy(best).T
        raise ValueError(f"{len(left)} columns of model=slim still move by more than model.tolerance = "
                         f"{self.tolerance} after {SWEEPS} sweeps; give a larger model.tolerance or model.alpha")


def sweep(products: Tensor, w: Tensor, pull: Tensor, columns: Tensor, ridge: float) -> Tensor:
    """Move each coordinate in turn to where it is best, in all columns at once; (c,) the largest move of each column.

    Args:
        products: (n, n). w: (n, c), changed. pull: (n, c), what is gained by a weight at zero.
        columns: (c,), the coordinate of each column that stays zero. ridge: of the squared weights.
    """
    moved, diagonal = w.new_zeros(w.shape[1]), products.diagonal()
    own = dict(zip(columns.tolist(), range(len(columns)), strict=True))
    steepness = (diagonal + ridge).clamp(min=1e-30).tolist()  # an item without users is never gained by
    for start in range(0, len(w), ROWS):
        rows = slice(start, start + ROWS)
        among, slope = products[rows, rows], pull[rows] - products[rows] @ w  # (r, r), (r, c)
        for place, coordinate in enumerate(range(start, min(len(w), start + ROWS))):
            old = w[coordinate]
            new = slope[place].add(old, alpha=float(among[place, place])).div_(steepness[coordinate]).clamp_(min=0)
            if coordinate in own:
                new[own[coordinate]] = 0
            step = new - old
            torch.maximum(moved, step.abs(), out=moved)
            slope[place + 1:].addr_(among[place + 1:, place], step, alpha=-1)
            w[coordinate] = new
    return moved


def settled(products: np.ndarray, w: np.ndarray, pull: np.ndarray, ridge: float) -> np.ndarray:
    """The best weights, (n,), on the coordinates that are above zero in ``w``, (n,), without those that would leave it.

    They are solved for, the negative ones taken out, and the rest solved for again, until none is negative. What this
    ends at is kept only where it is no worse than ``w``.
    """
    above = w.nonzero()[0]
    among = products[above[:, None], above]  # (s, s)
    among.flat[::len(above) + 1] += ridge
    gain, old, kept, part = pull[above], w[above], np.arange(len(above)), among
    while len(kept):
        _, best, failed = lapack.sposv(part.T, gain[kept], lower=1)
        if failed:
            return w
        if (best >= 0).all():
            break
        positive = np.flatnonzero(best > 0)
        kept, part = kept[positive], part[positive].take(positive, 1)
    new = np.zeros_like(old)
    new[kept] = best[:len(kept)] if len(kept) else 0
    if worth(among, new, gain) > worth(among, old, gain):
        return w
    out = np.zeros_like(w)
    out[above] = new
    return out


def worth(among: np.ndarray, w: np.ndarray, gain: np.ndarray) -> float:
    """What a column costs at ``w``, (s,), but for a constant; less is better."""
    return float(w @ (among @ w) / 2 - gain @ w)
