"""The notes below a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from recot.artifacts.spec import Artifact
from recot.pages import table
from recot.record.ledger import read
from recot.record.lines import CellLine, PairedLine, RunLine, TrialLine
from recot.tuning.study import requests


def notes(artifact: Artifact, lines: Sequence[CellLine], tests: Sequence[PairedLine], ledger: Mapping[str, RunLine],
          code: Mapping[str, str], studies: Path) -> Iterator[str]:
    """The notes below a table: where its numbers come from.

    Args:
        lines, tests: of its csv files. ledger: lines of ``runs.csv`` by key.
        code: digest of today's code behind a run, by key. studies: folder with the trials of tuning, by data set.
    """
    keys = {key for line in lines for key in line.keys}
    behind = [ledger[key] for key in sorted(keys) if key in ledger]
    if any(line.delta is not None for line in lines):
        yield "Difference: ours against the paper's, relative; up to 2 % is a match, up to 10 % close."
    if artifact.kind == "results" and artifact.axis is None:
        yield "Bold: the best of the paper's own rows."
    if tests:
        yield (f"\\*: better than the second best row, paired t-test over the users of the data set, p < "
               f"{table.STAR:g} after Holm's correction over {len(tests)} tests ({artifact.name}\\_tests.csv).")
    if behind:
        splits = sorted({(line.data, line.split) for line in behind})
        if artifact.axis is None:
            yield "Data: " + ", ".join(f"{data} (split {split})" for data, split in splits) + "."
        seeds = sorted({line.seed for line in behind})
        yield f"Seeds: {', '.join(map(str, seeds))}" + ("; one seed, so no deviation." if len(seeds) == 1 else ".")
        yield from unfinished(artifact, lines)
        hours = sum(line.seconds for line in behind) / 3600
        devices = Counter(f"{line.device}, {line.threads or ''} thread{'s' * (line.threads != 1)}" for line in behind)
        yield (f"{len(behind)} runs, {hours:.1f} hours in all, on {', '.join(sorted(devices))}; every run with its "
               "command, epochs and seconds is in runs.csv.")
        yield "Commits: " + ", ".join(sorted({line.commit for line in behind})) + "."
        changed = [line for line in behind if line.key in code and line.sources != code[line.key]]
        older = [line for line in changed if line.repeated != code[line.key]]
        old = sorted({line.commit for line in older})
        same = [line for line in changed if line.repeated == code[line.key]]
        if old:
            evidence = any(line.first_epoch or line.digest for line in older)
            yield (f"†: made by code that has changed since (commits {', '.join(old)}); `make tables "
                   f"PAPER={artifact.paper} TABLE={artifact.name} FRESH=1` runs them again"
                   + (", VERIFY=1 their first epochs." if evidence else "."))
        if same:
            yield (f"{len(same)} run{'s were' if len(same) > 1 else ' was'} made by code that has changed since, and "
                   "today's repeats the first epoch of each, or all of what has none, to the last digit.")
        yield from budgets(artifact, lines, ledger, studies)
    profile = " PROFILE=smoke" if artifact.planted else ""
    yield f"Command: `make tables PAPER={artifact.paper} TABLE={artifact.name}{profile}`."


def unfinished(artifact: Artifact, lines: Sequence[CellLine]) -> Iterator[str]:
    """Which cells are means over fewer seeds than the others."""
    rows, columns = {row.id: row.name for row in artifact.rows}, {column.id: column.name for column in artifact.columns}
    cells = dict.fromkeys(f"{rows[line.row]}, {columns[line.column]} ({', '.join(map(str, line.seeds))})"
                          for line in lines if 0 < len(line.seeds) < len(artifact.seeds))  # a cell has many metrics
    if cells:
        yield f"Of fewer seeds so far: {'; '.join(cells)}."


def budgets(artifact: Artifact, lines: Sequence[CellLine], ledger: Mapping[str, RunLine],
            studies: Path) -> Iterator[str]:
    """How the methods behind these lines were tuned; nothing for settings that the artifact itself gives.

    Raises:
        ValueError: the table of a study is damaged.
    """
    names = {row.id: row.name for row in artifact.rows}
    words = {("row", row.id): row.overrides for row in artifact.rows}
    words |= {("column", column.id): column.overrides for column in artifact.columns}
    keys = {part: {word.partition("=")[0] for word in overrides} for part, overrides in words.items()}
    spent: dict[str, set[str]] = {}
    for line in lines:
        for run in (ledger[key] for key in line.keys if key in ledger):
            file = studies / run.data / f"{run.model}-{run.loss}-{run.denoiser}.csv"
            own = keys["row", line.row] | keys["column", line.column]  # settings that the artifact names
            typed = next((word for word in (*words["row", line.row], *words["column", line.column])
                          if word.startswith("tuned=")), "")
            if typed.endswith(f"/{file.stem}"):  # those of the method itself
                own = own - {"tuned"}
            for trials in requests(read(file, TrialLine)).values():
                if own.isdisjoint({*trials[0].settings, "tuned"}):
                    epochs = trials[0].max_epochs or "any number of"
                    finals = any(trial.final and trial.final.value is not None for trial in trials)
                    ends = ", the first of them to the end" if finals else ""
                    spent.setdefault(f"{len(trials)} configurations, at most {epochs} epochs each{ends}", set()).add(
                        f"{names[line.row]} on {run.data}")
    for budget, methods in spent.items():
        yield f"Tuned on validation with {budget}: {'; '.join(sorted(methods))} (results/tuning)."
