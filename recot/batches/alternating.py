"""Batches of one domain of items each, the domains taking turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from recot.batches.negatives import uniform_negatives
from recot.batches.pairs import Pairs
from recot.data.domains import positions
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


@dataclass(frozen=True)
class DomainPairs(Pairs):
    """A batch of observed pairs of one domain, its negatives of that domain as well.

    Attributes:
        number: which domain.
    """

    number: int = 0


def alternating(train: Interactions, batch_size: int, rng: torch.Generator, negatives: int) -> Iterator[DomainPairs]:
    """One epoch: every training pair once, a batch of each domain in turn; those with more batches go on alone.

    Args:
        train: on the device where training happens, like ``rng``; it knows its domains.
        batch_size: pairs of a batch; the last one of a domain may be smaller.
        negatives: items drawn per pair within its domain, all before the first batch.
    """
    drawn = uniform_negatives(train, negatives, rng, scope="domain")  # (n, negatives)
    shuffled = [order[torch.randperm(len(order), generator=rng, device=order.device)]
                for order in (positions(train, domain) for domain in train.domains)]
    weights = None if bool((train.weights == 1).all()) else train.weights
    for start in range(0, max(map(len, shuffled)), batch_size):
        for number, order in enumerate(shuffled):
            if start < len(order):
                here = order[start : start + batch_size]
                users = train.users[here]
                yield DomainPairs(Query(users, Ragged(users.new_zeros(len(users) + 1), users[:0])), train.items[here],
                                  drawn[here], None if weights is None else weights[here], number=number)
