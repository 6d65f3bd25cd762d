"""Gradient descent for every network. Lightning is known in this room alone, and imported by what trains alone."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from recot.data.interactions import Domain, Interactions
from recot.data.questions import Query, Split
from recot.evaluation.recommender import History, Recommender
from recot.fit import stored
from recot.fit.graded import graded
from recot.fit.settings import Training
from recot.nn import ranks
from recot.nn.contracts import Network, Objective, Supervision
from recot.system.files import write_sealed, write_whole

if TYPE_CHECKING:  # 2 s of CPU, most of it for torch._dynamo and torchmetrics, which nobody needs who only asks a model
    import lightning.pytorch as lightning

    from recot.fit.step import Step

log = logging.getLogger(__name__)


class Gradient(Recommender):
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
        by_domain: whether the network is told the ranges of items by domain.

    Attributes:
        device: where the network is.
    """

    def __init__(self, network: Callable[..., Network], objective: Objective[Any, Any],
                 denoiser: Supervision[Any], training: Training, monitor: str = "ndcg@20", seed: int = 0,
                 folder: Path | None = None, observe: Callable[[History], None] = lambda history: None,
                 by_domain: bool = False):
        self.by_domain = by_domain
        self.make_network, self.objective, self.denoiser = network, objective, denoiser
        self.training, self.monitor, self.seed, self.folder, self.observe = training, monitor, seed, folder, observe
        self.history: History = []
        self.called = "Gradient"

    def build(self, n_users: int, n_items: int, domains: tuple[Domain, ...] = ()) -> Network:
        """The untrained network, on its device; seeds torch's global generator, which initialisation draws from.

        Raises:
            RequestError: the device is not there, or cannot compute in the precision that is asked for.
        """
        self.device = self.training.pick_device()
        if self.device.type == "cuda":  # here and not before training, since weights that were read are only asked
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(self.training.deterministic)
            # A safeguard that costs a pass per tensor. torch makes this module by hand, so that it has no types.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.manual_seed(self.seed)
        known = {"domains": domains} if self.by_domain else {}
        self.network = self.make_network(n_users=n_users, n_items=n_items, **known).to(self.device)
        self.network.train()  # parts that were copied from a fitted network are not in that mode
        self.called = type(self.network).__name__
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
        from recot.fit.epochs import EpochEnd
        from recot.fit.step import Step

        network = self.build(split.train.n_users, split.train.n_items, split.train.domains)
        split = split.to(self.device)
        network.bind(split.train)
        denoiser = copy.deepcopy(self.denoiser).to(self.device)
        denoiser.bind(network, split.train)
        rng = torch.Generator(self.device).manual_seed(self.seed)
        step = Step(network, copy.deepcopy(self.objective), denoiser, self.training, split.train, rng)
        step.part_ways(self.seed)
        file, fitted = (self.folder / "last.ckpt", self.folder / "fitted.pt") if self.folder else (None, None)
        validate = (lambda: self.validation(split)) if len(split.valid) else None
        self.selection = EpochEnd(validate, self.monitor, self.training, file, self.observe)
        if state := ranks.agreed(lambda: self.finished(network, fitted) if fitted and fitted.exists() else None):
            self.selection.load_state_dict(state)
        else:
            self.train(step, ranks.agreed(
                lambda: file if file and file.exists() and self.resumable(step, file) else None))
            if fitted and ranks.rank() == 0:
                write_sealed(fitted, partial(torch.save, self.selection.state_dict()))
        # Lightning ends by moving what it trained to the CPU.
        network.load_state_dict(self.selection.best_weights, assign=True)
        network.to(self.device)
        network.bind(split.train)
        self.history, self.called = self.selection.history, f"{self.called} of epoch {self.best_epoch}"
        return self

    def finished(self, network: Network, file: Path) -> dict[str, Any]:
        """What a fit that has ended left in ``file``.

        Raises:
            ValueError: it is not what a fit of this very network wrote.
        """
        from recot.fit.epochs import EpochEnd

        state = stored.read(file, {*EpochEnd.STATE})
        stored.check(file, state["best_weights"], network.state_dict())
        return state

    def resumable(self, step: Step, file: Path) -> bool:
        """Whether the checkpoint in ``file`` can be gone on from on this device.

        Raises:
            ValueError: it is not what an interrupted fit of this very network wrote.
        """
        from recot.fit.epochs import EpochEnd

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
        from recot.fit.step import Blocks

        try:
            self.make_trainer().fit(step, train_dataloaders=Blocks(step, self.training.block), ckpt_path=resume,
                                    weights_only=True)
        except SystemExit as stop:  # Lightning's answer to Ctrl-C, which would end a whole sweep without a word
            raise KeyboardInterrupt from stop

    @property
    def name(self) -> str:
        """What messages call it: the class of its network, and the epoch once it is fitted."""
        return self.called

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept."""
        return self.selection.best_epoch

    @property
    def chosen(self) -> Mapping[str, Mapping[str, Any]]:
        """As many epochs as were best."""
        return {"trainer": {"max_epochs": self.best_epoch}}

    @property
    def about_users(self) -> Mapping[str, Tensor]:  # type: ignore[override]  # it says something
        """What the network says."""
        return self.network.about_users()

    @property
    def scorer(self) -> Network:
        """The network, in evaluation mode."""
        self.network.eval()
        return self.network

    def validation(self, split: Split) -> float:
        """Mean of the monitored metric."""
        self.network.eval()
        values = graded(self, split.valid, [self.monitor])[self.monitor]
        self.network.train()
        return float(values.mean())

    def make_trainer(self) -> lightning.Trainer:
        """A Lightning trainer with everything off that this module does itself."""
        import lightning.pytorch as lightning
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment

        from recot.fit.epochs import Sealed

        settings, cuda = self.training, self.device.type == "cuda"
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*(GPU available but not used|isinstance.treespec, LeafSpec).*")
        # Which process this is, is not for Lightning to find out. In a batch script of Slurm with several tasks it
        # refuses to train, and on Slurm's signal it would leave a checkpoint that any later fit goes on from.
        alone = LightningEnvironment()
        return lightning.Trainer(
            accelerator="gpu" if cuda else "cpu", precision=settings.precision,
            devices=[torch.cuda.current_device()] if cuda and ranks.processes() > 1 else 1,
            deterministic=settings.deterministic and cuda, max_epochs=settings.max_epochs, callbacks=[self.selection],
            plugins=[Sealed(), alone], logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0)

    @torch.no_grad()
    def score(self, query: Query) -> Tensor:
        """(b, n_items) float32, a fresh tensor on the training device."""
        self.network.eval()
        return self.network.score(query.to(self.device)).float()

    @torch.no_grad()
    def score_of(self, query: Query, items: slice | Tensor) -> Tensor:
        """(b, n) or (b, c) float32, a fresh tensor on the training device; see :class:`Recommender`."""
        self.network.eval()
        ids = torch.arange(items.start, items.stop) if isinstance(items, slice) else items
        return self.network.score_of(query.to(self.device), ids.to(self.device)).float()

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
        network = self.build(train.n_users, train.n_items, train.domains)
        network.load_state_dict(stored.named(file, network.state_dict()))
        network.bind(train.to(self.device))
        return self

    def untrained(self, train: Interactions) -> Self:
        """As after a fit, with a network that has learnt nothing."""
        self.build(train.n_users, train.n_items, train.domains).bind(train.to(self.device))
        return self
