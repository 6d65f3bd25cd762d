"""Losses of one domain at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from recot.batches.alternating import DomainPairs, alternating
from recot.data.interactions import Interactions
from recot.nn import ranks
from recot.nn.contracts import Encoder
from recot.nn.precision import in_float32
from recot.nn.similarity import direction
from recot.objectives.losses import weighted
from recot.request.limits import check

EDGE = 1e-6
"""How near to 0 and to 1 a cosine counts as a probability."""


class TowerEncoder(Encoder, Protocol):
    """A network with two towers for each domain, kept by ``networks.ga_mtcdr.GA_MTCDR``."""

    def towers(self, users: Tensor, ids: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """What leaves the towers of domain ``number`` for users (b,) and items (b, k); (b, m) and (b, k, m)."""

    def own(self, users: Tensor | None = None) -> Tensor:
        """(n, b, m): the vectors of users in n domains before they are mixed; of all users without ``users``."""


class AlternatingBCE:
    """Is this an observed pair? By the cosine as a probability, of one domain in each step (GA-MTCDR).

    The loss of a step is the sum over its rows, a pair and its negatives being a row each, of the binary cross entropy
    of ``y = clamp(cos, 1e-6, 1 - 1e-6)`` and of ``penalty / 2`` times the squared norms of what leaves either tower.
    The domains take turns, and those with more pairs go on alone.

    Args:
        batch_size: rows per step, negatives counted.
        negatives: items drawn per pair, uniformly from what the user has not taken of its domain, anew every epoch.
        penalty: see above.
        personalised: add the mean over pairs of domains of ``1 - exp(-|W^i - W^j|^2 / theta)``, where W^i has the
            vectors of all users in domain i: GA-MTCDR-P.
        theta: of that; None for a hundredth of the size of W.

    Raises:
        ValueError: a number is out of its range.

    Source: Zhu et al. (TKDE 2023), and the authors' code for two domains (IJCAI 2020).

    Departures: the target is 1, since nothing is rated here. The logarithm of ``1 - y`` is as well guarded as that of
    y; theirs is not. The P term of the paper weighs pairs of domains by weights that are trained and sum to one, which
    would all go to the most alike pair; here they are equal. The paper leaves theta open, and whether W is taken before
    the mix, as here. With vectors of walks the distances start at fifty times our theta, so that the term is 1 and has
    no gradient to speak of. A tower of users is computed once for a pair and its negatives.
    """

    networks = ("GA_MTCDR",)
    shared = True

    def __init__(self, batch_size: int = 2048, negatives: int = 7, penalty: float = 0.001,
                 personalised: bool = False, theta: float | None = None):
        check("loss", ("negatives", negatives, negatives >= 1, "leaves nothing to tell apart; give 1 or more"),
              ("penalty", penalty, penalty >= 0, "would reward large outputs; give 0 or more"),
              ("theta", theta, theta is None or theta > 0, "is a scale, which divides; give more than 0, or null"))
        self.batch_size, self.negatives, self.penalty = batch_size, negatives, penalty
        self.personalised, self.theta = personalised, theta

    def batches(self, train: Interactions, rng: torch.Generator, network: TowerEncoder,
                epoch: int) -> Iterator[DomainPairs]:
        """Pairs of one domain after another, as many as fill ``batch_size`` rows with their negatives."""
        return alternating(train, max(1, self.batch_size // (1 + self.negatives)), rng, self.negatives)

    def __call__(self, network: TowerEncoder, batch: DomainPairs) -> tuple[Tensor, DomainPairs]:
        """(n, 1 + k) loss, the observed item first, whose mean is the sum of the method. Weights scale the observed."""
        items = torch.cat([batch.items[:, None], batch.negatives], 1)  # (n, 1 + k)
        users, ids = network.towers(batch.query.users, items, batch.number)
        loss = entropies(users, ids)  # (n, 1 + k)
        loss = torch.cat([weighted(loss[:, 0], batch.weights)[:, None], loss[:, 1:]], 1)  # (n, 1 + k)
        loss = (loss + self.penalty / 2 * squares(users, ids)) * ranks.entries(loss.numel()).all
        return loss + apartness(network.own(), self.theta) if self.personalised else loss, batch


@in_float32
def entropies(users: Tensor, items: Tensor) -> Tensor:
    """Cross entropy of the cosine of each user (n, m) with its items (n, 1 + k, m), of which the first is observed.

    Returns:
        (n, 1 + k), from 1e-6 to 13.8; no gradient where a cosine lies outside of 1e-6..1 - 1e-6.
    """
    cosines = torch.linalg.vecdot(direction(users)[:, None], direction(items))  # (n, 1 + k)
    y = cosines.clamp(EDGE, 1 - EDGE)
    return torch.cat([-y[:, :1].log(), -torch.log1p(-y[:, 1:])], 1)  # (n, 1 + k)


@in_float32
def squares(users: Tensor, items: Tensor) -> Tensor:
    """Squared norms of each user (n, m) and each of its items (n, 1 + k, m), added; (n, 1 + k)."""
    return users.square().sum(-1)[:, None] + items.square().sum(-1)


@in_float32
def apartness(own: Tensor, theta: float | None = None) -> Tensor:
    """Mean of ``1 - exp(-|W^i - W^j|^2 / theta)`` over pairs of the n domains of ``own``, (n, b, m); 0 for one domain.

    Args:
        theta: None for ``b m / 100``.
    """
    n = len(own)
    scale = own[0].numel() / 100 if theta is None else theta
    terms = [1 - (-(own[i] - own[j]).square().sum() / scale).exp() for i in range(n) for j in range(i)]
    return torch.stack(terms).mean() if terms else own.new_zeros(())
