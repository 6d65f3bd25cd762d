"""What is said of the lists that are shown, whoever took what: how much of the catalogue, how evenly, how alike.

A metric of each list has a value for each user, as recall has. A metric of all lists together has one value, and no
user has a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet
from recot.evaluation.evaluate import recommended
from recot.evaluation.recommender import Recommender


@dataclass(frozen=True)
class Lists:
    """The lists of b users, on the CPU.

    Attributes:
        items: b rows, best first; shorter where nothing else is left to show.
        popularity: (n_items,) int64, training pairs of each item.
        vectors: (n_items, d) float32 that a network has for the items, or None.
    """

    items: Ragged
    popularity: Tensor
    vectors: Tensor | None = None

    def first(self, k: int) -> Ragged:
        """The first k items of each list."""
        rows = self.items.rows
        near = torch.arange(len(rows)) - self.items.offsets[rows] < k
        return Ragged.from_pairs(rows[near], self.items.values[near], len(self.items))

    def exposure(self, k: int) -> Tensor:
        """(n_items,) int64, how many users are shown each item among their first k."""
        return torch.bincount(self.first(k).values, minlength=len(self.popularity))


def coverage(lists: Lists, k: int) -> Tensor:
    """The share of all items that anybody is shown; one number.

    >>> shown = Lists(Ragged.from_lists([[2, 0], [2, 1]]), torch.tensor([9, 4, 5, 2]))
    >>> coverage(shown, 1), coverage(shown, 2)
    (tensor(0.2500, dtype=torch.float64), tensor(0.7500, dtype=torch.float64))
    """
    return (lists.exposure(k) > 0).double().mean()


def gini(lists: Lists, k: int) -> Tensor:
    """Gini's coefficient of how often each of all items is shown; one number, 0 where all are shown alike.

    With n items it is ``1 - 1 / n`` where one is shown to everybody, and items that are never shown count.

    >>> gini(Lists(Ragged.from_lists([[2, 0], [2, 1]]), torch.tensor([9, 4, 5, 2])), 2)  # shown 0, 1, 1 and 2 times
    tensor(0.3750, dtype=torch.float64)

    Source: RecBole's GiniIndex (Zhao et al., CIKM 2021), after Sun et al. (RecSys 2020).
    """
    shown = lists.exposure(k).sort().values.double()  # (n_items,)
    n = len(shown)
    return ((2 * torch.arange(1, n + 1) - n - 1) * shown).sum() / (n * shown.sum())


def popularity(lists: Lists, k: int) -> Tensor:
    """Mean number of training pairs of the items that a user is shown; (b,).

    >>> popularity(Lists(Ragged.from_lists([[2, 0], [2, 1]]), torch.tensor([9, 4, 5, 2])), 2)
    tensor([7.0000, 4.5000], dtype=torch.float64)
    """
    near = lists.first(k)
    total = torch.zeros(len(near), dtype=torch.float64).index_add_(0, near.rows, lists.popularity[near.values].double())
    return total / near.lengths.clamp(min=1)


def intra_list_similarity(lists: Lists, k: int) -> Tensor:
    """Mean cosine between the vectors of two items that a user is shown; (b,). 0 for a list of fewer than two.

    Raises:
        ValueError: there are no vectors of items.
    """
    if lists.vectors is None:
        raise ValueError("intra_list_similarity compares vectors of items, and the model has none; use a network such "
                         "as model=bprmf, or leave intra_list_similarity out")
    near, unit = lists.first(k), F.normalize(lists.vectors.double(), dim=-1)
    sums = F.embedding_bag(near.values, unit, near.offsets[:-1], mode="sum")  # (b, d)
    own = torch.zeros(len(near), dtype=torch.float64).index_add_(0, near.rows, unit.square().sum(1)[near.values])
    return (sums.square().sum(1) - own) / (near.lengths * (near.lengths - 1)).clamp(min=1)


LISTS: dict[str, Callable[[Lists, int], Tensor]] = {
    "coverage": coverage, "gini": gini, "popularity": popularity, "intra_list_similarity": intra_list_similarity,
}

TOGETHER = ("coverage", "gini")
"""Metrics of all lists together."""


def graded(recommender: Recommender, questions: EvalSet, train: Interactions, metrics: Sequence[str]) -> dict[
        str, Tensor]:
    """What is said of the lists that answer the questions: the best items of each user but those left out.

    Args:
        recommender: already fitted. questions: about all items. train: the pairs whose items are counted.
        metrics: names such as ``coverage@20``; a cut above the number of items is that number.

    Returns:
        For each name float64 on the CPU: (b,) of each list, or () of all lists together.

    Raises:
        ValueError: the questions rank a part of the items, or see :func:`intra_list_similarity`.
        Diverged: a score is not finite.
    """
    if questions.candidates is not None or questions.among is not None:
        raise ValueError(f"{questions.name!r} ranks a part of the items, and {', '.join(metrics)} are of lists over "
                         "all items; use protocol=topk, or leave them out")
    cuts = {name: min(int(name.partition("@")[2]), train.n_items) for name in metrics}
    query = questions.query.to(recommender.device)
    items, scores = recommended(recommender, query, questions.seen, max(cuts.values()))  # (b, k) each
    shown = ~scores.isneginf()
    vectors = None
    if any(name.startswith("intra_list_similarity") for name in metrics):
        vectors = vectors_of(recommender)
    lists = Lists(Ragged.from_lengths(shown.sum(1), items[shown]), train.popularity.cpu(), vectors)
    return {name: LISTS[name.partition("@")[0]](lists, cut) for name, cut in cuts.items()}


@torch.no_grad()
def vectors_of(recommender: Recommender) -> Tensor | None:
    """(n_items, d) vectors that the one network of a recommender has for all items, on the CPU; None without one."""
    [network, *others] = recommender.networks
    return None if others or not hasattr(network, "items") else network.items().detach().cpu()
