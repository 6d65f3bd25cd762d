"""Gradient descent for every network: the only module that knows Lightning."""

from __future__ import annotations

import copy
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor, nn

from recot import stored
from recot.data.interactions import Interactions
from recot.data.split import Query, Split
from recot.evaluate import Diverged, evaluate
from recot.files import write_sealed, write_whole
from recot.nn.rmsprop import RMSProp
from recot.nn.table import clear_gradients
from recot.schema import RequestError
from recot.training import Training

log = logging.getLogger(__name__)

History = list[dict[str, float]]


def in_float32(number: float) -> float:
    """A positive number, infinite where float32 has none so large; what it multiplies then overflows, as it would."""
    return number if number <= torch.finfo(torch.float32).max else math.inf


class Step(lightning.LightningModule):
    """The order of calls in a step. It sees blocks of mini-batches, since Lightning's own cost is per call."""

    def __init__(self, network: nn.Module, objective: Any, denoiser: Any, training: Training, train: Interactions,
                 rng: torch.Generator):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.objective, self.denoiser = network, objective, denoiser
        self.training_settings, self.train_set, self.rng = training, train, rng
        self.loss_sum: Tensor | float = 0.0
        self.steps = 0

    def training_step(self, block: Iterator[Any], block_index: int) -> None:
        """A block of optimiser steps, with no wait for the device."""
        optimizer = self.optimizers()
        for batch in block:
            batch = self.denoiser.before(batch, self.network)
            loss, batch = self.objective(self.network, batch)
            loss = self.denoiser.after(loss, batch).float().mean()  # and the sum below: long ones, also under autocast
            with torch.autocast(self.device.type, enabled=False):  # Lightning's would cast matrix products of gradients
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
            return RMSProp(groups, in_float32(settings.learning_rate), in_float32(settings.weight_decay))
        return torch.optim.Adam(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)

    def epoch_loss(self) -> float:
        """Mean loss of the steps since the last call."""
        mean, self.loss_sum, self.steps = float(self.loss_sum) / max(self.steps, 1), 0.0, 0
        return mean

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As it is: batches are drawn where they are used."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know: random states, and the device they are of."""
        checkpoint["device"] = self.device.type
        checkpoint["sampler"] = self.rng.get_state()
        checkpoint["torch"] = torch.get_rng_state()
        checkpoint["cuda"] = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

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
            torch.set_rng_state(restored["torch"].cpu())
            if restored["cuda"] is not None:
                torch.cuda.set_rng_state(restored["cuda"].cpu(), self.device)


class Blocks:
    """One epoch of mini-batches, ``size`` to a block; drawn anew on every iteration.

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
    """What happens between two epochs: guard, validate, select, stop, record, checkpoint.

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

    # Lightning declares any module here; this callback is made for one.
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
        row = {"epoch": epoch, "loss": loss, **step.denoiser.report(), **graded}
        now = time.monotonic()
        row["seconds"], self.clock = now - self.clock, now
        self.history.append(row)
        self.observe(self.history)
        trainer.should_stop = (self.waited > self.training.patience
                               and trainer.global_step - self.best_step >= (self.training.patience_steps or 0))
        if self.file and not last and not trainer.should_stop and now - self.saved >= self.training.checkpoint_seconds:
            trainer.save_checkpoint(self.file)
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
        """Whole or not at all."""
        write_sealed(Path(path), partial(torch.save, checkpoint))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """On the CPU; Lightning moves what is to be moved."""
        return stored.read(Path(path), set())

    def remove_checkpoint(self, path: Any) -> None:
        """Nothing of Lightning's asks for it."""
        Path(path).unlink()


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

    Attributes:
        device: where the network is. name: what messages call it: its class, and its epoch once it is fitted.
    """

    def __init__(self, network: Callable[..., nn.Module], objective: Any, denoiser: Any, training: Training,
                 monitor: str = "ndcg@20", seed: int = 0, folder: Path | None = None,
                 observe: Callable[[History], None] = lambda history: None):
        self.make_network, self.objective, self.denoiser = network, objective, denoiser
        self.training, self.monitor, self.seed, self.folder, self.observe = training, monitor, seed, folder, observe
        self.history: History = []

    def build(self, n_users: int, n_items: int) -> nn.Module:
        """The untrained network, on its device; seeds torch's global generator, which initialisation draws from.

        Raises:
            RequestError: the device is not there, or cannot compute in the precision that is asked for.
        """
        self.device = self.training.pick_device()
        if self.device.type == "cuda":  # here and not before training, since weights that were read are only asked
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(self.training.deterministic)
            torch.utils.deterministic.fill_uninitialized_memory = False  # a safeguard that costs a pass per tensor
        torch.manual_seed(self.seed)
        self.network = self.make_network(n_users=n_users, n_items=n_items).to(self.device)
        self.name = type(self.network).__name__
        return self.network

    def fit(self, split: Split) -> Self:
        """Train to the early stop and keep the best weights; goes on from ``folder`` where a run was interrupted.

        A split without validation questions is trained on for ``max_epochs``, and the last weights are kept.

        A fit that has ended leaves ``<folder>/fitted.pt``, and the same call then trains no more. A checkpoint of
        another kind of device is left alone with a warning, since its random numbers cannot be gone on with.

        Raises:
            Diverged: the loss, a weight or a score became NaN or infinite; the last good checkpoint is kept.
            ValueError: what is found in ``folder`` is not what such a fit wrote.
            KeyboardInterrupt: the user stopped it; the same call resumes.
        """
        network = self.build(split.train.n_users, split.train.n_items)
        split = split.to(self.device)
        network.bind(split.train)
        denoiser = copy.deepcopy(self.denoiser).to(self.device)
        denoiser.bind(network, split.train)
        rng = torch.Generator(self.device).manual_seed(self.seed)
        step = Step(network, copy.deepcopy(self.objective), denoiser, self.training, split.train, rng)
        file, fitted = (self.folder / "last.ckpt", self.folder / "fitted.pt") if self.folder else (None, None)
        validate = (lambda: self.validation(split)) if len(split.valid) else None
        self.selection = EpochEnd(validate, self.monitor, self.training, file, self.observe)
        if fitted and fitted.exists():
            state = stored.read(fitted, {*EpochEnd.STATE})
            stored.check(fitted, state["best_weights"], network.state_dict())
            self.selection.load_state_dict(state)
        else:
            self.train(step, file if file and file.exists() and self.resumable(step, file) else None)
            if fitted:
                write_sealed(fitted, partial(torch.save, self.selection.state_dict()))
        # Lightning ends by moving what it trained to the CPU.
        network.load_state_dict(self.selection.best_weights, assign=True)
        network.to(self.device)
        network.bind(split.train)
        self.history, self.name = self.selection.history, f"{self.name} of epoch {self.best_epoch}"
        return self

    def resumable(self, step: Step, file: Path) -> bool:
        """Whether the checkpoint in ``file`` can be gone on from on this device.

        Raises:
            ValueError: it is not what an interrupted fit of this very network wrote.
        """
        state = stored.read(file, {"state_dict", "optimizer_states", "loops", "callbacks", "device", "sampler",
                                   "torch", "cuda"})
        stored.check(file, state["state_dict"], step.state_dict(), trained="network.")
        kept = state["callbacks"].get(self.selection.state_key, {})
        if not {*EpochEnd.STATE} <= {*kept} or not state["optimizer_states"]:
            raise stored.refusal(f"{file} lacks the best weights so far or the state of the optimiser")
        if state["device"] != self.device.type:
            log.warning("%s was written on %s, and %s draws other random numbers; training begins anew", file,
                        state["device"], self.device.type)
            return False
        log.info("going on from %s", file)
        return True

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
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*(GPU available but not used|isinstance.treespec, LeafSpec).*")
        return lightning.Trainer(
            accelerator="gpu" if cuda else "cpu", devices=1, precision=settings.precision,
            deterministic=settings.deterministic and cuda, max_epochs=settings.max_epochs, callbacks=[self.selection],
            plugins=[Sealed()], logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0)

    @torch.no_grad()
    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, a fresh tensor on the training device."""
        self.network.eval()
        return self.network.score(query.to(self.device)).float()

    def save(self, file: Path) -> None:
        """Write the weights, whole or not at all.

        Raises:
            OSError: the folder cannot be written; what was there stays.
        """
        write_whole(file, partial(torch.save, self.network.state_dict()))

    def load(self, file: Path, train: Interactions) -> Self:
        """Read weights written by :meth:`save`; nothing but tensors is unpickled.

        Args:
            train: what the network was trained on.

        Raises:
            RequestError: the file is missing, is no file of weights, or holds those of another network.
        """
        network = self.build(train.n_users, train.n_items)
        try:
            weights = stored.weights(file, network.state_dict())
        except (OSError, ValueError) as error:
            raise RequestError(f"{error}; the command of its run with force=true makes it again") from error
        network.load_state_dict(weights)
        network.bind(train.to(self.device))
        return self
