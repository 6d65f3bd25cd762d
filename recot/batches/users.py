"""Batches of users without their items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


@dataclass(frozen=True)
class MaskedUsers:
    """A batch of users, one domain of each to be hidden.

    Attributes:
        query: b questions with empty histories.
        hidden: (b,) int64, the domain of each that is hidden.
    """

    query: Query
    hidden: Tensor


def masked_users(train: Interactions, batch_size: int, rng: torch.Generator, *, n_domains: int,
                 passes: int = 1) -> Iterator[MaskedUsers]:
    """An epoch: ``passes`` times every user once, shuffled, in batches of ``batch_size`` (the last of a pass may be
    smaller), with a domain for each that is drawn uniformly anew.
    """
    device = train.users.device
    for _ in range(passes):
        users = torch.randperm(train.n_users, generator=rng, device=device)
        hidden = torch.randint(n_domains, (train.n_users,), generator=rng, device=device)
        for start in range(0, train.n_users, batch_size):
            some = users[start : start + batch_size]
            nothing = Ragged(some.new_zeros(len(some) + 1), some[:0])
            yield MaskedUsers(Query(some, nothing), hidden[start : start + batch_size])
