"""Where it is known which training pairs are noise: does a model score them low?"""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from recot.data.interactions import Interactions
from recot.data.split import Query
from recot.evaluate import Recommender

BLOCK = 1024  # users scored at a time


@torch.no_grad()
def score_pairs(recommender: Recommender, train: Interactions) -> Tensor:
    """(n,) float64 on the CPU, the score of every training pair; a block of users at a time, never users x items."""
    found = torch.empty(len(train), dtype=torch.float64)
    place = torch.arange(len(train), device=train.users.device)
    by_user = type(train.by_user)(train.by_user.offsets, place)  # rows of places in place of items
    for users in train.activity.nonzero().flatten().split(BLOCK):
        history, places = train.by_user.take(users), by_user.take(users)
        scores = recommender.score(Query(users, history))
        found[places.values.cpu()] = scores[history.rows, history.values].double().cpu()
    return found


def noise_auc(scores: Tensor, train: Interactions) -> dict[str, float]:
    """Area under the ROC curve for telling noisy pairs from the others by a low score; 0.5 is chance, 1 is perfect.

    Args:
        scores: (n,) of the training pairs. train: knows which of them are noisy.

    Returns:
        ``auc`` over all pairs, and ``auc_user``, the mean over users who have pairs of both kinds of the area among
        their own pairs, which is blind to how active a user is. Ties count one half.

    Raises:
        ValueError: no pair is noisy, or all are, or nothing is known.
    """
    if train.noisy is None or not 0 < int(train.noisy.sum()) < len(train):
        raise ValueError("there are no pairs of both kinds to tell apart; use data=planted, or noise=add")
    noisy, users = train.noisy.cpu().numpy(), train.users.cpu().numpy()
    pooled = area(scores.numpy(), noisy, np.zeros_like(users))
    within = area(scores.numpy(), noisy, users)
    return {"auc": float(pooled.mean()), "auc_user": float(within.mean()) if len(within) else float("nan")}


def area(scores: np.ndarray, noisy: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The area within each group that has pairs of both kinds; all arguments are (n,)."""
    level = stats.rankdata(scores, method="dense")  # ties share a level
    order = np.lexsort((level, groups))
    group, levels = groups[order], level[order]
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    begin = np.flatnonzero(np.r_[True, (group[1:] != group[:-1]) | (levels[1:] != levels[:-1])])
    end = np.r_[begin[1:], len(group)]
    size = np.diff(np.r_[first, len(group)])
    offset = np.repeat(first, size)
    rank = np.empty(len(group))
    rank[:] = np.repeat((begin + end + 1) / 2, end - begin) - offset  # middle ranks within the group, from 1
    bad = noisy[order]
    n_bad = np.add.reduceat(bad.astype(np.int64), first)
    n_good = size - n_bad
    above = np.add.reduceat(np.where(bad, 0.0, rank), first) - n_good * (n_good + 1) / 2
    both = (n_bad > 0) & (n_good > 0)
    return above[both] / (n_bad * n_good)[both]
