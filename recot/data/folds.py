"""Training pairs dealt into folds, so that each can be judged by a model that was not trained on it."""

from __future__ import annotations

import torch
from torch import Tensor

from recot.data.interactions import Interactions, scattered, sorted_order


def dealt(pairs: Interactions, folds: int, seed: int) -> Tensor:
    """The fold of each pair, from 0; -1 where a pair is of a user who trains only to be asked about (``folded``).

    Each user's pairs are dealt in random order to one fold after the other, the first to a random fold, so that the
    folds of a user differ by at most one pair, and those of all users hardly. What is dealt depends on the set of
    pairs and the seed, and not on the order of the pairs.

    Returns:
        (n,) int64.

    Raises:
        ValueError: there are fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds leave nothing to train on; give 2 or more")
    users = pairs.users
    order = sorted_order(scattered(users * pairs.n_items + pairs.items, seed))
    order = order[sorted_order(users[order])]  # by user, random inside
    activity = pairs.activity
    place = torch.arange(len(users), device=users.device) - (activity.cumsum(0) - activity)[users[order]]
    found = torch.empty_like(users)
    found[order] = (place + scattered(users[order], seed) % folds) % folds
    return found if pairs.folded is None else found.masked_fill(pairs.folded, -1)
