"""What followed the last item before."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.questions import Query, Split
from recot.evaluation.recommender import Recommender


class Markov(Recommender):
    """Ranks items by how often they came right after the last item of the history, equal ones by popularity.

    The floor of sequential models: one that stays below it has not learnt to look further back. Weights of the training
    pairs count (those of the item that follows). Without a history, popularity alone.

    A score is the count plus a share below one half for the popularity. Where weights are no whole numbers, a share
    that is below every difference of two sums would be lost in float32, and a score is the place in that order.

    Source: first-order transition counts, the unfactorised chain of Rendle et al. (WWW 2010), Sec. 4.

    Departures: that chain is the maximum likelihood estimate of a probability; its denominator, the same for all items,
    is left out. It has no answer for what never followed; here popularity is one.
    """

    inductive = True
    ordered = True
    weighted = True

    def fit(self, split: Split) -> Self:
        """Count."""
        train = split.train.to("cpu")
        same = (train.users[1:] == train.users[:-1]).numpy()
        before, after = train.items[:-1].numpy()[same], train.items[1:].numpy()[same]
        n, weights = train.n_items, train.weights.double().numpy()
        self.follows = sparse.csr_array((weights[1:][same], (before, after)), (n, n))
        popularity = np.bincount(train.items.numpy(), weights, n)
        if (weights == np.floor(weights)).all():
            self.popularity = popularity / (popularity.max() + 1) / 2
        else:
            self.follows, self.popularity = places(self.follows, popularity)
        return self

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, on the CPU."""
        history = query.history.to("cpu")
        full = (history.lengths > 0).numpy()
        scores = np.tile(self.popularity, (len(history), 1))  # (b, n_items)
        ends = history.values[history.offsets[1:][full] - 1].numpy()
        scores[full] += self.follows[ends].toarray()
        return torch.from_numpy(scores.astype(np.float32))


def places(follows: sparse.csr_array, popularity: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """Whole numbers in the order of (sum, popularity), equal ones alike, which float32 holds up to 16 million items.

    Args:
        follows: (n, n) sums of weights. popularity: (n,).

    Returns:
        (n, n), what is added to a popularity where something follows, and (n,), the places by popularity alone.
    """
    follows.eliminate_zeros()
    levels, level = np.unique(popularity, return_inverse=True)  # (n,)
    counts = follows.tocoo()
    rows, items = counts.coords
    order = np.lexsort((level[items], counts.data, rows))
    rows, items, sums = rows[order], items[order], counts.data[order]
    new = np.ones(len(rows), bool)
    new[1:] = (np.diff(rows) != 0) | (np.diff(sums) != 0) | (np.diff(level[items]) != 0)
    step = np.cumsum(new)  # over all rows; what a row begins with is taken off
    first = np.searchsorted(rows, np.arange(len(popularity)))[rows]
    place = len(levels) + step - step[first]
    return sparse.csr_array(((place - level[items]).astype(float), (rows, items)), follows.shape), level.astype(float)
