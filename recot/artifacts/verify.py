"""Does today's code do what the code behind a number did?"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recot.artifacts.workers import answers
from recot.record.attempt import attempt
from recot.record.build import make, relabels
from recot.record.lines import RunLine
from recot.record.record import run_line
from recot.request.schema import of_lists

SAME, DEPARTS, UNTOLD = "the same", "departs", "cannot be told"
TODAYS = "today's"
"""The word for a run that needs no verification: today's code made the run, or was seen to repeat it."""


@dataclass(frozen=True)
class Verdict:
    """What came of the verification of a run: ``SAME``, ``DEPARTS`` or ``UNTOLD``, and the reason of the last two."""

    word: str
    reason: str = ""


def verdicts(questions: Sequence[tuple[Mapping[str, Any], RunLine]], jobs: int,
             whole: float = 0.0) -> Iterator[tuple[int, Verdict]]:
    """Verify runs in processes of their own.

    Args:
        questions: the checked config of each run, and what ``runs.csv`` has of it. jobs: how many processes at once.
        whole: see :func:`departure`.

    Yields:
        The number of a question, from 0, and its verdict, in the order in which the verdicts come.
    """
    for number, answer in answers(partial(verdict, whole=whole), questions, jobs):
        yield number, answer if isinstance(answer, Verdict) else Verdict(UNTOLD, answer)


def verdict(question: tuple[Mapping[str, Any], RunLine], whole: float = 0.0) -> Verdict:
    """What today's code makes of one run."""
    try:
        difference = departure(*question, whole=whole)
    except LookupError as error:
        return Verdict(UNTOLD, str(error))
    return Verdict(DEPARTS, difference) if difference else Verdict(SAME)


def summary(artifacts: Sequence[str], runs: Sequence[tuple[Sequence[str], Verdict]]) -> Iterator[str]:
    """A line for each artifact and one for all: how many of its runs have which verdict; then why some have none.

    Args:
        artifacts: their labels. runs: for each run, the labels of the artifacts that show it, and its verdict. A run
            that two artifacts show counts in the line of each, and once in that of all.
    """
    words = (TODAYS, SAME, DEPARTS, UNTOLD)
    wide = max(map(len, (*artifacts, "in all")))
    yield " ".join([" " * wide, *(f"{word:>14}" for word in words)])
    for label in (*artifacts, "in all"):
        counts = Counter(verdict.word for labels, verdict in runs if label == "in all" or label in labels)
        if counts or label == "in all":
            yield " ".join([f"{label:{wide}}", *(f"{counts[word]:14}" for word in words)])
    for reason, count in Counter(verdict.reason for _, verdict in runs if verdict.word == UNTOLD).most_common():
        yield f"{UNTOLD} of {count}: {reason}"


def departure(config: Mapping[str, Any], line: RunLine, whole: float = 0.0) -> str:
    """The first difference between a fresh start of a run and its record; an empty text if there is none.

    A network is trained up to its first validation; its loss and the value that selects epochs have to be the same to
    the last digit. Later epochs are not looked at. A closed form is fitted again, and every user's answers have to be
    the same. What is said of lists is not looked at.

    Args:
        config: the checked config of the run. line: what ``runs.csv`` has of it.
        whole: if the first epoch does not tell and the run took no more than so many seconds, make the run again to
            its end and compare every user's answers.

    Raises:
        LookupError: nothing was kept that tells.
    """
    if line.threads is None:
        raise LookupError("the number of its threads was not kept")
    untold = untold_by_first_epoch(config, line) if line.epochs else ""
    if untold and line.seconds > whole:
        raise LookupError(untold)
    in_short = bool(line.epochs) and not untold
    if not in_short and not line.digest:
        raise LookupError("the digest of its answers was not kept")
    shorter = {"max_epochs": int(line.first_epoch["epoch"])} if in_short else {}
    of_items = [name for name in config["metrics"] if name not in of_lists(config["metrics"])]
    again = made_again({**config, "trainer": config["trainer"] | shorter | {"progress": False}, "metrics": of_items},
                       line.key, line.threads)
    if again.split != line.split:
        return f"the split is {again.split} and was {line.split}"
    if not in_short:
        return "" if again.digest == line.digest else "the answers are others"
    return ", ".join(f"{name} is {again.first_epoch.get(name)} and was {value}"
                     for name, value in line.first_epoch.items() if again.first_epoch.get(name) != value)


def untold_by_first_epoch(config: Mapping[str, Any], line: RunLine) -> str:
    """Why the first epoch of a network says nothing of its numbers; an empty text if it does."""
    if not line.first_epoch:
        return "its first epoch was not kept"
    if config["protocol"]["refit"] or relabels(config):
        return "its numbers come from a later fit, of which the first epoch says nothing"
    if config["protocol"]["monitor"] not in line.first_epoch:
        return "the first epoch that was kept was not validated"
    return ""


def made_again(config: dict[str, Any], key: str, threads: int) -> RunLine:
    """What ``runs.csv`` would have of a run with this ``key`` by today's code, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)  # sums of several threads are rounded otherwise
    try:
        with tempfile.TemporaryDirectory() as aside:
            record = attempt(config, make(config["data"]), key, Path(aside))
    finally:
        torch.set_num_threads(before)
    return run_line(record | {"config": config})
