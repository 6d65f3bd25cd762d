"""Batches that hold pairs of each domain of items."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from recot.batches.negatives import uniform_negatives
from recot.batches.pairs import Pairs
from recot.data.domains import positions
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query


def domain_batches(train: Interactions, batch_size: int, rng: torch.Generator, negatives: int) -> Iterator[Pairs]:
    """One epoch: every training pair once, each batch with a share of every domain, so that all end together.

    There are as many batches as the largest domain fills with ``batch_size`` pairs, and each gets an equal share of
    every domain, give or take a pair. The weights make the mean over a batch the sum of the means over its domains.

    Args:
        train: on the device where training happens, like ``rng``; without domains, it is one.
        negatives: items drawn per pair by :func:`uniform_negatives` within its domain, all before the first batch.
    """
    drawn = uniform_negatives(train, negatives, rng, scope="domain")  # (n, negatives)
    orders = [positions(train, domain) for domain in train.domains or (Domain("all", 0, train.n_items),)]
    shuffled = [order[torch.randperm(len(order), generator=rng, device=order.device)] for order in orders]
    count = -(-max(map(len, shuffled)) // batch_size)
    for parts in zip(*(order.tensor_split(count) for order in shuffled), strict=True):
        here, n = torch.cat(parts), sum(map(len, parts))
        weights = torch.cat([train.weights[part] * (n / max(len(part), 1)) for part in parts])
        users = train.users[here]
        yield Pairs(Query(users, Ragged(users.new_zeros(n + 1), users[:0])), train.items[here], drawn[here], weights)

