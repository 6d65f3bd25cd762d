"""Pairs of one domain of items, and batches that hold some of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from recot.batches.pairs import Pairs
from recot.data.interactions import Domain, Interactions, Ragged
from recot.data.questions import Query

log = logging.getLogger(__name__)


def of_domain(train: Interactions, domain: Domain) -> Interactions:
    """The pairs of one domain, in the same id spaces."""
    return train.select(positions(train, domain))


def positions(train: Interactions, domain: Domain) -> Tensor:
    """Where the pairs of one domain stand in ``train``, int64 in rising order."""
    return ((train.items >= domain.start) & (train.items < domain.stop)).nonzero().squeeze(1)


def negatives_within(train: Interactions, count: int, rng: torch.Generator, rounds: int = 100) -> Tensor:
    """(n, count) int64: for every training pair, items of its domain that its user has not taken, drawn uniformly.

    A user who has taken (nearly) every item of a domain keeps the last draw after ``rounds`` rounds, which is logged.
    """
    starts = torch.tensor([domain.start for domain in train.domains], device=train.items.device)
    sizes = torch.tensor([domain.stop - domain.start for domain in train.domains], device=train.items.device)
    domain = (torch.searchsorted(starts, train.items, right=True) - 1)[:, None].expand(-1, count).reshape(-1)
    users, starts, sizes = train.users[:, None].expand(-1, count).reshape(-1), starts[domain], sizes[domain]

    def drawn(sizes: Tensor) -> Tensor:
        return torch.randint(2**62, sizes.shape, generator=rng, device=sizes.device) % sizes

    items = starts + drawn(sizes)  # (n * count,)
    wrong = train.contains(users, items).nonzero().squeeze(1)
    for _ in range(rounds):
        if not len(wrong):
            break
        items[wrong] = starts[wrong] + drawn(sizes[wrong])
        wrong = wrong[train.contains(users[wrong], items[wrong])]
    if len(wrong):
        log.warning("%d of %d negatives are observed items: %d users have taken (nearly) all items of a domain",
                    len(wrong), len(items), len(users[wrong].unique()))
    return items.reshape(len(train), count)  # (n, count)


def domain_batches(train: Interactions, batch_size: int, rng: torch.Generator, negatives: int) -> Iterator[Pairs]:
    """One epoch: every training pair once, each batch with a share of every domain, so that all end together.

    There are as many batches as the largest domain fills with ``batch_size`` pairs, and each gets an equal share of
    every domain, give or take a pair. The weights make the mean over a batch the sum of the means over its domains.

    Args:
        train: on the device where training happens, like ``rng``; it knows its domains.
        negatives: items drawn per pair by :func:`negatives_within`, all before the first batch.
    """
    drawn = negatives_within(train, negatives, rng)  # (n, negatives)
    shuffled = [order[torch.randperm(len(order), generator=rng, device=order.device)]
                for order in (positions(train, domain) for domain in train.domains)]
    count = -(-max(map(len, shuffled)) // batch_size)
    for parts in zip(*(order.tensor_split(count) for order in shuffled), strict=True):
        here, n = torch.cat(parts), sum(map(len, parts))
        weights = torch.cat([train.weights[part] * (n / max(len(part), 1)) for part in parts])
        users = train.users[here]
        yield Pairs(Query(users, Ragged(users.new_zeros(n + 1), users[:0])), train.items[here], drawn[here], weights)

