"""Gradient descent for every network: the only module that knows Lightning."""

from __future__ import annotations

import copy
import logging
import math
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

from recot.data.interactions import Interactions
from recot.data.split import Query, Split
from recot.evaluate import evaluate
from recot.nn.rmsprop import RMSProp
from recot.nn.table import clear_gradients
from recot.training import Training

log = logging.getLogger(__name__)

History = list[dict[str, float]]


class Diverged(RuntimeError):
    """The training loss became NaN or infinite."""


class Step(lightning.LightningModule):
    """The order of calls in a step. It sees blocks of mini-batches, since Lightning's own cost is per call."""

    def __init__(self, network: nn.Module, objective: Any, denoiser: Any, training: Training, train: Interactions,
                 rng: torch.Generator):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.objective, self.denoiser = network, objective, denoiser
        self.training_settings, self.train_set, self.original, self.rng = training, train, train, rng
        self.loss_sum: Tensor | float = 0.0
        self.steps = 0

    def training_step(self, block: Iterator[Any], block_index: int) -> None:
        """A block of optimiser steps, with no wait for the device."""
        optimizer = self.optimizers()
        for batch in block:
            batch = self.denoiser.before(batch, self.network)
            loss, batch = self.objective(self.network, batch)
            loss = self.denoiser.after(loss, batch).mean()
            self.manual_backward(loss)
            optimizer.step()
            clear_gradients(self.network)
            self.network.after_step()
            self.denoiser.after_step(self.network)
            self.loss_sum = self.loss_sum + loss.detach()
            self.steps += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """An optimiser of the network only; a teacher in the denoiser is none of its business."""
        settings, named = self.training_settings, list(self.network.named_parameters())
        spared = [parameter for name, parameter in named if name in self.network.undecayed]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for name, parameter in named if name not in self.network.undecayed]}]
        groups += [{"params": spared, "weight_decay": 0.0}] if spared else []
        if settings.optimizer == "rmsprop":
            return RMSProp(groups, settings.learning_rate, settings.weight_decay)
        return torch.optim.Adam(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)

    def epoch_loss(self) -> float:
        """Mean loss of the steps since the last call."""
        mean, self.loss_sum, self.steps = float(self.loss_sum) / max(self.steps, 1), 0.0, 0
        return mean

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As it is: batches are drawn where they are used."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know: random states, and the training set where a denoiser changed it."""
        checkpoint["sampler"] = self.rng.get_state()
        checkpoint["torch"] = torch.get_rng_state()
        checkpoint["cuda"] = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        checkpoint["train"] = self.changed(self.train_set)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the random numbers and the training set of the interrupted run.

        The sampler first: Lightning draws the first block before :meth:`on_train_start`. The global generator last:
        what happens until then may draw from it.
        """
        self.restored = checkpoint
        self.rng.set_state(checkpoint["sampler"].cpu())
        self.train_set = self.restored_pairs(checkpoint["train"])
        if self.train_set is not self.original:
            self.network.bind(self.train_set)

    def changed(self, train: Interactions) -> dict[str, Tensor]:
        """The tensors of a training set that a denoiser made, for a checkpoint; none of the original one's."""
        if train is self.original:
            return {}
        return {field.name: value for field in fields(train) if isinstance(value := getattr(train, field.name), Tensor)}

    def restored_pairs(self, tensors: dict[str, Tensor]) -> Interactions:
        """The training set of which :meth:`changed` gave the tensors."""
        absent: dict[str, None] = {"times": None, "noisy": None}
        return replace(self.original, **absent | tensors).to(self.rng.device) if tensors else self.original

    def on_train_start(self) -> None:
        """See :meth:`on_load_checkpoint`."""
        if (restored := self.__dict__.pop("restored", None)) is not None:
            torch.set_rng_state(restored["torch"].cpu())
            if restored["cuda"]:
                torch.cuda.set_rng_state_all([state.cpu() for state in restored["cuda"]])


class Blocks:
    """One epoch of mini-batches, ``size`` to a block; drawn from the current training set on every iteration.

    A block draws a batch when the step before is done, so that the (n, n) tensors of one batch exist at a time and not
    those of a block. Lightning asks for the next block before it runs one, and finds the last ones empty.
    """

    def __init__(self, step: Step, size: int):
        self.step, self.size = step, size

    def __iter__(self) -> Iterator[Iterator[Any]]:
        step = self.step
        batches = iter(step.objective.batches(step.train_set, step.rng, step.network, step.current_epoch))
        self.ended = False
        while not self.ended:
            yield self.block(batches)

    def block(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The next ``size`` of ``batches``, or as many as there are."""
        for _ in range(self.size):
            try:
                batch = next(batches)
            except StopIteration:
                self.ended = True
                return
            yield batch


class EpochEnd(lightning.Callback):
    """What happens between two epochs: guard, relabel, validate, select, stop, record, checkpoint.

    Without a way to validate, all epochs are run and the last one is kept.
    """

    def __init__(self, validate: Callable[[], float] | None, monitor: str, training: Training, file: Path | None,
                 observe: Callable[[History], None]):
        self.validate, self.monitor, self.training = validate, monitor, training
        self.file, self.observe = file, observe
        self.history: History = []
        self.best, self.best_epoch, self.waited = -math.inf, 0, 0
        self.best_weights: dict[str, Tensor] = {}
        self.best_pairs: dict[str, Tensor] = {}  # what they were trained on, where that is not the original
        self.clock = self.saved = time.monotonic()

    # Lightning declares any module here; this callback is made for one.
    def on_train_epoch_end(self, trainer: lightning.Trainer, step: Step) -> None:  # type: ignore[override]
        """See the class."""
        epoch, loss = trainer.current_epoch + 1, step.epoch_loss()
        finite = all(bool(parameter.isfinite().all()) for parameter in step.network.parameters())
        if not (finite and math.isfinite(loss)):
            reason = "a weight became infinite" if math.isfinite(loss) else f"the training loss was {loss}"
            raise Diverged(f"{reason} in epoch {epoch}; the weights of epoch {self.best_epoch} ({self.monitor} "
                           f"{self.best:.4f}) are the best so far. Lower trainer.learning_rate, or raise the "
                           "temperature of the loss.")
        last = epoch == self.training.max_epochs
        graded = {}
        if self.validate is not None and (epoch % self.training.eval_every == 0 or last):
            graded[self.monitor] = value = self.validate()
            self.select(epoch, step, value)
        elif self.validate is None and last:
            self.keep(epoch, step)
        self.relabel(step)
        row = {"epoch": epoch, "loss": loss, **step.denoiser.report(), **graded}
        now = time.monotonic()
        row["seconds"], self.clock = now - self.clock, now
        self.history.append(row)
        self.observe(self.history)
        trainer.should_stop = self.waited > self.training.patience
        if self.file and not last and not trainer.should_stop and now - self.saved >= self.training.checkpoint_seconds:
            write_whole(self.file, trainer.save_checkpoint)
            self.saved = time.monotonic()

    @torch.no_grad()
    def relabel(self, step: Step) -> None:
        """Let the denoiser change the training set of the next epoch."""
        step.network.eval()
        changed = step.denoiser.after_epoch(step.train_set, step.network)
        step.network.train()
        if changed is not step.train_set:
            step.train_set = changed
            step.network.bind(changed)

    def select(self, epoch: int, step: Step, value: float) -> None:
        """Keep the weights where their ``value`` is the best so far."""
        if value > self.best:
            self.best, self.waited = value, 0
            self.keep(epoch, step)
        else:
            self.waited += 1

    def keep(self, epoch: int, step: Step) -> None:
        """Remember the weights, and what they were trained on."""
        self.best_epoch = epoch
        self.best_weights = {name: tensor.detach().clone() for name, tensor in step.network.state_dict().items()}
        self.best_pairs = step.changed(step.train_set)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {name: getattr(self, name) for name in (
            "history", "best", "best_epoch", "waited", "best_weights", "best_pairs")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)


def write_whole(file: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make ``file``, which is either the old one or the new one, whatever happens meanwhile."""
    aside = file.with_suffix(".part")
    try:
        write(aside)
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


def check_readable(file: Path, wanted: set[str]) -> None:
    """Refuse a file that does not hold ``wanted``, before anything in it is run.

    Raises:
        ValueError: the file is truncated, foreign, or holds more than tensors and plain containers.
    """
    try:
        keys = set(torch.load(file, map_location="meta", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise ValueError(f"{file} is not a checkpoint that can be read safely ({type(error).__name__}); nothing in it "
                         "was run. Delete it, and the same command starts this run from the beginning.") from error
    if missing := wanted - keys:
        raise ValueError(f"{file} is a checkpoint of something else (no {', '.join(sorted(missing))}). Delete it, and "
                         "the same command starts this run from the beginning.")


class Gradient:
    """A Recommender that trains a network by gradient descent.

    Args:
        network: called with ``n_users`` and ``n_items``, gives the network.
        objective: batches and loss. denoiser: the supervision. Both are copied for each fit, so a second fit forgets
            the first; one with state is an ``nn.Module``, so that checkpoints hold it.
        training: see :class:`Training`.
        monitor: validation metric that selects the epoch, for example ``ndcg@20``.
        seed: of initialisation, dropout and sampling.
        folder: where the checkpoint of an interrupted run lies, or None to keep none.
        observe: called after each epoch with the history so far: one row of scalars per epoch.
    """

    def __init__(self, network: Callable[..., nn.Module], objective: Any, denoiser: Any, training: Training,
                 monitor: str = "ndcg@20", seed: int = 0, folder: Path | None = None,
                 observe: Callable[[History], None] = lambda history: None):
        self.make_network, self.objective, self.denoiser = network, objective, denoiser
        self.training, self.monitor, self.seed, self.folder, self.observe = training, monitor, seed, folder, observe
        self.history: History = []

    def build(self, n_users: int, n_items: int) -> nn.Module:
        """The untrained network, on its device; seeds torch's global generator, which initialisation draws from."""
        self.device = self.training.pick_device()
        torch.manual_seed(self.seed)
        self.network = self.make_network(n_users=n_users, n_items=n_items).to(self.device)
        return self.network

    def fit(self, split: Split) -> Self:
        """Train to the early stop and keep the best weights; goes on from ``folder`` where a run was interrupted.

        A split without validation questions is trained on for ``max_epochs``, and the last weights are kept.

        A fit that has ended leaves ``<folder>/fitted.pt``, and the same call then trains no more.

        Raises:
            Diverged: the loss became NaN; the last good checkpoint is kept.
            ValueError: the checkpoint found cannot be read safely.
            KeyboardInterrupt: the user stopped it; the same call resumes.
        """
        network = self.build(split.train.n_users, split.train.n_items)
        split = split.to(self.device)
        network.bind(split.train)
        denoiser = copy.deepcopy(self.denoiser).to(self.device)
        denoiser.bind(network, split.train)
        rng = torch.Generator(self.device).manual_seed(self.seed)
        step = Step(network, copy.deepcopy(self.objective), denoiser, self.training, split.train, rng)
        file = self.folder / "last.ckpt" if self.folder else None
        validate = (lambda: self.validation(split)) if len(split.valid) else None
        self.selection = EpochEnd(validate, self.monitor, self.training, file, self.observe)
        resume = file is not None and file.exists()
        if resume:
            check_readable(file, {"state_dict", "optimizer_states", "loops", "sampler"})
            log.info("going on from %s", file)
        fitted = self.folder / "fitted.pt" if self.folder else None
        if fitted and fitted.exists():
            check_readable(fitted, {"best_weights", "history"})
            self.selection.load_state_dict(torch.load(fitted, map_location=self.device, weights_only=True))
        else:
            self.train(step, file if resume else None)
            if fitted:
                write_whole(fitted, lambda aside: torch.save(self.selection.state_dict(), aside))
        self.trained_on = step.restored_pairs(self.selection.best_pairs)
        network.bind(self.trained_on)
        network.load_state_dict(self.selection.best_weights)
        self.history = self.selection.history
        return self

    def train(self, step: Step, resume: Path | None) -> None:
        """Run Lightning's loop to its end."""
        try:
            self.make_trainer().fit(step, train_dataloaders=Blocks(step, self.training.block), ckpt_path=resume,
                                    weights_only=True)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C, which would end a whole sweep without a word
            raise KeyboardInterrupt from stop

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.selection.best_epoch

    def validation(self, split: Split) -> float:
        """Mean of the monitored metric."""
        self.network.eval()
        values = evaluate(self, split.valid, [self.monitor])[self.monitor]
        self.network.train()
        return float(values.mean())

    def make_trainer(self) -> lightning.Trainer:
        """A Lightning trainer with everything off that this module does itself."""
        settings, cuda = self.training, self.device.type == "cuda"
        if cuda and settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.utils.deterministic.fill_uninitialized_memory = False  # a safeguard that costs a pass per tensor
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*(GPU available but not used|isinstance.treespec, LeafSpec).*")
        return lightning.Trainer(
            accelerator="gpu" if cuda else "cpu", devices=1, precision=settings.precision,
            deterministic=settings.deterministic and cuda, max_epochs=settings.max_epochs, callbacks=[self.selection],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0)

    @torch.no_grad()
    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, a fresh tensor on the training device."""
        self.network.eval()
        return self.network.score(query.to(self.device)).float()

    def save(self, file: Path) -> None:
        """Write the weights."""
        torch.save(self.network.state_dict(), file)

    def load(self, file: Path, train: Interactions) -> Self:
        """Read weights written by :meth:`save`; nothing but tensors is unpickled.

        Args:
            train: the ``trained_on`` of the fit: the training set as the denoiser left it for the best epoch.
        """
        network = self.build(train.n_users, train.n_items)
        network.load_state_dict(torch.load(file, map_location=self.device, weights_only=True))
        network.bind(train.to(self.device))
        return self
