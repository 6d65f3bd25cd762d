"""What an objective is: which scores of which batch enter which formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from recot.data.interactions import Interactions


class Objective(Protocol):
    """Draws the batches of an epoch and turns one into a loss. Knows no optimiser and no model family.

    One with a state is an ``nn.Module``, so that checkpoints hold it.
    """

    def batches(self, train: Interactions, rng: torch.Generator, network: Any, epoch: int) -> Iterator[Any]:
        """The batches of ``epoch``, from 0, on the device of ``train``; what ``network`` cannot use may be missing."""

    def __call__(self, network: Any, batch: Any) -> tuple[Tensor, Any]:
        """Unreduced loss, and the batch (with labels, where the loss made some)."""


def weighted(loss: Tensor, weights: Tensor | None) -> Tensor:
    """``loss`` (n,) times the weights of its pairs, (n,) or None for ones."""
    return loss if weights is None else loss * weights
