"""Where it is known which training pairs are noise: does a recommender score them low?"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.evaluation.recommender import Recommender


@torch.no_grad()
def score_pairs(recommender: Recommender, train: Interactions, chunk: int = 1024) -> Tensor:
    """Scores of the training pairs, each user asked with the whole training history.

    Args:
        recommender: already fitted. train: on the device of its questions.
        chunk: users asked at a time; memory is ``chunk`` x n_items, never users x items.

    Returns:
        (n,) float64 on the CPU, in the order of the pairs.
    """
    found = [torch.empty(0, dtype=torch.float64)]
    for users in train.activity.nonzero().squeeze(1).split(chunk):  # rising, as the pairs are sorted
        history = train.by_user.take(users)
        scores = recommender.score(Query(users, history))  # (chunk, n_items)
        asked = history.to(scores.device)
        found.append(scores[asked.rows, asked.values].double().cpu())
    return torch.cat(found)  # (n,)


def noise_auc(scores: ArrayLike, noisy: ArrayLike, users: ArrayLike) -> dict[str, float]:
    """Area under the ROC curve of finding noisy pairs by their low scores: 1 is perfect, one half is chance.

    Args:
        scores: (n,), whose order alone matters. noisy: (n,) bool. users: (n,) int64, from 0.

    Returns:
        ``auc``: the chance that a noisy pair scores below another one, ties counting one half. ``auc_user``: the same
        among the pairs of one user, averaged over users who have both kinds, so that it is blind to scores that differ
        between users; NaN where no user has both.

    Raises:
        ValueError: all pairs are noisy, or none is, or a score is NaN.
    """
    score, bad, user = np.asarray(scores), np.asarray(noisy, dtype=bool), np.asarray(users)
    if bad.all() or not bad.any():
        raise ValueError(f"{bad.sum()} of {bad.size} pairs are known to be noisy, and an AUC needs both kinds; "
                         "use data=planted or noise=add")
    if np.isnan(score).any():
        raise ValueError(f"{np.isnan(score).sum()} of {score.size} scores are NaN and have no rank; find what "
                         "makes them, for example a learning rate that is too large")
    within = areas(score, bad, user)
    return {"auc": float(areas(score, bad, np.zeros_like(user))[0]),
            "auc_user": float(within.mean()) if within.size else float("nan")}


def areas(score: np.ndarray, bad: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The area within each group that has both kinds, by the rank sum of Mann and Whitney (1947)."""
    level = stats.rankdata(score, method="dense").astype(np.int64)  # equal scores share a level
    rank = stats.rankdata(group * (level.max() + 1) + level)  # (n,) group after group, ties share their mean rank
    size, n_good = np.bincount(group), np.bincount(group, ~bad)  # (groups,)
    rank -= (size.cumsum() - size)[group]  # from 1 in each group
    below = np.bincount(group, rank * ~bad) - n_good * (n_good + 1) / 2  # pairs of a bad and a better-scored good one
    both = (n_good > 0) & (n_good < size)
    return below[both] / (n_good * (size - n_good))[both]
