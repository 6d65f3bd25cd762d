"""What a user sees of a run: its progress and its summary."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from recot.request.command import visible

log = logging.getLogger(__name__)


class Bar:
    """Progress of a training: a bar where there is a terminal, a logged line per epoch elsewhere.

    Stages and domains are shown by their numbers, from 0, each with its own best. How many epochs a stage has at most
    is not known here.
    """

    def __init__(self, trainer: Mapping[str, Any], monitor: str):
        self.epochs, self.monitor = trainer["max_epochs"], monitor
        console = Console(stderr=True)
        self.drawn = trainer["progress"] and console.is_terminal
        self.progress = Progress(TextColumn("{task.fields[place]}"), BarColumn(bar_width=10),
                                 TextColumn("{task.description}"), TimeRemainingColumn(compact=True),
                                 console=console, transient=True)  # 80 columns are enough
        self.task: TaskID | None = None

    def __enter__(self) -> Bar:
        if self.drawn:
            self.progress.start()
            self.task = self.progress.add_task("training", total=self.epochs, place="epoch 0")
        return self

    def __exit__(self, *exception: object) -> None:
        if self.drawn:
            self.progress.stop()

    def show(self, history: Sequence[Mapping[str, float]]) -> None:
        """Draw or log the last epoch."""
        row, own = history[-1], part(history[-1])
        values = [other[self.monitor] for other in history if self.monitor in other and part(other) == own]
        epochs = None if "stage" in own else self.epochs
        place = "  ".join([*(f"{name} {number:.0f}" for name, number in own.items()),
                           f"epoch {row['epoch']:.0f}" + (f"/{epochs}" if epochs else "")])
        text = f"loss {row['loss']:.4f}"
        if values:
            text += f"  {self.monitor} {values[-1]:.4f} (best {max(values):.4f})"
        if self.task is not None:
            self.progress.tasks[0].total = epochs  # update() leaves it where none is given
            self.progress.update(self.task, completed=int(row["epoch"]), place=place,
                                 description=text + "  at most" * (epochs is not None))
        elif epochs is None:
            log.info("%s  %s  %.1f s", place, text, row["seconds"])
        else:
            minutes, seconds = divmod(int(row["seconds"] * (epochs - row["epoch"])), 60)
            log.info("%s  %s  %.1f s, at most %02d:%02d:%02d to go", place, text, row["seconds"],
                     *divmod(minutes, 60), seconds)


def part(row: Mapping[str, float]) -> dict[str, float]:
    """Of which stage and domain a row of a history is, where it is of some."""
    return {name: row[name] for name in ("stage", "domain") if name in row}


def summary(record: Mapping[str, Any]) -> Table:
    """Metrics of the model beside those of the popularity floor on the same split."""
    what = (f"{record['model']} on {record['data']} (loss {record['loss']}, denoiser {record['denoiser']}, "
            f"noise {record['noise']}, seed {record['seed']})")
    table = Table(title=visible(what), title_justify="left")
    table.add_column("metric")
    for name in ("valid", "test"):
        table.add_column(f"{name}", justify="right")
        table.add_column("popularity", justify="right", style="dim")
    table.add_column("test / popularity", justify="right")
    for metric, value in record["test"].items():
        floor = record["floor"]["test"].get(metric)  # which has no vectors of items
        valid, valid_floor = record["valid"][metric], record["floor"]["valid"].get(metric)
        table.add_row(visible(metric), f"{valid:.4f}", "-" if valid_floor is None else f"{valid_floor:.4f}",
                      f"{value:.4f}", "-" if floor is None else f"{floor:.4f}",
                      f"{value / floor:.2f} x" if floor else "-")
    return table


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it is: a narrow terminal breaks its lines, where rich would leave out digits."""
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)


def next_commands(record: Mapping[str, Any]) -> list[str]:
    """Commands worth trying next: the command that was typed, with another choice for one group."""
    ideas = [["-m", "seed=0,1,2"]]
    if record["denoiser"] not in (None, "none"):
        ideas.append(["denoiser=none"])
    ideas.append(["noise=add", "noise.ratio=0.2"] if record["noise"] == "none" else ["noise=none"])
    if record["data"] == "planted":
        ideas.append(["data=gowalla"])
    return [shlex.join([*without(record["command"], idea[-1]), *idea]) for idea in ideas]


def without(command: str, change: str) -> list[str]:
    """The words of ``command`` without those that set the group of ``change`` or ask for a repetition."""
    def group(word: str) -> str:
        return re.split(r"[.=]", word.lstrip("+~"))[0]

    return [word for word in shlex.split(command) if group(word) not in (group(change), "force", "hydra")]


def show(record: Mapping[str, Any], runs: str) -> None:
    """Print the summary, where the record is, and what to try next."""
    console = Console(soft_wrap=True, markup=False)
    print_whole(console, summary(record))
    if known := record.get("noise_auc"):
        console.print(f"known noise ranked lowest: AUC {float(known['auc']):.2f} (within users "
                      f"{float(known['auc_user']):.2f})", highlight=False)
    if rounds := record.get("rounds"):
        last = {name: value for name, value in rounds[-1].items() if name not in ("round", "seconds")}
        told = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
        console.print(visible(f"round {rounds[-1]['round']}: {told}"), highlight=False)
    folder = Path(runs) / record["key"]
    if record["fresh"]:
        console.print(f"{record['epochs']} epochs (best {record['best_epoch']}), {record['seconds']:.1f} s, "
                      f"peak {record['peak_memory_mb']} MB", highlight=False)
    else:
        console.print("finished before, not run again (force=true runs it again)", highlight=False)
    console.print(visible(f"record: {folder / 'record.json'}"), highlight=False)
    console.print("next:", highlight=False)
    for command in next_commands(record):
        console.print(visible(f"  {command}"), highlight=False)
