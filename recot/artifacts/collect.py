"""From records to the csv files of an artifact: one row a cell and metric, ours beside the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from recot.artifacts.printed import printed
from recot.artifacts.spec import Artifact, Column, Row
from recot.evaluation.paired import holm, paired_test
from recot.record.ledger import HEADER, RUN_HEADER, Line
from recot.record.store import Runs

NO_DATA, NOT_RUN = "data not available", "not run yet"
"""Why a cell may be empty, besides what a record says."""

DONE = {**dict.fromkeys(("key", "data", "model", "loss", "denoiser", "noise", "split", "command"), str),
        **dict.fromkeys(("config", "valid", "test"), dict), "seed": int, "epochs": int, "seconds": int | float}
"""What the record of a finished run has in any case, with its type."""

MATCH, CLOSE = 0.02, 0.10  # largest relative differences that are called so


@dataclass(frozen=True)
class Cell:
    """A cell of an artifact and what is known of it.

    Attributes:
        keys: seed -> key of its run, for all seeds that are wanted or were found.
        records: seed -> finished record.
        reason: why nothing is known, where nothing is.
        runs: where the answers of single users are.
        faults: files of its runs that cannot be read, and what to do about each; whoever finds one adds it.
    """

    row: Row
    column: Column
    keys: dict[int, str]
    records: dict[int, Mapping[str, Any]]
    reason: str
    runs: Runs
    faults: list[str] = field(default_factory=list)


def number(value: float | None) -> str:
    """Six significant digits, whole numbers in full, or nothing."""
    if value is None:
        return ""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"


def verdict(ours: float, paper: float | None, metric: str = "") -> tuple[float | None, str]:
    """The relative difference, and what to call it. Seconds on another machine are not compared."""
    if metric.endswith("seconds"):
        return None, "another machine"
    if paper is None:
        return None, "no printed number"
    if paper == 0:
        return None, "match" if ours == 0 else "differs"
    delta = (ours - paper) / abs(paper)
    return delta, "match" if abs(delta) <= MATCH else "close" if abs(delta) <= CLOSE else "differs"


def measured(cell: Cell, seed: int, metric: str) -> float:
    """A metric of a run: of the test set, how well known noise was ranked, or what the last relabelling did.

    Raises:
        KeyError: its record has none of that name. LookupError: no question belongs to the group. FileNotFoundError: a
            group is asked for, and the answers to single questions are gone. OSError: they are not what the run wrote.
    """
    record, questions, group = cell.records[seed], cell.column.questions, cell.column.group
    if group is not None:
        answers = frame(cell.runs, cell.keys[seed], f"{questions}.parquet")
        answers = answers[answers[group.by].between(group.low, float("inf") if group.high is None else group.high)]
        if not len(answers):
            raise LookupError("no question is of this group")
        return float(len(answers) if metric == "questions" else answers[metric].mean())
    family, _, rest = metric.partition("_")
    if rest.startswith("auc"):
        return float(record[f"{family}_auc"][rest])
    if metric in record[questions]:
        return float(record[questions][metric])
    return float(record[metric] if metric in record else record["rounds"][-1][metric])


def lines(artifact: Artifact, cells: Iterable[Cell], earlier: Sequence[Line]) -> list[Line]:
    """The rows of the csv.

    A row of the csv as it was stays where it says more than the runs at hand do and its keys are those wanted today: it
    answers the same question. It says more where they give no number, or fewer seeds, or as many but others. Where the
    data are not at hand, the keys of today cannot be told, and the row stays as well.
    """
    kept = {(line["row"], line["column"], line["metric"]): line for line in earlier}
    found = []
    for cell in cells:
        for metric in artifact.metrics:
            paper = printed(artifact, cell.row, cell.column, metric)
            line = dict.fromkeys(HEADER, "") | {"table": artifact.name, "row": cell.row.id, "column": cell.column.id,
                                                "metric": metric, "paper": number(paper), "verdict": cell.reason}
            before = kept.get((cell.row.id, cell.column.id, metric))
            if cell.records:
                line |= summary(cell, metric, paper)
            if before and before["key"] and says_more(before, line) and (
                    cell.reason == NO_DATA or all(cell.keys.get(int(seed)) == key for seed, key in zip(
                        before["seeds"].split(), before["key"].split(), strict=True))):
                line = {name: before[name] for name in HEADER} | {"paper": number(paper)}
                if before["mean"]:
                    delta, word = verdict(float(before["mean"]), paper, metric)
                    line |= {"delta": number(delta), "verdict": word}
            found.append(line)
    return found


def says_more(before: Line, line: Line) -> bool:
    """Whether a row of the csv as it was has a number or seeds that the runs at hand do not give."""
    then, now = set(before["seeds"].split()), set(line["seeds"].split())
    return bool(before["mean"] and not line["mean"]) or not (now >= then or len(now) > len(then))


def summary(cell: Cell, metric: str, paper: float | None) -> Line:
    """Mean and deviation over the seeds there are; the difference is that of the mean as it is written."""
    seeds = sorted(cell.records)
    source = {"seeds": " ".join(map(str, seeds)), "key": " ".join(cell.keys[seed] for seed in seeds)}
    try:
        values = [measured(cell, seed, metric) for seed in seeds]
    except (KeyError, IndexError, TypeError, ValueError):  # the last three where it is damaged
        return source | {"verdict": f"its record has no {metric}"}
    except LookupError as error:
        return source | {"verdict": str(error)}
    except FileNotFoundError:
        return {"verdict": "the answers to single questions are gone"}
    except OSError as error:
        cell.faults.append(str(error))
        return {"verdict": "the answers to single questions are damaged"}
    mean = number(statistics.fmean(values))
    delta, word = verdict(float(mean), paper, metric)
    return source | {"mean": mean, "std": number(statistics.stdev(values)) if len(values) > 1 else "",
                     "delta": number(delta), "verdict": word}


def run_line(record: Mapping[str, Any]) -> Line:
    """What a results folder keeps of a run besides its numbers."""
    trainer = record["config"].get("trainer", {})
    values = {**record, "max_epochs": trainer.get("max_epochs", ""), "commit": record.get("commit") or "unknown",
              "first_epoch": " ".join(f"{name}={value!r}" for name, value in record.get("first_epoch", {}).items())}
    if not record["epochs"]:
        values["max_epochs"] = 0
    return {name: str(values.get(name, "")) for name in RUN_HEADER}


def run_lines(earlier: Iterable[Line], fresh: Iterable[Line], wanted: set[str] | None) -> list[Line]:
    """The list of runs behind a paper's results.

    Args:
        earlier: the list as it was. fresh: lines of the runs whose records are at hand.
        wanted: keys that some csv of the paper names, so that others leave the list; None where this cannot be told.
    """
    known = {line["key"]: line for line in [*earlier, *fresh]}
    order = ("data", "model", "loss", "denoiser", "noise", "seed", "key")
    return sorted((line for key, line in known.items() if wanted is None or key in wanted),
                  key=lambda line: [line[name] for name in order])


def paired_tests(artifact: Artifact, lines: Sequence[Line], runs: Runs, earlier: Sequence[Line],
                 faults: list[str]) -> list[Line]:
    """The best row of the paper's own against its second best in every column and metric, over the same users.

    Per-user values are averaged over the seeds both rows have. P values are corrected by Holm for all tests of the
    table together. Where the per-user values are not at hand, or damaged (``faults`` then says which), an earlier test
    of the same runs stays.
    """
    kept = {(line["column"], line["metric"], line["keys"]): line for line in earlier}
    own = {row.id for row in artifact.rows if not row.beyond}
    found: list[Line] = []
    for column in artifact.columns:
        for metric in artifact.metrics:
            measured = [line for line in lines if line["row"] in own and line["mean"]
                        and (line["column"], line["metric"]) == (column.id, metric)]
            if len(measured) < 2:
                continue
            best, second = sorted(measured, key=lambda line: -float(line["mean"]))[:2]
            pairs = [dict(zip(line["seeds"].split(), line["key"].split(), strict=True)) for line in (best, second)]
            common = sorted(set(pairs[0]) & set(pairs[1]), key=int)
            keys = [[by_seed[seed] for seed in common] for by_seed in pairs]
            place = column.id, metric, " ".join(keys[0] + keys[1])
            try:
                tested = compare(keys[0], keys[1], metric, runs) if common else None
            except OSError as error:
                faults.append(str(error))
                tested = None
            if tested is None and place in kept:
                tested = {name: kept[place][name] for name in ("difference", "users", "p")}
            if tested is not None:
                found.append({"table": artifact.name, "column": column.id, "metric": metric, "best": best["row"],
                              "second": second["row"], **tested, "keys": place[2]})
    for line, p in zip(found, holm([float(line["p"]) for line in found]), strict=True):
        line["p_holm"] = number(p)
    return found


def compare(best: Sequence[str], second: Sequence[str], metric: str, runs: Runs) -> Line | None:
    """Difference, users and p value of two lists of runs, or None where their per-user values are not at hand.

    Raises:
        ValueError: they were tested on different users. OSError: the values are not those that the runs wrote.
    """
    means = []
    for keys in (best, second):
        try:
            frames = [frame(runs, key, "test.parquet", ["user", metric]).set_index("user")[metric] for key in keys]
        except FileNotFoundError:
            return None
        means.append(sum(frames) / len(frames))
    if not means[0].index.equals(means[1].index):
        raise ValueError(f"the runs {' '.join(best)} and {' '.join(second)} were tested on different users; they "
                         "cannot stand in one table")
    difference, p = paired_test(means[0].to_numpy(), means[1].to_numpy())
    return {"difference": number(difference), "users": str(len(means[0])), "p": number(p)}


def frame(runs: Runs, key: str, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """What a run says of each pair or user, in the file ``name``.

    Raises:
        FileNotFoundError: it is gone. OSError: it is damaged, is not what the run wrote, or has other columns.
    """
    try:
        file = runs.file(key, name)
    except ValueError as error:
        raise OSError(str(error)) from error
    if file is None:
        raise FileNotFoundError(f"the run {key} left no {name}")
    try:
        return pd.read_parquet(file, columns=columns)
    except (OSError, ValueError, LookupError) as error:  # whatever Arrow finds wrong with the bytes
        raise OSError(f"{file} is damaged ({' '.join(str(error).split())}); the command of the run makes it again with "
                      "force=true") from error


def finished(runs: Runs, key: str) -> Mapping[str, Any] | None:
    """The record of a run, whatever its status, with all that a table reads of one that is done; None without one.

    Raises:
        ValueError: the file is damaged; names it, and what to do.
    """
    found: Any = runs.get(key)
    if found is None and not (runs.folder(key) / "record.json").exists():
        return None
    record = found if isinstance(found, dict) else {}
    wanted = {"status": str} | (DONE if record.get("status") == "done" else {})
    wrong = [name for name, kind in wanted.items() if not isinstance(record.get(name), kind)]
    wrong += [f"{name} of numbers" for name in ("valid", "test") if name in wanted and name not in wrong
              and not all(isinstance(value, float | int) or value in ("nan", "inf", "-inf")
                          for value in record[name].values())]
    if "key" in wanted and record.get("key") != key:
        wrong.append(f"key {key}")
    if wrong:
        raise ValueError(f"{runs.folder(key) / 'record.json'} is no whole record, it has no {', '.join(wrong)}; delete "
                         "it and run the same command again")
    return record


def same_questions(cells: Iterable[Cell]) -> None:
    """Refuse to put records of different splits into one column; another seed may have another split.

    Raises:
        ValueError: names both.
    """
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for cell in cells:
        for seed, record in cell.records.items():
            split = str(record["split"])
            other = seen.setdefault((cell.column.id, seed), (split, cell.row.id))
            if other[0] != split:
                raise ValueError(f"{cell.row.id} and {other[1]} of {cell.column.id} were run on different splits "
                                 f"({split}, {other[0]}); what is older is made again with FRESH=1")
