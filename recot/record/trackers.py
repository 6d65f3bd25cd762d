"""Trackers take the history of a run beside its folder. A tracker that fails costs one warning, never the run."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from recot.system.environment import shown

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that one call of a tracker may take."""


class Tracker(Protocol):
    """Receives one row of scalars per epoch."""

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Open the run ``key``."""

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Take one row; ``step`` counts on where a second fit begins with epoch 1 again."""

    def finish(self, summary: Mapping[str, float]) -> None:
        """Close the run with its final metrics."""


class Csv:
    """Nothing besides ``epochs.csv``, which every run writes into its own folder (``logger=csv``)."""

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Nothing to open."""

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Nothing to send."""

    def finish(self, summary: Mapping[str, float]) -> None:
        """Nothing to close."""


class Wandb:
    """Weights and Biases (``logger=wandb``). Never asks for a key, and gives up by itself before the guard does.

    It is sent the config without places, the metrics of each epoch, and the final ones; no file, no command line, and
    nothing of the machine but its load.

    Args:
        project: its name there; None leaves it to WANDB_PROJECT, and is ``recot`` without that.
        mode: ``online``, ``offline`` (kept in the run's folder, for ``wandb sync``) or ``disabled``. None leaves it to
            WANDB_MODE and WANDB_DISABLED, and is ``online`` without them.
    """

    def __init__(self, project: str | None = None, mode: Literal["online", "offline", "disabled"] | None = None):
        self.project, self.mode = project, mode

    def settled_mode(self) -> Literal["online", "offline", "disabled", "shared"]:
        """The mode that was typed, or else the mode of the environment, in wandb's words.

        Raises:
            ValueError: the environment says something that wandb does not know.
        """
        if self.mode is not None:
            return self.mode
        if os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
            return "disabled"
        match mode := os.environ.get("WANDB_MODE", "online"):
            case "online" | "run":
                return "online"
            case "offline" | "dryrun":
                return "offline"
            case "disabled" | "shared":
                return mode
        raise ValueError(f"WANDB_MODE = {mode!r} is no mode of wandb; set it to online, offline or disabled, or give "
                         "logger.mode=...")

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Open the run; the key makes a resumed run go on where it was.

        Raises:
            RuntimeError: there is no key.
            ValueError: WANDB_MODE is none that there is.
        """
        mode = self.settled_mode()
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb"))  # its own logs, or they go to the home folder
        import wandb

        # An exit of the process waits for what wandb has not finished, so its own limits lie below the guard's.
        limit = PATIENCE * 2 / 3
        settings = wandb.Settings(mode=mode, silent=True, console="off", init_timeout=limit, finish_timeout=limit,
                                  finish_timeout_raises=True, disable_git=True, x_disable_meta=True)
        wandb.setup(settings)
        if mode in ("online", "shared") and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("there is no key; run `wandb login` once, or use logger.mode=offline")
        self.run = wandb.init(project=self.project or os.environ.get("WANDB_PROJECT", "recot"), id=key, name=key,
                              config=dict(config), dir=str(folder), mode=mode, resume="allow",
                              reinit="finish_previous", settings=settings)

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Send one row."""
        self.run.log(dict(row), step=step)

    def finish(self, summary: Mapping[str, float]) -> None:
        """Send the final metrics and close."""
        self.run.summary.update(dict(summary))
        self.run.finish()


class TensorBoard:
    """TensorBoard event files in the run's folder (``logger=tensorboard``; needs ``pip install "recot[tensorboard]"``).
    """

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Open the event file.

        Raises:
            ImportError: the package is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError('it needs: pip install "recot[tensorboard]"') from error

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Write one row."""
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name.replace("@", "_at_"), value, step)

    def finish(self, summary: Mapping[str, float]) -> None:
        """Write the final metrics and close."""
        for name, value in summary.items():
            self.writer.add_scalar(f"final/{name.replace('@', '_at_')}", value, 0)
        self.writer.close()


class Guarded:
    """Any tracker, made harmless: the first failure or hang is one warning, and nothing is sent after it.

    A call may take :data:`PATIENCE` seconds. As a context it closes the tracker of a run that raised.
    """

    def __init__(self, tracker: Tracker):
        self.tracker, self.broken = tracker, False

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.finish({})

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """See :class:`Tracker`."""
        self.call(lambda: self.tracker.start(key, config, folder))

    def log(self, row: Mapping[str, float], step: int) -> None:
        """See :class:`Tracker`."""
        self.call(lambda: self.tracker.log(row, step))

    def finish(self, summary: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        self.call(lambda: self.tracker.finish(summary))

    def call(self, action: Callable[[], None]) -> None:
        """Run ``action`` in a thread of its own and give up on it in time."""
        if self.broken or isinstance(self.tracker, Csv):  # which has nothing to do
            return
        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                action()
            except BaseException as error:  # a tracker may raise anything, SystemExit included
                errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if errors or thread.is_alive():
            self.broken = True
            reason = (" ".join(f"{type(errors[0]).__name__}: {errors[0]}".split()) if errors else
                      f"no answer in {PATIENCE:g} s")
            log.warning("logger=%s does not work (%s); the run goes on, and its own folder holds everything",
                        type(self.tracker).__name__.lower(), shown(reason))
