"""Objectives that draw from each domain of items in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from recot.batches.domains import domain_batches
from recot.batches.pairs import Pairs
from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.nn.contracts import Encoder
from recot.objectives import losses
from recot.objectives.losses import weighted
from recot.objectives.pairs import BPR


class DomainEncoder(Encoder, Protocol):
    """An encoder that has a vector of a user for each domain, kept by ``networks.domains.ByDomain``."""

    def sample(self, rng: torch.Generator) -> None:
        """Draw what holds for an epoch."""

    def within(self, query: Query, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(b, d) and (b, k, d) of b users and, for each, of k items from one domain."""


class DomainBPR(BPR):
    """BPR over a batch of each domain in every step, the losses of the domains summed (HeroGRAPH; UCLR Table 2).

    Args:
        batch_size: pairs per step of the largest domain; the others have fewer, so that all end together.
        negatives: items drawn per pair, uniformly from what the user has not taken of its domain, anew every epoch.
        penalty: ``penalty / 2`` times the squared norms of the free vectors that a pair looks up is added to its loss.

    Raises:
        ValueError: ``penalty`` is negative, or there are no negatives.

    Departures: the parts of a domain differ by at most one pair. Shares of rounded-up size, as the authors' explanation
    of their batch sizes suggests, would leave the last steps without some domains.
    """

    networks = ("HeroGRAPH",)
    shared = True

    def __init__(self, batch_size: int = 2048, negatives: int = 1, penalty: float = 1e-5):
        super().__init__(batch_size, negatives, penalty)

    # An objective may ask more of a network than its base does.
    def batches(self, train: Interactions, rng: torch.Generator,  # type: ignore[override]
                network: DomainEncoder, epoch: int) -> Iterator[Pairs]:
        """Pairs of all domains with sampled negatives; their weights hold the shares of the domains."""
        network.sample(rng)
        yield from domain_batches(train, self.batch_size, rng, self.negatives)

    def __call__(self, network: DomainEncoder, batch: Pairs) -> tuple[Tensor, Pairs]:  # type: ignore[override]
        """(n,) loss."""
        items = torch.cat([batch.items[:, None], batch.negatives], 1)  # (n, 1 + k)
        users, compared = network.within(batch.query, items)
        scores = network.similarity(users[:, None], compared).squeeze(1)  # (n, 1 + k)
        loss = losses.bpr(scores[:, 0], scores[:, 1:])
        if self.penalty:
            loss = loss + self.shrinkage(*network.free(batch.query, items))
        return weighted(loss, batch.weights), batch
