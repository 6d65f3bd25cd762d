"""Objectives on histories in order: what comes after what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recot import losses
from recot.contrast import Contrast
from recot.data.batches import Sequences, sequences
from recot.data.interactions import Interactions
from recot.nn.gaussian import wasserstein
from recot.objectives import weighted


class NextItem:
    """Each item of a user is predicted from those before it, against sampled items (SASRec).

    Args:
        batch_size: users per step.
        negatives: items drawn per item, uniformly from what the user has not taken, anew every epoch.
        contrast: a second term that compares augmented histories, or None.

    Source: Kang and McAuley (ICDM 2018), Eq. 6.

    Departures: the mean is over predictions, as in the code of S3-Rec and MStein. Negatives are outside the training
    items of a user; there, also outside its validation and test items, so that these are never trained down.
    """

    networks = ("SASRec",)

    def __init__(self, batch_size: int = 256, negatives: int = 1, contrast: Contrast | None = None):
        self.batch_size, self.negatives, self.contrast = batch_size, negatives, contrast

    def batches(self, train: Interactions, rng: torch.Generator, history: bool) -> Iterator[Sequences]:
        """Histories with what comes next, and their views; they have them in any case."""
        for batch in sequences(train, self.batch_size, rng, negatives=self.negatives):
            views = self.contrast.views(batch.query.history, train, rng) if self.contrast else None
            yield replace(batch, views=views)

    def __call__(self, network: Any, batch: Sequences) -> tuple[Tensor, Sequences]:
        """(nnz,) loss, that of an item and those of its negatives added, and the batch as far as it was read.

        The second term is the same number in every place, so that the mean holds it once.
        """
        batch = batch.latest(network.max_length)
        states = network.states(network.layout(batch.query.history))  # (nnz, d)
        items = network.items(torch.cat([batch.items[:, None], batch.negatives], 1))  # (nnz, 1 + k, d)
        loss = weighted(self.compare(states, items), batch.weights)
        return loss + self.contrast(network, batch.views) if self.contrast and batch.views else loss, batch

    def compare(self, states: Tensor, items: Tensor) -> Tensor:
        """(nnz,) of what is known (nnz, d), the item that came and its negatives (nnz, 1 + k, d)."""
        logits = torch.linalg.vecdot(states[:, None], items)  # (nnz, 1 + k)
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1.0
        return losses.bce(logits, labels).sum(1)


class NextGaussian(NextItem):
    """The item that comes next is nearer than a sampled one, by the Wasserstein distance of Gaussians (STOSA; MStein).

    Args:
        batch_size: users per step.
        negatives: items drawn per item; their losses are averaged.
        pvn: weight of a hinge that wants the next item nearer to what is known than to the negative.
        contrast: a second term that compares augmented histories, or None.

    Source: STOSA (Fan et al., WWW 2022), Eqs. 12 to 14.
    """

    networks = ("Stosa",)

    def __init__(self, batch_size: int = 256, negatives: int = 1, pvn: float = 0.005, contrast: Contrast | None = None):
        super().__init__(batch_size, negatives, contrast)
        if pvn < 0 or negatives < 1:
            raise ValueError(f"loss.pvn = {pvn} is the weight of a penalty and loss.negatives = {negatives} a number "
                             "of items to be farther away; give 0 or more, and 1 or more")
        self.pvn = pvn

    def compare(self, states: Tensor, items: Tensor) -> Tensor:
        """(nnz,) of what is known (nnz, 2d), the item that came and its negatives (nnz, 1 + k, 2d)."""
        distance = wasserstein(states[:, None], items)  # (nnz, 1 + k)
        loss = losses.bpr(-distance[:, 0], -distance[:, 1:])
        between = wasserstein(items[:, :1], items[:, 1:])  # (nnz, k)
        return loss + self.pvn * (distance[:, :1] - between).relu().mean(1)
