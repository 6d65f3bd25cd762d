"""Items that a user has not taken, drawn at random, and which of a batch a user has."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recot.data.interactions import Interactions

log = logging.getLogger(__name__)


def uniform_negatives(train: Interactions, count: int, rng: torch.Generator, rounds: int = 100,
                      scope: Literal["all", "domain"] = "all") -> Tensor:
    """(n, count) int64: for every training pair, items drawn uniformly from those its user has not taken; with the
    scope ``domain``, from those of the domain of its item.

    Draws are made in the order of the pairs, which are sorted by user: neighbouring look-ups then share their search
    path, and membership costs a few nanoseconds a draw. Taken items are redrawn; a user who has taken (nearly) every
    item keeps the last draw after ``rounds`` rounds, which is logged.
    """
    users = train.users[:, None].expand(-1, count).reshape(-1)  # (n * count,)
    if scope == "domain" and train.domains:
        start, size = (column[:, None].expand(-1, count).reshape(-1) for column in ranges(train))  # (n * count,)
    else:
        start, size = None, None

    def drawn(at: Tensor | slice, n: int) -> Tensor:
        if start is None or size is None:
            return torch.randint(train.n_items, (n,), generator=rng, device=users.device)
        return start[at] + torch.randint(2**62, (n,), generator=rng, device=users.device) % size[at]

    items = drawn(slice(None), len(users))
    wrong = train.contains(users, items).nonzero().squeeze(1)
    for _ in range(rounds):
        if not len(wrong):
            break
        items[wrong] = drawn(wrong, len(wrong))
        wrong = wrong[train.contains(users[wrong], items[wrong])]
    if len(wrong):
        log.warning("%d of %d negatives are observed items: %d users have taken (nearly) all %d items",
                    len(wrong), len(items), len(users[wrong].unique()), train.n_items)
    return items.reshape(len(train), count)  # (n, count)


def ranges(train: Interactions) -> tuple[Tensor, Tensor]:
    """Where the domain of each pair's item begins, and its size; (n,) int64 each."""
    bounds = torch.tensor([[domain.start, domain.stop] for domain in train.domains]).to(train.items.device)  # (n, 2)
    start, stop = bounds[torch.bucketize(train.items, bounds[:, 1].contiguous(), right=True)].unbind(1)
    return start, stop - start


def observed_in_batch(train: Interactions, users: Tensor, items: Tensor, asked: np.ndarray | None = None) -> Tensor:
    """(n, n) bool, true where ``users[i]`` has taken ``items[j]`` in training; both arguments are (n,) int64.

    Costs the training rows of the batch's users and one (n, n) gather, never a users x items array. With ``asked``,
    the users on the host, nothing waits for the device.
    """
    inside = torch.zeros(train.n_items, dtype=torch.int64, device=items.device).index_fill_(0, items, 1)
    column = inside.cumsum(0) * inside  # (n_items,) 1 and on for the items of the batch, 0 for all others
    history = train.by_user.take(users, asked)
    width = len(items) + 1
    taken = torch.zeros(len(users), width, dtype=torch.bool, device=items.device)
    taken.view(-1).scatter_(0, history.rows * width + column[history.values], True)
    return taken[:, column[items]]  # (n, n)
