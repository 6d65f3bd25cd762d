"""Objectives that carry what one domain taught to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recot.batches.pairs import Pairs, pairs
from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.nn.contracts import Encoder
from recot.nn.precision import in_float32
from recot.objectives import losses
from recot.objectives.losses import weighted
from recot.objectives.pairs import BPR
from recot.request.limits import check


class Discerner(Protocol):
    """What tells codes of a source from those of a target, kept by ``networks.recsys_dan.Discriminator``."""

    def __call__(self, codes: Tensor, constant: bool = False) -> Tensor:
        """(n,) logits of (n, d); ``constant`` lets no gradient reach the weights."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """See ``nn.Module``."""


class TransferEncoder(Encoder, Protocol):
    """An encoder of a target domain that knows a source, kept by ``networks.recsys_dan.RecSys_DAN``.

    Attributes:
        weights: (d,) of the coordinates of a code; their inner product is the score.
        discriminator: of codes.
    """

    weights: Tensor

    @property
    def discriminator(self) -> Discerner:
        """See the class."""

    def codes(self, query: Query, ids: Tensor) -> Tensor:
        """(b, k, d) of b users with k items of the target each."""

    def source_codes(self, pairs: Tensor) -> Tensor:
        """(n, d) of pairs of the source, (2, n) users and items."""

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """(2, count) users and items of pairs of the source."""


@dataclass(frozen=True)
class Facing(Pairs):
    """A batch of pairs of the target, and as many of the source.

    Attributes:
        sources: (2, n) int64, users and items of the source; None where nobody tells them apart.
    """

    sources: Tensor | None = None


class Adversarial(nn.Module):
    """BPR, and codes of pairs that a discriminator takes for those of a source (RecSys-DAN; UCLR Table 8).

    Each step moves the discriminator D, by Adam with beta1 0.5, against ``softplus(-D(source)) + softplus(D(target))``,
    and then the network against ``BPR + eta softplus(-D(target))``. Neither moves the other.

    Args:
        batch_size: pairs of the target per step, and of the source.
        negatives: items drawn per pair, uniformly from what the user has not taken of its domain, anew every epoch.
        penalty: ``penalty / 2`` times the squared norms of the free vectors that a pair looks up is added to its loss.
        eta: weight of the discriminator's opinion; with 0 there is none, and a fit is fine-tuning.
        discriminator_rate: learning rate of the discriminator.

    Raises:
        ValueError: a parameter is out of its range.

    Departures: see :class:`recot.networks.recsys_dan.RecSys_DAN`.
    """

    networks = ("RecSys_DAN",)

    def __init__(self, batch_size: int = 2048, negatives: int = 1, penalty: float = 1e-5, eta: float = 0.1,
                 discriminator_rate: float = 1e-3):
        super().__init__()
        check("loss", ("eta", eta, eta >= 0, "would teach to be told apart; give 0 or more"),
              ("discriminator_rate", discriminator_rate, discriminator_rate > 0,
               "leaves the discriminator where it starts; give more than 0"))
        self.bpr = BPR(batch_size, negatives, penalty, scope="domain")
        self.eta, self.discriminator_rate = eta, discriminator_rate
        self.optimizer: torch.optim.Adam | None = None
        self.restored: dict[str, Any] | None = None

    def batches(self, train: Interactions, rng: torch.Generator, network: TransferEncoder,
                epoch: int) -> Iterator[Facing]:
        """Pairs of the target with sampled negatives, and as many pairs of the source."""
        for batch in pairs(train, self.bpr.batch_size, rng, negatives=self.bpr.negatives, scope="domain"):
            yield Facing(**vars(batch), sources=network.draw(len(batch.items), rng) if self.eta else None)

    def forward(self, network: TransferEncoder, batch: Facing) -> tuple[Tensor, Facing]:
        """(n,) loss; moves the discriminator."""
        items = torch.cat([batch.items[:, None], batch.negatives], 1)  # (n, 1 + k)
        codes = network.codes(batch.query, items)  # (n, 1 + k, d)
        scores = codes @ network.weights  # (n, 1 + k)
        loss = losses.bpr(scores[:, 0], scores[:, 1:])
        if self.bpr.penalty:
            loss = loss + self.bpr.shrinkage(*network.free(batch.query, items))
        if batch.sources is not None:
            own = codes[:, 0]  # (n, d)
            self.learn(network.discriminator, network.source_codes(batch.sources), own.detach())
            loss = loss + self.eta * feigned(own, network.discriminator)
        return weighted(loss, batch.weights), batch

    def learn(self, discriminator: Discerner, source: Tensor, target: Tensor) -> None:
        """A step of the discriminator; its gradients are gone afterwards, so that no other optimiser moves it."""
        parameters = list(discriminator.parameters())
        if self.optimizer is None:
            self.optimizer = torch.optim.Adam(parameters, self.discriminator_rate, betas=(0.5, 0.999))
            if self.restored is not None:
                self.optimizer.load_state_dict(self.restored)
        for parameter, gradient in zip(parameters, gradients(source, target, discriminator, parameters), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser of the discriminator; its weights are the network's."""
        return {"optimizer": self.restored if self.optimizer is None else self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with it."""
        self.restored = state["optimizer"]


@in_float32
def told_apart(source: Tensor, target: Tensor, discriminator: Discerner) -> Tensor:
    """Mean loss of a discriminator of codes, (n, d) each; 2 log 2 where it knows nothing."""
    return F.softplus(-discriminator(source)).mean() + F.softplus(discriminator(target)).mean()


@in_float32
def gradients(source: Tensor, target: Tensor, discriminator: Discerner,
              parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    """Those of :func:`told_apart`."""
    return torch.autograd.grad(told_apart(source, target, discriminator), parameters)


@in_float32
def feigned(target: Tensor, discriminator: Discerner) -> Tensor:
    """(n,) cost of codes (n, d) that a discriminator takes for those of the target; log 2 where it knows nothing."""
    return F.softplus(-discriminator(target, constant=True))
