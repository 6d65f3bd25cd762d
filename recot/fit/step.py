"""A training step, and the batches of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor

from recot.data.interactions import Interactions
from recot.fit.lazy import LazyAdam
from recot.fit.rmsprop import RMSProp
from recot.fit.settings import Training
from recot.nn import ranks
from recot.nn.contracts import Network, Objective, Supervision
from recot.nn.gradients import Gradients
from recot.nn.table import clear_gradients, settle, tables


def in_float32(number: float) -> float:
    """A positive number, infinite where float32 has none so large; what it multiplies then overflows, as it would."""
    return number if number <= torch.finfo(torch.float32).max else math.inf


class Step(lightning.LightningModule):
    """The order of calls in a step. It sees blocks of mini-batches, since Lightning's own cost is per call."""

    def __init__(self, network: Network, objective: Objective[Any, Any], denoiser: Supervision[Any],
                 training: Training, train: Interactions, rng: torch.Generator):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.objective, self.denoiser = network, objective, denoiser
        self.training_settings, self.train_set, self.rng = training, train, rng
        self.loss_sum: Tensor | float = 0.0
        self.steps = 0

    def training_step(self, block: Iterator[object], block_index: int) -> None:
        """A block of optimiser steps, with no wait for the device."""
        optimizer = self.optimizers()
        for whole in block:
            with ranks.share(whole) as batch:
                self.descend(batch)
            optimizer.step()  # type: ignore[union-attr]  # configure_optimizers gives one
            clear_gradients(self.network)
            self.network.after_step()
            self.denoiser.after_step(self.network)
            self.steps += 1
        settle(self.network)

    def descend(self, batch: object) -> None:
        """Compute the gradients of a batch."""
        batch = self.denoiser.before(batch, self.network)
        loss, batch = self.objective(self.network, batch)
        loss = self.denoiser.after(loss, batch).float()  # before means and sums: long ones, also under autocast
        gradients = Gradients(self.network, loss.numel())
        loss = gradients.mean(loss)
        with torch.autocast(self.device.type, enabled=False):  # Lightning's would cast matrix products of gradients
            self.manual_backward(loss)
        gradients.join()
        self.loss_sum = self.loss_sum + loss.detach()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """An optimiser of the network only; a teacher in the denoiser is none of its business."""
        settings, named = self.training_settings, list(self.network.named_parameters())
        spared = [parameter for name, parameter in named if name in self.network.undecayed]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for name, parameter in named if name not in self.network.undecayed]}]
        groups += [{"params": spared, "weight_decay": 0.0}] if spared else []
        if settings.optimizer == "rmsprop":
            return RMSProp(groups, in_float32(settings.learning_rate), in_float32(settings.weight_decay))
        if settings.optimizer == "adam":
            return LazyAdam(groups, tables(self.network), settings.learning_rate, settings.weight_decay)
        return torch.optim.Adam(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True,
                                amsgrad=True)

    def epoch_loss(self) -> float:
        """Mean loss of the steps since the last call."""
        parts = ranks.collected(lambda: float(self.loss_sum))
        mean, self.loss_sum, self.steps = sum(parts) / max(self.steps, 1), 0.0, 0
        return mean

    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        """As it is: batches are drawn where they are used."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know: random states, and the device they are of."""
        checkpoint["device"] = self.device.type
        checkpoint["sampler"] = self.rng.get_state()
        states = ranks.collected(lambda: (torch.get_rng_state(), torch.cuda.get_rng_state(
            self.device) if self.device.type == "cuda" else None))
        checkpoint["torch"], checkpoint["cuda"] = states[0]
        if len(states) > 1:
            checkpoint["ranks"] = states[1:]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the random numbers of the interrupted run.

        The sampler first: Lightning draws the first block before :meth:`on_train_start`. The global generator last:
        what happens until then may draw from it.
        """
        self.restored = checkpoint
        self.rng.set_state(checkpoint["sampler"].cpu())

    def on_train_start(self) -> None:
        """See :meth:`on_load_checkpoint`."""
        if (restored := self.__dict__.pop("restored", None)) is not None:
            states = [(restored["torch"], restored["cuda"]), *restored.get("ranks", ())]
            own, card = states[ranks.rank() if ranks.rank() < len(states) else 0]
            torch.set_rng_state(own.cpu())
            if card is not None:
                torch.cuda.set_rng_state(card.cpu(), self.device)
            if ranks.rank() >= len(states):  # it was written by fewer processes
                self.part_ways(int(torch.randint(2**32, ())))

    def part_ways(self, seed: int) -> None:
        """Let each process but the first draw other random numbers, unless all have to draw the same."""
        if ranks.rank() and not self.network.alike:
            torch.manual_seed(seed + 2**32 * ranks.rank())


class Blocks:
    """One epoch of mini-batches, ``size`` to a block; drawn anew on every iteration.

    A block draws a batch when the step before is done, so that the (n, n) tensors of one batch exist at a time and not
    those of a block. Lightning asks for the next block before it runs one, and finds the last ones empty.
    """

    def __init__(self, step: Step, size: int):
        self.step, self.size = step, size

    def __iter__(self) -> Iterator[Iterator[object]]:
        step = self.step
        batches = iter(step.objective.batches(step.train_set, step.rng, step.network, step.current_epoch))
        self.ended = False
        while not self.ended:
            yield self.block(batches)

    def block(self, batches: Iterator[object]) -> Iterator[object]:
        """The next ``size`` of ``batches``, or as many as there are."""
        for _ in range(self.size):
            try:
                batch = next(batches)
            except StopIteration:
                self.ended = True
                return
            yield batch
