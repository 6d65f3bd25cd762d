"""The floor every method has to clear."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from recot.data.interactions import Ragged, is_in
from recot.data.questions import EvalSet, Query, Split
from recot.evaluation.metrics import Ranks
from recot.evaluation.recommender import Recommender


class Popularity(Recommender):
    """Ranks items by the number of training users who took them. Inductive: it never looks at the user.

    Departures: none; of no paper. Weights of pairs do not count.
    """

    inductive = True

    def fit(self, split: Split) -> Self:
        """Count."""
        self.counts = split.train.popularity.float()  # (n_items,)
        return self

    def score(self, query: Query) -> Tensor:
        """(b, n_items)."""
        return self.counts.repeat(len(query), 1)  # (b, n_items)

    def ranked(self, questions: EvalSet) -> tuple[Ranks, int] | None:
        """See :class:`Recommender`. All users have one order of items, of which each leaves out what they have seen."""
        questions, among = questions.to("cpu"), questions.among or slice(0, len(self.counts))
        counts, targets, seen = self.counts[among].cpu(), questions.targets, questions.seen
        wanted, known = targets.values - among.start, seen.values - among.start  # (nnz,), (nnz',)
        largest = max(int(part.max()) for part in (wanted, known) if len(part))
        if questions.candidates is not None or largest >= len(counts):
            return None
        order = torch.from_numpy(np.argsort(-counts.numpy(), kind="stable"))
        falling, place = -counts[order], order.argsort()  # (n,) each
        above, reached = torch.searchsorted(falling, -counts), torch.searchsorted(falling, -counts, right=True)
        row = targets.rows * len(counts)
        taken = torch.from_numpy(np.sort((seen.rows * len(counts) + place[known]).numpy()))  # by user, best first
        taken = taken[taken.diff(prepend=taken.new_tensor([-1])) > 0]  # each once; np.unique takes 20 times as long
        if bool(is_in(row + place[wanted], taken).any()):
            return None
        before, first, last = (torch.searchsorted(taken, row + upto) for upto in (0, above[wanted], reached[wanted]))
        tied = (reached - above)[wanted] - (last - first)
        return Ranks(Ragged(targets.offsets, above[wanted] - (first - before) + 1), tied), len(counts)
