"""From records to the csv files of an artifact: one row a cell and metric, ours beside the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from recot.artifacts.answers import over_seeds, same_users, table
from recot.artifacts.printed import printed
from recot.artifacts.spec import Artifact, Column, Row
from recot.evaluation.paired import holm, paired_test
from recot.record.lines import CellLine, PairedLine, RunLine
from recot.record.record import Record
from recot.record.store import Runs

NO_DATA, NOT_RUN = "data not available", "not run yet"
"""Why a cell may be empty, besides what a record says."""

USERS = "users"
"""The questions of a column whose numbers are of users, see ``record.outputs.save_users``; no test set is called so."""

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
    records: dict[int, Record]
    reason: str
    runs: Runs
    faults: list[str] = field(default_factory=list)


def rounded(value: float) -> float:
    """Six significant digits, of which whole numbers are in full; the value of the text that is written."""
    value = value if float(value).is_integer() else float(f"{value:.6g}")
    return int(value) if float(value).is_integer() else value


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
    """A metric of a run, over all questions of its column or those of its group; see :meth:`Record.value`. Of the
    questions ``users``, a number that the model has learnt of each user.

    Raises:
        KeyError: its record has none of that name. LookupError: no question belongs to the group. FileNotFoundError: a
            group is asked for, and the answers to single questions are gone. OSError: they are not what the run wrote.
    """
    questions, group = cell.column.questions, cell.column.group
    if group is None and questions != USERS:
        return cell.records[seed].value(metric, questions)
    answers = frame(cell.runs, cell.keys[seed], f"{questions}.parquet")
    if group is not None:
        answers = answers[answers[group.by].between(group.low, float("inf") if group.high is None else group.high)]
    if not len(answers):
        raise LookupError("no question is of this group")
    if metric == "questions":
        return float(len(answers))
    base = metric.removesuffix("_deviation")
    return float(answers[base].mean() if base == metric else answers[base].std())


def lines(artifact: Artifact, cells: Iterable[Cell], earlier: Sequence[CellLine]) -> list[CellLine]:
    """The rows of the csv.

    A row of the csv as it was stays where it says more than the runs at hand do and its keys are those wanted today: it
    answers the same question. It says more where they give no number, or fewer seeds, or as many but others. Where the
    data are not at hand, the keys of today cannot be told, and the row stays as well.
    """
    before = {(line.row, line.column, line.metric): line for line in earlier}
    return [line_of(artifact, cell, metric, before.get((cell.row.id, cell.column.id, metric)))
            for cell in cells for metric in artifact.metrics]


def line_of(artifact: Artifact, cell: Cell, metric: str, before: CellLine | None) -> CellLine:
    """The row of a cell and metric: new, or as it was ``before`` and judged by the number printed today."""
    paper = printed(artifact, cell.row, cell.column, metric)
    line = CellLine(artifact.name, cell.row.id, cell.column.id, metric, verdict=cell.reason,
                    paper=None if paper is None else rounded(paper))
    if cell.records:
        line = summary(cell, line, paper)
    if before and before.keys and says_more(before, line) and (cell.reason == NO_DATA or answers_today(before, cell)):
        line = replace(before, paper=line.paper)
        return line if before.mean is None else judged(line, before.mean, paper)
    return line


def answers_today(before: CellLine, cell: Cell) -> bool:
    """Whether the runs behind a row are those that are wanted today."""
    return all(cell.keys.get(seed) == key for seed, key in zip(before.seeds, before.keys, strict=True))


def says_more(before: CellLine, line: CellLine) -> bool:
    """Whether a row of the csv as it was has a number or seeds that the runs at hand do not give."""
    then, now = set(before.seeds), set(line.seeds)
    return (before.mean is not None and line.mean is None) or not (now >= then or len(now) > len(then))


def summary(cell: Cell, line: CellLine, paper: float | None) -> CellLine:
    """The row with mean and deviation over the seeds there are; the difference is that of the mean as it is written."""
    seeds = sorted(cell.records)
    behind = replace(line, seeds=tuple(seeds), keys=tuple(cell.keys[seed] for seed in seeds))
    try:
        values = [measured(cell, seed, line.metric) for seed in seeds]
    except (KeyError, IndexError, TypeError, ValueError):  # the last three where it is damaged
        return replace(behind, verdict=f"its record has no {line.metric}")
    except LookupError as error:
        return replace(behind, verdict=str(error))
    except FileNotFoundError:
        return replace(line, verdict="the answers to single questions are gone")
    except OSError as error:
        cell.faults.append(str(error))
        return replace(line, verdict="the answers to single questions are damaged")
    deviation = rounded(statistics.stdev(values)) if len(values) > 1 else None
    return judged(replace(behind, std=deviation), rounded(statistics.fmean(values)), paper)


def judged(line: CellLine, mean: float, paper: float | None) -> CellLine:
    """The row with its mean, and what the difference to the printed number is called."""
    delta, word = verdict(mean, paper, line.metric)
    return replace(line, mean=mean, delta=None if delta is None else rounded(delta), verdict=word)


def run_lines(earlier: Iterable[RunLine], fresh: Iterable[RunLine], wanted: set[str] | None) -> list[RunLine]:
    """The list of runs behind a paper's results.

    Args:
        earlier: the list as it was. fresh: lines of the runs whose records are at hand.
        wanted: keys that some csv of the paper names, so that others leave the list; None where this cannot be told.
    """
    known = {line.key: line for line in [*earlier, *fresh]}
    return sorted((line for key, line in known.items() if wanted is None or key in wanted), key=lambda line: (
        line.data, line.model, line.loss, line.denoiser, line.noise, str(line.seed), line.key))


def paired_tests(artifact: Artifact, lines: Sequence[CellLine], runs: Runs, earlier: Sequence[PairedLine],
                 faults: list[str]) -> list[PairedLine]:
    """The best row of the paper's own against its second best in every column and metric, over the same users.

    Per-user values are averaged over the seeds both rows have. P values are corrected by Holm for all tests of the
    table together. Where the per-user values are not at hand, or damaged (``faults`` then says which), an earlier test
    of the same runs stays.
    """
    before = {(line.column, line.metric, line.keys): line for line in earlier}
    own = {row.id for row in artifact.rows if not row.beyond}
    tests: list[PairedLine] = []
    for column in artifact.columns:
        for metric in artifact.contested:
            known = [line for line in lines if line.row in own and line.mean is not None
                     and (line.column, line.metric) == (column.id, metric)]
            if len(known) < 2:
                continue
            best, second = sorted(known, key=lambda line: -(line.mean or 0))[:2]
            pairs = [dict(zip(line.seeds, line.keys, strict=True)) for line in (best, second)]
            common = sorted(set(pairs[0]) & set(pairs[1]))
            keys = [[by_seed[seed] for seed in common] for by_seed in pairs]
            both = (*keys[0], *keys[1])
            try:
                tested = compare(keys[0], keys[1], metric, runs, column.questions) if common else None
            except OSError as error:
                faults.append(str(error))
                tested = None
            if tested is None and (test := before.get((column.id, metric, both))):
                tested = test.difference, test.users, test.p
            if tested is not None:
                tests.append(PairedLine(artifact.name, column.id, metric, best.row, second.row, *tested, 1.0, both))
    return [replace(test, p_holm=rounded(p)) for test, p in zip(tests, holm([test.p for test in tests]), strict=True)]


def compare(best: Sequence[str], second: Sequence[str], metric: str, runs: Runs,
            questions: str = "test") -> tuple[float, int, float] | None:
    """Difference, users and p value of two lists of runs, or None where their per-user values are not at hand.

    Raises:
        ValueError: they were tested on different users. OSError: the values are not those that the runs wrote.
    """
    try:
        users, first = over_seeds(runs, best, [metric], questions)
        others, other = over_seeds(runs, second, [metric], questions)
    except FileNotFoundError:
        return None
    same_users(users, others, [" ".join(best), " ".join(second)])
    difference, p = paired_test(first[metric], other[metric])
    return rounded(difference), len(users), rounded(p)


def frame(runs: Runs, key: str, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    """What a run says of each pair or user, in the file ``name``.

    Raises:
        FileNotFoundError: it is gone. OSError: it is damaged, is not what the run wrote, or has other columns.
    """
    found: pd.DataFrame = table(runs, key, name, columns).to_pandas()
    return found


def same_questions(cells: Iterable[Cell]) -> None:
    """Refuse to put records of different splits into one column; another seed may have another split.

    Raises:
        ValueError: names both.
    """
    seen: dict[tuple[str, int], tuple[str, str]] = {}
    for cell in cells:
        for seed, record in cell.records.items():
            split = record.line.split if record.line else ""
            other = seen.setdefault((cell.column.id, seed), (split, cell.row.id))
            if other[0] != split:
                raise ValueError(f"{cell.row.id} and {other[1]} of {cell.column.id} were run on different splits "
                                 f"({split}, {other[0]}); what is older is made again with FRESH=1")
