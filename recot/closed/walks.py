"""Random walks from a user's items over other users to items."""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy import sparse

from recot.closed.factors import matrix
from recot.closed.items import ENTRIES, ItemToItem, largest, largest_of_columns
from recot.data.questions import Split
from recot.request.limits import check


class RP3beta(ItemToItem):
    """Scores an item by how often a walk of three steps from the user ends there, divided by a power of its popularity.

    A walk goes from an item i to one of its users and on to one of that user's items j. With x the weights of the
    training pairs, the step to a user has the probability ``x_ui / sum_u x_ui`` and the step on ``x_uj / sum_j x_uj``,
    both raised to ``alpha``. ``W_ij`` is the sum over users of the product, divided by ``(sum_u x_uj)^beta``, and zero
    for i = j. Each row keeps its k largest entries and, if asked, is scaled to the sum one; then each column keeps its
    k largest. Ties go by item number. Memory: k entries an item, and while fitting about 50 bytes for each of
    ``ENTRIES``; never items x items.

    Args:
        k: entries that a row keeps, and then a column. alpha: power of the probabilities; 0 counts common users.
        beta: power of the popularity. normalize: scale the rows of W to the sum one.

    Raises:
        ValueError: k is below 1, or a power is negative.

    Source: Paudel et al. (TiiS 2017), Updatable, Accurate, Diverse, and Scalable Recommendations for Interactive
    Applications; the truncation and the scaling of rows from Ferrari Dacrema et al. (RecSys 2019).

    Departures: the walk starts at the items of the history alike, which changes a user's scores by one factor. A pair
    counts by its weight in both steps and in the popularity; the paper has no weights.
    """

    def __init__(self, k: int = 100, alpha: float = 1.0, beta: float = 0.6, normalize: bool = True):
        check("model", ("k", k, k >= 1, "leaves an item without neighbours; give 1 or more, for example 100"),
              ("alpha", alpha, alpha >= 0, "prefers what is improbable; give 0 or more, for example 1"),
              ("beta", beta, beta >= 0, "rewards popularity twice; give 0 or more, for example 0.6"))
        self.k, self.alpha, self.beta, self.normalize = k, alpha, beta, normalize

    def fit(self, split: Split) -> Self:
        """Walk from every item."""
        x = matrix(split.train)  # without pairs of weight zero, so that 0^0 cannot arise
        popularity, n = x.sum(0), x.shape[1]
        onward = stochastic(x, self.alpha)  # (n_users, n_items)
        onward.data *= popularity[onward.indices] ** -self.beta
        back, step = stochastic(x.T.tocsr(), self.alpha), max(1, ENTRIES // n)  # (n_items, n_users)
        blocks = [self.reached(back[start:start + step] @ onward, start) for start in range(0, n, step)]
        self.similarity = largest_of_columns(sparse.vstack(blocks), self.k).astype(np.float32)
        return self

    def reached(self, walks: sparse.csr_array, start: int) -> sparse.csr_array:
        """What is kept of the rows of W from ``start`` on, (b, n_items), from the walks between all items."""
        walks = walks.tocoo()
        rows, items = walks.coords
        walks.data[items == rows + start] = 0
        kept = largest(walks.tocsr(), self.k)
        if self.normalize:
            kept.data /= kept.sum(1)[kept.tocoo().coords[0]]
        return kept


class P3alpha(RP3beta):
    """Scores an item by how often a walk of three steps from the user ends there: :class:`RP3beta` at beta = 0.

    Args:
        k: entries that a row keeps, and then a column. alpha: power of the probabilities; 0 counts common users.
        normalize: scale the rows of W to the sum one.

    Raises:
        ValueError: k is below 1, or ``alpha`` is negative.

    Source: Cooper et al. (WWW 2014), Random Walks in Recommender Systems; the truncation and the scaling of rows from
    Ferrari Dacrema et al. (RecSys 2019).

    Departures: those of :class:`RP3beta`.
    """

    def __init__(self, k: int = 100, alpha: float = 1.0, normalize: bool = True):
        super().__init__(k, alpha, 0.0, normalize)


def stochastic(x: sparse.csr_array, power: float) -> sparse.csr_array:
    """``x`` with rows scaled to the sum one, and each entry then raised to ``power``; zeros stay zeros."""
    scaled = x.copy()
    total = x.sum(1)  # (m,)
    scaled.data = (x.data / total.repeat(np.diff(x.indptr))) ** power
    return scaled
