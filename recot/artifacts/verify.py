"""Does today's code do what the code behind a number did?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from recot.artifacts.collect import run_line
from recot.record.attempt import attempt
from recot.record.build import make, relabels
from recot.record.ledger import Line


def departure(config: Mapping[str, Any], line: Line) -> str:
    """The first difference between a fresh start of a run and its record; an empty text if there is none.

    A network is trained until it was first validated, and its loss and the value that selects epochs have to be the
    same to the last digit; what is fitted in closed form is fitted again, and every user's answers have to be. Later
    epochs are not looked at.

    Args:
        config: the checked config of the run. line: what ``runs.csv`` has of it.

    Raises:
        LookupError: the line is older than the columns that tell, or the first epoch says nothing of what comes later:
            a second fit, on other pairs.
    """
    trained, threads = line["epochs"] != "0", torch.get_num_threads()
    if not line["first_epoch" if trained else "digest"]:
        raise LookupError("what its first epoch was, or the digest of a closed form, was not kept")
    then = dict(part.split("=") for part in line["first_epoch"].split())
    if trained and (config["protocol"]["refit"] or relabels(config)):
        raise LookupError("its numbers come from a later fit, of which the first epoch says nothing")
    if trained and config["protocol"]["monitor"] not in then:
        raise LookupError("the first epoch that was kept was not validated")
    shorter = {"max_epochs": int(then["epoch"]), "progress": False} if trained else {}
    short = {**config, "trainer": config["trainer"] | shorter}
    torch.set_num_threads(int(line["threads"]))  # sums of several threads are rounded otherwise
    try:
        with tempfile.TemporaryDirectory() as aside:
            record = attempt(short, make(config["data"]), line["key"], Path(aside))
    finally:
        torch.set_num_threads(threads)
    again = run_line(record | {"config": config})
    if again["split"] != line["split"]:
        return f"the split is {again['split']} and was {line['split']}"
    if not trained:
        return "" if again["digest"] == line["digest"] else "the answers are others"
    now = dict(part.split("=") for part in again["first_epoch"].split())
    return ", ".join(f"{name} is {now.get(name)} and was {value}" for name, value in then.items()
                     if now.get(name) != value)
