"""Where the history of a run goes besides its own folder. A tracker that fails costs one warning, never the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Receives one row of scalars per epoch."""

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Open the run ``key``."""

    def log(self, row: Mapping[str, float]) -> None:
        """Take one row."""

    def finish(self, summary: Mapping[str, float]) -> None:
        """Close the run with its final metrics."""


class Csv:
    """Nothing besides ``epochs.csv``, which every run writes into its own folder (``logger=csv``)."""

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Nothing to open."""

    def log(self, row: Mapping[str, float]) -> None:
        """Nothing to send."""

    def finish(self, summary: Mapping[str, float]) -> None:
        """Nothing to close."""


class Wandb:
    """Weights and Biases (``logger=wandb``).

    Args:
        project: its name there. mode: ``online``, ``offline`` or ``disabled``.
    """

    def __init__(self, project: str = "recot", mode: str = "online"):
        self.project, self.mode = project, mode

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Open the run; the key makes a resumed run go on where it was."""
        import wandb

        self.run = wandb.init(project=self.project, id=key, name=key, config=dict(config), dir=str(folder),
                              mode=self.mode, resume="allow", settings=wandb.Settings(silent=True))

    def log(self, row: Mapping[str, float]) -> None:
        """Send one row."""
        self.run.log(dict(row), step=int(row["epoch"]))

    def finish(self, summary: Mapping[str, float]) -> None:
        """Send the final metrics and close."""
        self.run.summary.update(dict(summary))
        self.run.finish()


class TensorBoard:
    """TensorBoard event files in the run's folder (``logger=tensorboard``; needs ``pip install "recot[tensorboard]"``).
    """

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, row: Mapping[str, float]) -> None:
        """Write one row."""
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name.replace("@", "_at_"), value, int(row["epoch"]))

    def finish(self, summary: Mapping[str, float]) -> None:
        """Write the final metrics and close."""
        for name, value in summary.items():
            self.writer.add_scalar(f"final/{name.replace('@', '_at_')}", value, 0)
        self.writer.close()


class Guarded:
    """Any tracker, made harmless: the first failure or hang is one warning, and nothing is sent after it.

    Args:
        tracker: the tracker. seconds: how long one call may take.
    """

    def __init__(self, tracker: Tracker, seconds: float = 30.0):
        self.tracker, self.seconds, self.broken = tracker, seconds, False

    def start(self, key: str, config: Mapping[str, Any], folder: Path) -> None:
        """See :class:`Tracker`."""
        self.call(lambda: self.tracker.start(key, config, folder))

    def log(self, row: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        self.call(lambda: self.tracker.log(row))

    def finish(self, summary: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        self.call(lambda: self.tracker.finish(summary))

    def call(self, action: Callable[[], None]) -> None:
        """Run ``action`` in a thread of its own and give up on it after ``seconds``."""
        if self.broken:
            return
        if isinstance(self.tracker, Csv):  # nothing that could hang
            return
        errors: list[BaseException] = []

        def guarded() -> None:
            try:
                action()
            except BaseException as error:  # a tracker may raise anything, SystemExit included
                errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        thread.join(self.seconds)
        if errors or thread.is_alive():
            self.broken = True
            reason = f"{type(errors[0]).__name__}: {errors[0]}" if errors else f"no answer in {self.seconds:.0f} s"
            log.warning("logger=%s does not work (%s); the run goes on, and its own folder holds everything",
                        type(self.tracker).__name__.lower(), reason)
