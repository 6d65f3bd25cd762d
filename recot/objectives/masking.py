"""Losses that hide a domain of a user from a network that has all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from recot.batches.users import MaskedUsers, masked_users
from recot.data.interactions import Interactions
from recot.nn import ranks
from recot.nn.contracts import Encoder
from recot.nn.precision import in_float32
from recot.nn.similarity import unit
from recot.objectives import losses
from recot.request.limits import check


class MaskingEncoder(Encoder, Protocol):
    """An autoencoder of a user's vectors in n domains, kept by ``networks.cat_art.CAT``.

    Attributes:
        encoded: (n_users, n, m), the vectors of all users in all domains.
    """

    encoded: Tensor

    def streams(self, users: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input (b, n m) of b users, codes (2, b, m) of it and of its masked copy, and what both decode to."""


class MaskedDomains:
    """The codes of a user and of a copy with one domain hidden agree, and both decode to the user (CAT).

    ``contrast * InfoNCE(h, h') + reconstruction * (MSE(dec h, e) + MSE(dec h', e))``, where InfoNCE compares cosines
    over tau in both directions, the partner among the columns, and MSE is a mean over the n m numbers of a user.

    Args:
        batch_size: users per step. tau: temperature.
        contrast, reconstruction: weights.
        passes: over all users, which make an epoch. With 2,000 users a pass is one step, and validation after each
            would cost more than training.

    Raises:
        ValueError: ``tau`` is not positive, a weight is negative, or ``passes`` is below 1.

    Source: Li et al. (WSDM 2023), One for All, All for One, and the authors' code.

    Departures: the authors stop when their loss on other users has not fallen for two passes; what stops here is the
    monitor of the protocol, by ``trainer.patience`` of the stage. They form all differences of a batch, (b, b, m); the
    product of unit vectors, (b, b), is the same.
    """

    networks = ("CAT",)
    shared = True

    def __init__(self, batch_size: int = 2048, tau: float = 0.1, contrast: float = 0.2, reconstruction: float = 0.4,
                 passes: int = 1):
        check("loss", ("tau", tau, tau > 0, "is a temperature, which divides; give more than 0, as 0.05 to 1"),
              ("contrast", contrast, contrast >= 0, "would push a user from itself; give 0 or more"),
              ("reconstruction", reconstruction, reconstruction >= 0, "would reward errors; give 0 or more"),
              ("passes", passes, passes >= 1, "leaves an epoch without a step; give 1 or more"))
        self.batch_size, self.tau, self.passes = batch_size, tau, passes
        self.contrast, self.reconstruction = contrast, reconstruction

    def batches(self, train: Interactions, rng: torch.Generator, network: MaskingEncoder,
                epoch: int) -> Iterator[MaskedUsers]:
        """Users, with a domain of each to hide."""
        return masked_users(train, self.batch_size, rng, n_domains=network.encoded.shape[1], passes=self.passes)

    def __call__(self, network: MaskingEncoder, batch: MaskedUsers) -> tuple[Tensor, MaskedUsers]:
        """(b,) loss."""
        whole, codes, decoded = network.streams(batch.query.users, batch.hidden)
        errors = losses.squared(decoded, whole).mean(-1).sum(0)  # (b,)
        return self.contrast * both_ways(codes[0], codes[1], self.tau) + self.reconstruction * errors, batch


@in_float32
def both_ways(one: Tensor, other: Tensor, tau: float) -> Tensor:
    """Each row's partner in the other tensor among all rows there, by cosine over ``tau``, the mean of both directions.

    Args:
        one, other: (b, m); row i of one is the partner of row i of the other.

    Returns:
        (b,); log b where all rows are alike.
    """
    rows = ranks.rows(len(one))
    logits = unit(one) @ rows.gathered(unit(other)).T / tau  # (b, b)
    return (losses.infonce(logits, rows.first) + losses.infonce(rows.own(rows.gathered(logits).T), rows.first)) / 2
