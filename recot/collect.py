"""From records to the csv files of an artifact: one row a cell and metric, ours beside the paper's."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recot.cache import Runs
from recot.compare import holm, paired_test
from recot.files import write_whole
from recot.spec import Artifact, Column, Row, printed

HEADER = ("table", "row", "column", "metric", "seeds", "mean", "std", "paper", "delta", "verdict", "key")
RUN_HEADER = ("key", "data", "model", "loss", "denoiser", "noise", "seed", "epochs", "best_epoch", "max_epochs",
              "seconds", "wall_seconds", "peak_memory_mb", "device", "threads", "commit", "sources", "repeated",
              "split", "digest", "first_epoch", "finished", "command")
TEST_HEADER = ("table", "column", "metric", "best", "second", "difference", "users", "p", "p_holm", "keys")

NO_DATA, NOT_RUN = "data not available", "not run yet"
"""Why a cell may be empty, besides what a record says."""

MATCH, CLOSE = 0.02, 0.10  # largest relative differences that are called so

Line = dict[str, str]


@dataclass(frozen=True)
class Cell:
    """A cell of an artifact and what is known of it.

    Attributes:
        keys: seed -> key of its run, for all seeds that are wanted or were found.
        records: seed -> finished record.
        reason: why nothing is known, where nothing is.
        runs: where the answers of single users are.
    """

    row: Row
    column: Column
    keys: dict[int, str]
    records: dict[int, Mapping[str, Any]]
    reason: str
    runs: Runs


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
            group is asked for, and the answers to single questions are gone.
    """
    record, questions, group = cell.records[seed], cell.column.questions, cell.column.group
    if group is not None:
        answers = frame(cell.runs.folder(cell.keys[seed]) / f"{questions}.parquet")
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

    A row of the csv as it was stays where its runs are not at hand and its keys are those wanted today: it answers the
    same question. Where the data are not at hand either, its keys cannot be told, and it stays as well.
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
            if before and before["key"] and len(before["seeds"].split()) > len(line["seeds"].split()) and (
                    cell.reason == NO_DATA or all(cell.keys.get(int(seed)) == key for seed, key in zip(
                        before["seeds"].split(), before["key"].split(), strict=True))):
                line = {name: before[name] for name in HEADER} | {"paper": number(paper)}
                if before["mean"]:
                    delta, word = verdict(float(before["mean"]), paper, metric)
                    line |= {"delta": number(delta), "verdict": word}
            found.append(line)
    return found


def summary(cell: Cell, metric: str, paper: float | None) -> Line:
    """Mean and deviation over the seeds there are; the difference is that of the mean as it is written."""
    seeds = sorted(cell.records)
    source = {"seeds": " ".join(map(str, seeds)), "key": " ".join(cell.keys[seed] for seed in seeds)}
    try:
        values = [measured(cell, seed, metric) for seed in seeds]
    except KeyError:
        return source | {"verdict": f"its record has no {metric}"}
    except LookupError as error:
        return source | {"verdict": str(error)}
    except FileNotFoundError:
        return {"verdict": "the answers to single questions are gone"}
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


def read(file: Path, header: Sequence[str]) -> list[Line]:
    """The rows of a csv file written by :func:`write`; none where there is no file.

    Raises:
        ValueError: the file has other columns.
    """
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != tuple(header):
            raise ValueError(f"{file} has the columns {reader.fieldnames}, expected {list(header)}; it was not written "
                             "by this program. Move it away, and it is made anew")
        return list(reader)


def write(file: Path, header: Sequence[str], rows: Iterable[Line]) -> None:
    """Write the rows, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.getvalue().encode())


def write_runs(file: Path, fresh: Iterable[Line], wanted: set[str]) -> list[Line]:
    """Bring the list of runs behind a paper's results up to date.

    Args:
        fresh: lines of the runs whose records are at hand. wanted: keys that some csv of the paper names; others leave
            the list.
    """
    known = {line["key"]: line for line in [*read(file, RUN_HEADER), *fresh]}
    order = ("data", "model", "loss", "denoiser", "noise", "seed", "key")
    rows = sorted((line for key, line in known.items() if key in wanted),
                  key=lambda line: [line[name] for name in order])
    write(file, RUN_HEADER, rows)
    return rows


def paired_tests(artifact: Artifact, lines: Sequence[Line], runs: Runs, earlier: Sequence[Line]) -> list[Line]:
    """The best row of the paper's own against its second best in every column and metric, over the same users.

    Per-user values are averaged over the seeds both rows have. P values are corrected by Holm for all tests of the
    table together. Where the per-user values are not at hand an earlier test of the same runs stays.
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
            tested = compare(keys[0], keys[1], metric, runs) if common else None
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
        ValueError: they were tested on different users.
    """
    means = []
    for keys in (best, second):
        files = [runs.folder(key) / "test.parquet" for key in keys]
        if not all(file.exists() for file in files):
            return None
        frames = [pd.read_parquet(file, columns=["user", metric]).set_index("user")[metric] for file in files]
        means.append(sum(frames) / len(frames))
    if not means[0].index.equals(means[1].index):
        raise ValueError(f"the runs {' '.join(best)} and {' '.join(second)} were tested on different users; they "
                         "cannot stand in one table")
    difference, p = paired_test(means[0].to_numpy(), means[1].to_numpy())
    return {"difference": number(difference), "users": str(len(means[0])), "p": number(p)}


def frame(file: Path) -> pd.DataFrame:
    """What a run says of each pair or user."""
    return pd.read_parquet(file)


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
