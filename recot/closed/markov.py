"""What followed the last item before."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recot.data.split import Query, Split


class Markov:
    """Scores an item by how often it came right after the last item of the history, equal ones by popularity.

    The floor of sequential models: one that stays below it has not learnt to look further back. Weights of the training
    pairs count (those of the item that follows). Without a history, popularity alone.

    Source: first-order transition counts, the unfactorised chain of Rendle et al. (WWW 2010), Sec. 4.
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
        least = min(self.follows.data[self.follows.data > 0], default=1.0)
        self.popularity = popularity / (popularity.max() + 1) * least / 2  # below any count that differs
        return self

    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, on the CPU."""
        history = query.history.to("cpu")
        full = (history.lengths > 0).numpy()
        scores = np.tile(self.popularity, (len(history), 1))  # (b, n_items)
        ends = history.values[history.offsets[1:][full] - 1].numpy()
        scores[full] += self.follows[ends].toarray()
        return torch.from_numpy(scores.astype(np.float32))
