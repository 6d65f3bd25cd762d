"""Objectives over users with all their items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from recot.batches.rows import Rows, rows
from recot.data.interactions import Interactions
from recot.nn.contracts import Code, Encoder
from recot.nn.precision import single
from recot.objectives import losses
from recot.request.limits import check


class RowBCE:
    """Every item of a user's row by binary cross entropy: observed or not (CDAE; ProRec Table II).

    Args:
        batch_size: users per step.
        weighting: ``equal`` counts all entries alike. ``corruption``, c being that of the network, gives ``1 - c`` to
            an observed item that the network saw, and c to one it did not and to all the others; at c = .5 all have .5.
        shuffle: draw users in another order each epoch.

    Departures: the target of a pair that a denoiser trusts in part is its weight (ProRec, Eq. 22). The code that ProRec
    takes its baselines from has the weights of ``corruption``, written with ``floor`` of the corrupted row; a pair of
    lower weight counts as whole there, for the floor of its value would say that it was hidden. Users without a
    training pair are left out.
    """

    shared = True

    def __init__(self, batch_size: int = 100, weighting: Literal["equal", "corruption"] = "equal",
                 shuffle: bool = True):
        self.batch_size, self.weighting, self.shuffle = batch_size, weighting, shuffle

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Rows]:
        """Users with their rows; they have them in any case."""
        return rows(train, self.batch_size, rng, shuffle=self.shuffle)

    def __call__(self, network: Encoder, batch: Rows) -> tuple[Tensor, Rows]:
        """(b, n_items) loss.

        Raises:
            ValueError: ``weighting`` is ``corruption``, and the network's is not in 0..0.5 or is 0.
        """
        code = network.encode(batch.query)
        logits = network.similarity(code.vectors, network.items())  # (b, n_items)
        loss = losses.bce(logits, batch.targets(logits.shape[1]))
        if self.weighting == "corruption":
            loss = loss * self.entry_weights(code, batch, loss)
        return loss, batch

    def entry_weights(self, code: Code, batch: Rows, like: Tensor) -> Tensor:
        """(b, n_items), see ``weighting``; of the shape of ``like``."""
        hidden = code.corruption
        if not 0 < hidden <= 0.5:
            raise ValueError(f"loss.weighting=corruption gives unobserved items the weight {hidden}, the network's "
                             "corruption, which has to be positive and at most 0.5; use loss.weighting=equal, or "
                             "another model.corruption")
        weights = torch.full_like(like, hidden)
        # There where anything is hidden. (nnz,): 0, or 1, or 2 at corruption .5
        seen = code.kept.floor()  # type: ignore[union-attr]
        found = seen * (1 - hidden) + (1 - seen) * hidden  # (nnz,)
        weights[batch.query.history.rows, batch.query.history.values] = found.to(weights.dtype)
        return weights


class SampledRowBCE:
    """All pairs of a user and some sampled unobserved items, by binary cross entropy (CDAE; T-CE and R-CE over it).

    Args:
        batch_size: users per step.
        negatives: items drawn per pair, uniformly from what the user has not taken, anew every epoch.
        shuffle: draw users in another order each epoch.

    Raises:
        ValueError: ``negatives`` is negative.

    Departures: the target of a pair that a denoiser trusts in part is its weight, as for all entries (ProRec, Eq. 22).
    """

    shared = True

    def __init__(self, batch_size: int = 100, negatives: int = 1, shuffle: bool = True):
        check("loss", ("negatives", negatives, negatives >= 0, "is a number of items; give 0 or more"))
        self.batch_size, self.negatives, self.shuffle = batch_size, negatives, shuffle

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Rows]:
        """Users with their rows and sampled negatives."""
        return rows(train, self.batch_size, rng, shuffle=self.shuffle, negatives=self.negatives)

    def __call__(self, network: Encoder, batch: Rows) -> tuple[Tensor, Rows]:
        """(nnz, 1 + k) loss, the observed item first, and the batch with its labels."""
        own, z = batch.query.history, network.encode(batch.query).vectors  # z (b, d)
        items = torch.cat([own.values[:, None], *([] if batch.negatives is None else [batch.negatives])], 1)
        logits = single(network.similarity(z.index_select(0, own.rows)[:, None], network.items(items)).squeeze(1))
        labels = torch.zeros_like(logits)  # (nnz, 1 + k)
        labels[:, 0] = 1.0
        targets = labels.clone()
        if batch.weights is not None:
            targets[:, 0] = batch.weights
        return losses.bce(logits, targets), replace(batch, labels=labels)


class Squared:
    """Every item of a user's row by its squared error, and their mean (SinkhornCF, Table 3).

    Args:
        batch_size: users per step.
        shuffle: draw users in another order each epoch.

    Source: Koren et al. (2009), Matrix Factorization Techniques for Recommender Systems, over all entries of a row.

    Departures: SinkhornCF's Eq. 2 is the sum over a user's items and its code the mean, as here. They differ by a
    factor, which Adam takes out but for a weight decay. The target of a pair that a denoiser trusts in part is its
    weight.
    """

    shared = True

    def __init__(self, batch_size: int = 200, shuffle: bool = True):
        self.batch_size, self.shuffle = batch_size, shuffle

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Rows]:
        """Users with their rows; they have them in any case."""
        return rows(train, self.batch_size, rng, shuffle=self.shuffle)

    def __call__(self, network: Encoder, batch: Rows) -> tuple[Tensor, Rows]:
        """(b,) loss."""
        scores = network.similarity(network.users(batch.query), network.items())  # (b, n_items)
        return losses.squared(scores, batch.targets(scores.shape[1])).mean(-1), batch


class Multinomial(nn.Module):
    """A user's row as draws from one distribution over all items, and its code near a Gaussian (Mult-VAE).

    Args:
        batch_size: users per step.
        beta: largest weight of the divergence, where the network draws its codes; it has none elsewhere.
        anneal_steps: the weight is ``min(beta, step / anneal_steps)``; 0 has ``beta`` from the start.
        latents: what becomes of the coordinates' divergences: ``sum`` (the paper) or ``mean``, which is less by the
            width of the code.
        shuffle: draw users in another order each epoch.

    Raises:
        ValueError: ``beta`` or ``anneal_steps`` is negative.

    Source: Liang et al. (WWW 2018), Variational Autoencoders for Collaborative Filtering, Eqs. 2 and 8.

    Departures: a pair that a denoiser trusts in part is a fractional count. ``latents=mean`` is the code that ProRec
    takes its baselines from. The annealing is that of the authors' script: with 200,000 steps it stops at .2 after
    40,000.
    """

    shared = True

    def __init__(self, batch_size: int = 500, beta: float = 0.2, anneal_steps: int = 0,
                 latents: Literal["sum", "mean"] = "sum", shuffle: bool = True):
        super().__init__()
        check("loss", ("beta", beta, beta >= 0, "would reward codes far from a Gaussian; give 0 or more"),
              ("anneal_steps", anneal_steps, anneal_steps >= 0, "is a number of steps; give 0 or more"))
        self.batch_size, self.beta, self.anneal_steps = batch_size, beta, anneal_steps
        self.latents, self.shuffle, self.step = latents, shuffle, 0

    def batches(self, train: Interactions, rng: torch.Generator, network: Encoder, epoch: int) -> Iterator[Rows]:
        """Users with their rows; they have them in any case."""
        return rows(train, self.batch_size, rng, shuffle=self.shuffle)

    def weight(self) -> float:
        """That of the divergence in the next step."""
        return min(self.beta, self.step / self.anneal_steps) if self.anneal_steps else self.beta

    def forward(self, network: Encoder, batch: Rows) -> tuple[Tensor, Rows]:
        """(b,) loss; counts the step."""
        code = network.encode(batch.query)
        logits = network.similarity(code.vectors, network.items())  # (b, n_items)
        loss = losses.multinomial(logits, batch.targets(logits.shape[1]))
        if code.log_std is not None:
            divergence = losses.gaussian_kl(code.mean, code.log_std)  # type: ignore[arg-type]  # both or none; (b, r)
            loss = loss + self.weight() * (divergence.sum(-1) if self.latents == "sum" else divergence.mean(-1))
        self.step += 1
        return loss, batch

    def get_extra_state(self) -> dict[str, int]:
        """The counter a checkpoint has to hold."""
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Put the counter back."""
        self.step = state["step"]
