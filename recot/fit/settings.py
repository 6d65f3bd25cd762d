"""How long, how fast and where a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from recot.request.errors import RequestError


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        max_epochs: upper bound. The SCLRec paper states none; 300 is that of the library its authors most likely used.
        patience: stop when the validation metric has not beaten its best for more than this many evaluations.
        patience_steps: and not before this many optimiser steps have passed since the best, however few an epoch has;
            None asks for none.
        eval_every: epochs between evaluations.
        optimizer: ``rmsprop`` is that of TensorFlow 1, see ``fit/rmsprop.py``. ``amsgrad`` is Adam whose steps are
            divided by the largest second moment so far (Reddi et al., 2018).
        learning_rate: the SCLRec paper uses 0.001 for all methods, with Adam.
        weight_decay: coupled L2, ``weight_decay * parameter`` added to the gradient, on all parameters but those a
            network spares. It shrinks rows between visits, which the dot score feels.
        device: ``auto`` takes a CUDA device where there is one.
        devices: processes that share each batch, each with a device of its own; see :mod:`recot.nn.ranks`.
        precision: arithmetic of the forward and backward pass; parameters, losses and sums stay in float32.
            ``16-mixed`` needs CUDA, and on CUDA ``bf16-mixed`` needs a card that has it.
        deterministic: on CUDA, use slower kernels that give the same bits every time, in training and in whatever is
            asked afterwards. A CPU always does.
        block: mini-batches per call of Lightning, whose cost per call is that of a BPR step.
        checkpoint_seconds: least time between two checkpoints of a run.
        progress: draw a bar where there is a terminal, else log a line per epoch.

    Raises:
        ValueError: a number is out of its range.
    """

    max_epochs: int = 300
    patience: int = 10
    patience_steps: int | None = None
    eval_every: int = 1
    optimizer: Literal["adam", "amsgrad", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    deterministic: bool = True
    block: int = 50
    checkpoint_seconds: float = 60.0
    progress: bool = True

    def __post_init__(self) -> None:
        for name, least in (("max_epochs", 1), ("patience", 0), ("patience_steps", 0), ("eval_every", 1), ("block", 1),
                            ("devices", 1), ("weight_decay", 0.0), ("checkpoint_seconds", 0.0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"trainer.{name} = {value} is too small; give {least} or more")
        if not self.learning_rate > 0:
            raise ValueError(f"trainer.learning_rate = {self.learning_rate} has to be positive")

    def pick_device(self) -> torch.device:
        """The device to train on.

        Raises:
            RequestError: ``cuda`` was asked for and there is none, or the device cannot compute in ``precision``.
        """
        cuda = self.device != "cpu" and torch.cuda.is_available()
        if self.device == "cuda" and not cuda:
            raise RequestError("trainer.device=cuda, and torch sees no CUDA device; use trainer.device=cpu or auto")
        if self.precision == "16-mixed" and not cuda:
            raise RequestError("trainer.precision=16-mixed needs CUDA; use bf16-mixed or 32-true")
        if self.precision == "bf16-mixed" and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise RequestError(f"trainer.precision=bf16-mixed is nothing that {torch.cuda.get_device_name()} computes; "
                               "use 16-mixed or 32-true")
        return torch.device("cuda" if cuda else "cpu")
