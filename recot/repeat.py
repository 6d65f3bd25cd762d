"""Does today's code do what the code behind a record did?"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recot.experiment import attempt, make


def departure(config: Mapping[str, Any], record: Mapping[str, Any], folder: Path) -> str:
    """Where a run that is begun again departs from what was recorded, or an empty text.

    A network is trained for its first epoch, and loss and validation answers have to be the same to the last digit;
    what is fitted in closed form is fitted again, and every user's answers have to be. Later epochs are not looked at.

    Args:
        config: the checked config of the run. record: that it left. folder: where its epochs are.
    """
    trained, threads = record["epochs"] > 0, torch.get_num_threads()
    short = {**config, "trainer": config["trainer"] | {"max_epochs": 1, "progress": False}} if trained else {**config}
    torch.set_num_threads(record["threads"])  # sums of several threads are rounded otherwise
    try:
        with tempfile.TemporaryDirectory() as aside:
            again = attempt(short, make(config["data"]), record["key"], Path(aside))
            if again["split"] != record["split"]:
                return f"the split is {again['split']} and was {record['split']}"
            if not trained:
                return "" if again["digest"] == record["digest"] else "the answers are others"
            then, now = first_epoch(folder), first_epoch(Path(aside))
    finally:
        torch.set_num_threads(threads)
    other = [f"{name} is {now.get(name)} and was {value}" for name, value in then.items()
             if value and name != "seconds" and now.get(name) != value]
    return ", ".join(other)


def first_epoch(folder: Path) -> dict[str, str]:
    """What was written down of it.

    Raises:
        FileNotFoundError: nothing was kept.
    """
    with (folder / "epochs.csv").open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))
