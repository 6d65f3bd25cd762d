"""What happens at the end of an epoch: validation, the best state, checkpoints, an early end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from recot.evaluation.evaluate import Diverged
from recot.evaluation.recommender import History
from recot.fit import stored
from recot.fit.settings import Training
from recot.fit.step import Step
from recot.nn import ranks
from recot.system.files import write_sealed

log = logging.getLogger(__name__)


class EpochEnd(lightning.Callback):
    """What happens before the first epoch and between two: guard, validate, select, stop, record, checkpoint.

    Without a way to validate, all epochs are run and the last one is kept.
    """

    STATE = ("history", "best", "best_epoch", "best_step", "waited", "best_weights")
    """What a checkpoint has to hold of it."""

    def __init__(self, validate: Callable[[], float] | None, monitor: str, training: Training, file: Path | None,
                 observe: Callable[[History], None]):
        self.validate, self.monitor, self.training = validate, monitor, training
        self.file, self.observe = file, observe
        self.history: History = []
        self.best, self.best_epoch, self.best_step, self.waited = -math.inf, 0, 0, 0
        self.best_weights: dict[str, Tensor] = {}
        self.clock = self.saved = time.monotonic()

    # Lightning declares any module in both methods; this callback is made for one.
    def on_train_start(self, trainer: lightning.Trainer, step: Step) -> None:  # type: ignore[override]
        """Grade a network that starts as what was fitted before: it may be better than all that training makes of it.

        It is epoch 0, and a run that goes on has it already.
        """
        if step.network.starts_fitted and self.validate is not None and not self.history:
            value = self.validate()
            self.select(0, 0, step, value)
            self.clock, start = time.monotonic(), self.clock
            self.history.append({"epoch": 0, self.monitor: value, "seconds": self.clock - start})

    def on_train_epoch_end(self, trainer: lightning.Trainer, step: Step) -> None:  # type: ignore[override]
        """See the class.

        Raises:
            Diverged: the loss, a weight or a score is NaN or infinite.
        """
        epoch, loss = trainer.current_epoch + 1, step.epoch_loss()
        if not math.isfinite(loss):
            raise self.diverged(f"the training loss was {loss}", epoch, step)
        if not all(bool(parameter.isfinite().all()) for parameter in step.network.parameters()):
            raise self.diverged("a weight became infinite", epoch, step)
        last = epoch == self.training.max_epochs
        graded = {}
        if self.validate is not None and (epoch % self.training.eval_every == 0 or last):
            try:
                graded[self.monitor] = value = self.validate()
            except Diverged as error:
                raise self.diverged("scores became infinite", epoch, step) from error
            self.select(epoch, trainer.global_step, step, value)
        elif self.validate is None and last:
            self.keep(epoch, step)
        step.denoiser.after_epoch()
        report = getattr(step.objective, "report", None)
        told = report(step.network) if report else {}
        row = {"epoch": epoch, "loss": loss, **told, **step.denoiser.report(), **graded}
        now = time.monotonic()
        row["seconds"], self.clock = now - self.clock, now
        self.history.append(row)
        self.observe(self.history)
        trainer.should_stop = (self.waited > self.training.patience
                               and trainer.global_step - self.best_step >= (self.training.patience_steps or 0))
        due = not last and not trainer.should_stop and now - self.saved >= self.training.checkpoint_seconds
        if file := ranks.agreed(lambda: self.file if due else None):
            trainer.save_checkpoint(file)
            self.saved = time.monotonic()

    def diverged(self, reason: str, epoch: int, step: Step) -> Diverged:
        """The error that says so, and what is left."""
        name = type(step.network).__name__
        left = (f"the best weights of {name} are those of epoch {self.best_epoch} ({self.monitor} {self.best:.4f})"
                if self.best_epoch else f"no epoch of {name} was good")
        return Diverged(f"{reason} in epoch {epoch}; {left}. Lower trainer.learning_rate, or raise the temperature of "
                        "the loss.")

    def select(self, epoch: int, steps: int, step: Step, value: float) -> None:
        """Keep the weights of an epoch, the last of ``steps`` optimiser steps, where ``value`` is the best so far."""
        if value > self.best:
            self.best, self.best_step, self.waited = value, steps, 0
            self.keep(epoch, step)
        else:
            self.waited += 1

    def keep(self, epoch: int, step: Step) -> None:
        """Remember the weights."""
        self.best_epoch = epoch
        self.best_weights = {name: tensor.detach().clone() for name, tensor in step.network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {name: getattr(self, name) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        for name in self.STATE:
            setattr(self, name, state[name])


class Sealed(CheckpointIO):
    """Lightning's checkpoints in one file that says itself whether it is what was written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Whole or not at all, by the first process."""
        if ranks.rank() == 0:
            write_sealed(Path(path), partial(torch.save, checkpoint))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """On the CPU; Lightning moves what is to be moved."""
        return ranks.agreed(lambda: stored.read(Path(path), set()))

    def remove_checkpoint(self, path: Any) -> None:
        """Nothing of Lightning's asks for it."""
        Path(path).unlink()
