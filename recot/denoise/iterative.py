"""IR: train, decide anew what each user really took, train again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.denoise.base import Relabelling
from recot.nn.contracts import Network
from recot.request.limits import check

BLOCK = 256  # users scored at a time; more cost memory and, out of the cache, time


class IterativeRelabelling(Relabelling):
    """Relabels the training pairs by the scores of the model trained on them, for some rounds (IR).

    Of a user's observed items the best ``a`` are positive, the worst ``b`` are not, and one in between is where its
    vector is nearer to the mean of the former, with ``lam`` as a factor; then the ``plus`` best unobserved items join.
    The relabelled pairs replace the training set, and negatives are drawn outside them.

    Args:
        a, b: shares of a user's observed items that are surely positive and surely not; one item at least each.
        plus: unobserved items added per user, or as many as there are.
        lam: an item is positive where ``lam * distance to the positives < distance to the others``.
        rounds: how often to relabel and train a fresh network.

    Raises:
        ValueError: a parameter is out of its range.

    Source: Wang et al. (ACM MM 2021), Implicit Feedbacks are Not Always Favorable: Iterative Relabeled One-Class
    Collaborative Filtering against Noisy Interactions; details from the released code.

    Departures: the authors run 30 rounds of up to 200 epochs and select by a preference test that needs ratings; here
    2 rounds, each to the early stop of the protocol, by the protocol's metric. Their defaults a = .35, b = .65 leave no
    item in between and discard two thirds of all pairs, which suits ratings of 1 to 5 on MovieLens-100K; here a = .7
    and b = .1. What SCLRec ran is not said. Where a + b > 1 makes an item both, it is positive.
    """

    shared = True

    def __init__(self, a: float = 0.7, b: float = 0.1, plus: int = 2, lam: float = 1.0, rounds: int = 2):
        super().__init__(rounds)
        check("denoiser", ("a", a, 0 <= a <= 1, "is a share of the items of a user; give 0 to 1"),
              ("b", b, 0 <= b <= 1, "is a share of the items of a user; give 0 to 1"),
              ("plus", plus, plus >= 0, "is a number of items; give 0 or more"),
              ("lam", lam, lam > 0, "is the factor of a distance; give more than 0, for example 1"))
        self.a, self.b, self.plus, self.lam = a, b, plus, lam

    # A closed form, the other thing that scores, is refused with this denoiser: it does not weigh.
    def relabel(self, original: Interactions, current: Interactions,  # type: ignore[override]
                network: Network) -> Interactions:
        """The training set of the next round; memory grows with the pairs and a block of users, not users x items.

        Args:
            original: what was observed. current: what the network was trained on.
            network: gives scores and item vectors.

        Returns:
            Pairs of weight one. An added pair is marked as no known noise, and takes the latest time of its user.
        """
        vectors = network.items()  # (n_items, d)
        kept, added = [], []
        for users in blocks(original):
            history = original.by_user.take(users)
            scores = network.score(Query(users, history))  # (b, n_items)
            kept.append(self.kept(history, scores, current.by_user.take(users), vectors))
            added.append(self.best_unobserved(users, history, scores))
        keep, extra = torch.cat(kept), torch.cat(added, 1)  # (n,) bool, (2, m)
        self.told = {"kept": float(keep.sum()), "rejected": float((~keep).sum()), "added": float(extra.shape[1])}
        return joined(original, keep, *extra)

    def kept(self, history: Ragged, scores: Tensor, current: Ragged, vectors: Tensor) -> Tensor:
        """Which observed pairs of b users stay positive; (nnz,) bool in the order of ``history``.

        Args:
            history: b rows of observed items. scores: (b, n_items). current: b rows of present positives.
            vectors: (n_items, d).
        """
        rows, items, count = history.rows, history.values, history.lengths
        own = scores[rows, items]  # (nnz,)
        order = own.argsort(descending=True, stable=True)
        order = order[rows[order].argsort(stable=True)]  # by user, best first
        place = torch.empty_like(rows)
        place[order] = torch.arange(len(rows), device=rows.device) - history.offsets[rows[order]]
        top = place < at_least_one(self.a, count)[rows]
        bottom = (place >= (count - at_least_one(self.b, count))[rows]) & ~top
        means = [mean_of(vectors, rows[part], items[part], len(history)) for part in (top, bottom)]  # (b, d) each
        near, far = ((vectors[items] - mean[rows]).norm(dim=-1) for mean in means)  # (nnz,) each
        n_items = scores.shape[1]
        present = torch.isin(rows * n_items + items, current.rows * n_items + current.values)
        # torch gives no type to a norm.
        return top | (~bottom & present & (self.lam * near < far))  # type: ignore[no-any-return]

    def best_unobserved(self, users: Tensor, history: Ragged, scores: Tensor) -> Tensor:
        """(2, m): users, and the best items outside their ``history``, at most ``plus`` each; overwrites ``scores``."""
        scores[history.rows, history.values] = -torch.inf
        best = scores.topk(min(self.plus, scores.shape[1]), 1)
        row, place = (best.values > -torch.inf).nonzero(as_tuple=True)  # a user may have taken all but a few
        return torch.stack([users[row], best.indices[row, place]])  # (2, m)


def blocks(train: Interactions) -> Iterator[Tensor]:
    """The users with pairs, some at a time."""
    return iter(train.activity.nonzero().flatten().split(BLOCK))


def at_least_one(share: float, count: Tensor) -> Tensor:
    """``max(1, floor(share * count))``; the small addition keeps 0.7 * 10 from becoming 6."""
    return (share * count.double() + 1e-9).long().clamp(min=1)


def mean_of(vectors: Tensor, rows: Tensor, items: Tensor, n_rows: int) -> Tensor:
    """(n_rows, d) mean vector of the items of each row, zero for a row without any; rows and items are (nnz,)."""
    total = vectors.new_zeros(n_rows, vectors.shape[1]).index_add_(0, rows, vectors[items])
    return total / torch.bincount(rows, minlength=n_rows).clamp(min=1)[:, None]


def joined(original: Interactions, keep: Tensor, users: Tensor, items: Tensor) -> Interactions:
    """The pairs of ``original`` to ``keep``, (n,) bool, and those of ``users`` and ``items``, (m,) each."""
    times = noisy = None
    if original.times is not None:
        latest = original.times[original.by_user.offsets[users + 1] - 1]  # (m,)
        times = torch.cat([original.times[keep], latest])
    if original.noisy is not None:
        noisy = torch.cat([original.noisy[keep], torch.zeros_like(users, dtype=torch.bool)])
    return Interactions.from_pairs(
        torch.cat([original.users[keep], users]), torch.cat([original.items[keep], items]), original.n_users,
        original.n_items, times=times, noisy=noisy, domains=original.domains, ties=original.ties)
