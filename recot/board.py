"""The state of the papers' artifacts: which cells have which runs, and the files that show it."""

from __future__ import annotations

import csv
import json
import logging
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from recot import cache, collect, pictures, render, runner
from recot.cache import Runs, write_whole
from recot.collect import HEADER, NO_DATA, NOT_RUN, TEST_HEADER, Cell, Line
from recot.compose import composed, explain, layered, seeded
from recot.schema import RequestError
from recot.spec import Artifact, Column, Row, printed

log = logging.getLogger(__name__)


@dataclass
class Request:
    """What was asked for on the command line.

    Attributes:
        artifacts: of the papers and tables asked for. rows, data: ids, or empty for all.
        seeds: or empty for those of the spec. results: folder. fetch: may missing data be downloaded?
    """

    artifacts: list[Artifact]
    rows: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)
    seeds: tuple[int, ...] = ()
    results: Path = Path("results")
    fetch: bool = False

    def wants(self, row: Row, column: Column) -> bool:
        """Whether a cell was asked for."""
        return (not self.rows or row.id in self.rows) and (not self.data or column.data in self.data)


class Planner:
    """Turns cells into configs, keys and jobs; composes each command once and asks each data set once."""

    def __init__(self, request: Request):
        self.request = request
        self.layers: dict[tuple[str, ...], tuple[Any, dict[str, str]]] = {}
        self.configs: dict[tuple[tuple[str, ...], int], dict[str, Any]] = {}
        self.digests: dict[str, str | None] = {}
        self.code: dict[str, str] = {}

    def config(self, overrides: tuple[str, ...], seed: int = 0) -> tuple[dict[str, Any], dict[str, str]]:
        """The checked config of a cell and seed, and its choices. What refers to the seed, a split, follows it.

        Raises:
            RequestError: the spec asks for something that cannot run.
        """
        try:
            if overrides not in self.layers:
                self.layers[overrides] = layered(*overrides)
            cfg, choices = self.layers[overrides]
            if (overrides, seed) not in self.configs:
                self.configs[overrides, seed] = seeded(cfg, choices, seed)
        except Exception as error:
            raise RequestError(f"{shlex.join(overrides)}: {explain(error)}") from error
        return self.configs[overrides, seed], choices

    def digest(self, name: str, data: Mapping[str, Any]) -> str | None:
        """Digest of the raw files of the data set ``name``, or None where they are not at hand and cannot be had."""
        settings = json.dumps(cache.relevant({"data": data}), sort_keys=True)
        if settings not in self.digests:
            from recot.experiment import make

            self.digests[settings] = None
            if at_hand(data) or (self.request.fetch and (not self.request.data or name in self.request.data)):
                try:
                    self.digests[settings] = make(data).digest()
                except OSError as error:
                    log.warning("%s", error)
        return self.digests[settings]

    def seeds(self, artifact: Artifact, earlier: Sequence[Line]) -> list[int]:
        """Seeds that are wanted or were reported before."""
        reported = {int(seed) for line in earlier for seed in line["seeds"].split()}
        return sorted({*(self.request.seeds or artifact.seeds), *artifact.seeds, *reported})

    def job(self, column: Column, row: Row, seed: int, key: str) -> runner.Job:
        """The run of a cell and seed."""
        overrides = (*column.overrides, *row.overrides)
        config, choices = self.config(overrides, seed)
        words = ["python", "-m", "recot.run", *overrides, *([f"seed={seed}"] if seed else [])]
        return runner.Job(key, shlex.join(words), config, choices)

    def keys(self, artifact: Artifact, column: Column, row: Row, seeds: Iterable[int]) -> dict[int, str]:
        """Seed -> key of the run; empty where the data are not at hand."""
        config, _ = self.config((*column.overrides, *row.overrides))
        digest = self.digest(column.data, config["data"])
        if digest is None:
            return {}
        if artifact.kind == "statistics":
            return {0: cache.key({"statistics": config["data"]}, digest)}
        from recot.experiment import source_digest

        found = {}
        for seed in seeds:
            config, _ = self.config((*column.overrides, *row.overrides), seed)
            found[seed] = cache.key(config, digest)
            self.code.setdefault(found[seed], source_digest(config))
        return found


def at_hand(data: Mapping[str, Any]) -> bool:
    """Whether a data set's raw files lie where they are looked for; imports no torch."""
    from recot.data.fetch import cache_folder, data_root, in_folder

    if "path" in data:
        return Path(data["path"]).is_file()
    if "files" not in data:
        return True  # made, not read
    own = cache_folder(data.get("cache"))
    places = [data_root(data.get("root"), own) / data["folder"], own / "raw" / data["folder"]]
    return any(all(any(in_folder(place, name) for place in places) for name in files)
               for files in (data["files"], data.get("substitute")) if files)


def needed(artifact: Artifact, reachable: Callable[[str], bool]) -> Artifact:
    """The artifact without columns that stand in for data sets which are at hand."""
    return replace(artifact, columns=tuple(column for column in artifact.columns if not (
        column.stands_in and reachable(column.stands_in))))


def reachable(name: str) -> bool:
    """Whether the data set ``data=<name>`` is at hand."""
    return at_hand(composed(f"data={name}", "model=popularity")[0]["data"])


class Board:
    """The state of the artifacts: which cells have which runs, and the files that show it."""

    def __init__(self, request: Request, runs: Runs):
        self.request, self.runs, self.planner = request, runs, Planner(request)
        self.earlier = {a.label: collect.read(self.folder(a) / f"{a.name}.csv", HEADER) for a in request.artifacts}
        self.known: dict[str, list[Cell]] = {}  # cells of the artifacts that were written

    def folder(self, artifact: Artifact) -> Path:
        """Where an artifact is written."""
        return self.request.results / artifact.paper

    def cells(self, artifact: Artifact) -> list[Cell]:
        """Every cell with its records."""
        found, seeds = [], self.planner.seeds(artifact, self.earlier[artifact.label])
        for column, row in artifact.cells():
            keys = self.planner.keys(artifact, column, row, seeds)
            records, reason = {}, NOT_RUN if keys else NO_DATA
            for seed, key in keys.items():
                record = self.runs.get(key)
                if record and record["status"] == "done":
                    records[seed] = record
                elif record and record["status"] in ("failed", "diverged"):
                    reason = f"{record['status']}: {record.get('error', 'no reason given')}".splitlines()[0]
            found.append(Cell(row, column, keys, records, reason, self.runs))
        return found

    def jobs(self, fresh: bool) -> list[runner.Job]:
        """Runs that were asked for and have no record, most wanted first.

        Args:
            fresh: also those that are :meth:`outdated`.
        """
        found: dict[str, runner.Job] = {}
        wanted = [(a, column, row) for a in self.request.artifacts if a.kind != "statistics"
                  for column, row in a.cells() if self.request.wants(row, column)]
        for seed in sorted({seed for a in self.request.artifacts for seed in self.request.seeds or a.seeds}):
            for artifact, column, row in wanted:
                if seed not in (self.request.seeds or artifact.seeds):
                    continue
                for key in self.planner.keys(artifact, column, row, [seed]).values():
                    record = self.runs.get(key)
                    finished = record is not None and record["status"] in ("done", "diverged")
                    if record is None or not finished or (fresh and self.outdated(key, record)):
                        job = self.planner.job(column, row, seed, key)
                        found.setdefault(key, replace(job, config={**job.config, "force": finished}))
        return list(found.values())

    def outdated(self, key: str, record: Mapping[str, Any]) -> bool:
        """Whether a finished run was made by code that has changed since, and that today's was not seen to repeat."""
        return self.planner.code[key] not in (record.get("sources"), record.get("repeated"))

    def stale(self) -> list[tuple[runner.Job, dict[str, Any]]]:
        """Finished runs that were asked for and are :meth:`outdated`."""
        found = {}
        for artifact in self.request.artifacts:
            for column, row in artifact.cells() if artifact.kind != "statistics" else ():
                seeds = self.planner.seeds(artifact, self.earlier[artifact.label])
                keys = self.planner.keys(artifact, column, row, seeds) if self.request.wants(row, column) else {}
                for seed, key in keys.items():
                    record = self.runs.get(key)
                    if record and record["status"] == "done" and self.outdated(key, record):
                        found[key] = self.planner.job(column, row, seed, key), record
        return list(found.values())

    def write_all(self, key: str | None = None) -> None:
        """Bring the files of all artifacts up to date, or of those that show the run ``key``."""
        for artifact in self.request.artifacts:
            if key is None or any(key in cell.keys.values() for cell in self.known.get(artifact.label, ())):
                self.write(artifact)

    def write(self, artifact: Artifact) -> None:
        """Bring the files of an artifact up to date."""
        folder = self.folder(artifact)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            file, tests_file = folder / f"{artifact.name}.csv", folder / f"{artifact.name}_tests.csv"
            earlier = collect.read(file, HEADER)
            if artifact.kind == "statistics":
                lines = list(self.statistics(artifact, earlier))
                cells: list[Cell] = []
            else:
                cells = self.known[artifact.label] = self.cells(artifact)
                collect.same_questions(cells)
                lines = collect.lines(artifact, cells, earlier)
            collect.write(file, HEADER, lines)
            tests = []
            if artifact.tests:
                tests = collect.paired_tests(artifact, lines, self.runs, collect.read(tests_file, TEST_HEADER))
                collect.write(tests_file, TEST_HEADER, tests)
            named = {key for other in folder.glob("*.csv") if other.name not in ("runs.csv", tests_file.name)
                     and not other.name.endswith("_tests.csv") for line in collect.read(other, HEADER)
                     for key in line["key"].split()}
            records = [record for cell in cells for record in cell.records.values()]
            ledger = {line["key"]: line for line in collect.write_runs(folder / "runs.csv", records, named)}
            page = render.markdown(artifact, lines, tests, ledger, self.planner.code,
                                   list(self.notes(artifact, lines, tests, ledger)))
            write_whole(folder / f"{artifact.name}.md", page.encode())
            tex = render.latex(artifact, lines, tests, ledger, self.planner.code)
            write_whole(folder / f"{artifact.name}.tex", tex.encode())
            if artifact.plot == "case":
                self.draw_case(artifact, cells, folder)
            elif artifact.kind == "figure":
                pictures.figure(artifact, lines, folder)

    def draw_case(self, artifact: Artifact, cells: Sequence[Cell], folder: Path) -> None:
        """Draw the pairs of a few users from the first run that is at hand; without one the picture stays as it was."""
        for key in (cell.keys[seed] for cell in cells for seed in sorted(cell.records)):
            frames = [self.runs.folder(key) / f"{name}.parquet" for name in ("pairs", "lists")]
            if all(file.exists() for file in frames):
                return pictures.case(artifact, *map(collect.frame, frames), folder)
        return None

    def statistics(self, artifact: Artifact, earlier: Sequence[Line]) -> Iterator[Line]:
        """The csv rows of a table about data sets: counted now where they are at hand, as before where the same data
        were counted then.
        """
        from recot.experiment import make

        before = {(line["column"], line["metric"]): line for line in earlier}
        row = artifact.rows[0]
        for column in artifact.columns:
            config, _ = self.planner.config((*column.overrides, "model=popularity"))
            keys, counts = self.planner.keys(artifact, column, replace(row, overrides=("model=popularity",)), [0]), {}
            old = before.get((column.id, artifact.metrics[0]))
            if keys and not (old and old["key"] == keys[0]) and self.request.wants(row, column):
                counts = count(make(config["data"]).load().interactions)
            for metric in artifact.metrics:
                paper = printed(artifact, row, column, metric)
                line = dict.fromkeys(HEADER, "") | {"table": artifact.name, "row": row.id, "column": column.id,
                                                    "metric": metric, "paper": collect.number(paper)}
                if counts:
                    value = counts[metric]
                    line |= {"seeds": "0", "mean": f"{value:.10g}", "key": keys[0]}
                elif old and (not keys or old["key"] == keys[0]) and before[column.id, metric]["mean"]:
                    line |= {name: before[column.id, metric][name] for name in ("seeds", "mean", "key")}
                else:
                    yield line | {"verdict": NOT_RUN if keys else NO_DATA}
                    continue
                delta, word = collect.verdict(float(line["mean"]), paper)
                yield line | {"delta": collect.number(delta), "verdict": word}

    def notes(self, artifact: Artifact, lines: Sequence[Line], tests: Sequence[Line],
              ledger: Mapping[str, Line]) -> Iterator[str]:
        """What stands below a table: where its numbers come from."""
        keys = {key for line in lines for key in line["key"].split()}
        behind = [ledger[key] for key in sorted(keys) if key in ledger]
        if any(line["delta"] for line in lines):
            yield "Difference: ours against the paper's, relative; up to 2 % is a match, up to 10 % close."
        if artifact.kind == "results" and artifact.axis is None:
            yield "Bold: the best of the paper's own rows."
        if tests:
            yield (f"\\*: better than the second best row, paired t-test over the users of the data set, p < "
                   f"{render.STAR:g} after Holm's correction over {len(tests)} tests ({artifact.name}\\_tests.csv).")
        if behind:
            splits = sorted({(line["data"], line["split"]) for line in behind})
            if artifact.axis is None:
                yield "Data: " + ", ".join(f"{data} (split {split})" for data, split in splits) + "."
            seeds = sorted({int(line["seed"]) for line in behind})
            yield f"Seeds: {', '.join(map(str, seeds))}" + ("; one seed, so no deviation." if len(seeds) == 1 else ".")
            hours = sum(float(line["seconds"]) for line in behind) / 3600
            devices = Counter(f"{line['device']}, {line['threads']} thread{'s' * (line['threads'] != '1')}"
                              for line in behind)
            yield (f"{len(behind)} runs, {hours:.1f} hours in all, on {', '.join(sorted(devices))}; every run with its "
                   "command, epochs and seconds is in runs.csv.")
            yield "Commits: " + ", ".join(sorted({line["commit"] for line in behind})) + "."
            code = self.planner.code
            changed = [line for line in behind if line["key"] in code and line["sources"] != code[line["key"]]]
            old = sorted({line["commit"] for line in changed if line["repeated"] != code[line["key"]]})
            same = [line for line in changed if line["repeated"] == code[line["key"]]]
            if old:
                yield (f"†: made by code that has changed since (commits {', '.join(old)}); `make tables "
                       f"PAPER={artifact.paper} TABLE={artifact.name} FRESH=1` runs them again, VERIFY=1 their first "
                       "epochs.")
            if same:
                yield (f"{len(same)} runs were made by code that has changed since, and today's repeats the first "
                       "epoch of each, or all of what has none, to the last digit.")
            yield from self.budgets(behind)
        profile = " PROFILE=smoke" if artifact.planted else ""
        yield f"Command: `make tables PAPER={artifact.paper} TABLE={artifact.name}{profile}`."

    def budgets(self, behind: Sequence[Line]) -> Iterator[str]:
        """How the methods were tuned, where they were."""
        spent: dict[str, list[str]] = {}
        for data, model, loss, denoiser in sorted({(line["data"], line["model"], line["loss"], line["denoiser"])
                                                   for line in behind}):
            file = self.request.results / "tuning" / data / f"{model}-{loss}-{denoiser}.csv"
            if file.exists():
                with file.open(encoding="utf-8", newline="") as stream:
                    trials = list(csv.DictReader(stream))
                epochs = trials[0].get("max_epochs") or "any number of"
                spent.setdefault(f"{len(trials)} configurations, at most {epochs} epochs each", []).append(
                    f"{model} on {data}")
        for budget, methods in spent.items():
            yield f"Tuned on validation with {budget}: {', '.join(methods)} (results/tuning)."


def count(interactions: Any) -> dict[str, float]:
    """Statistics of a data set as SCLRec's and ProRec's first tables have them; density in percent."""
    users, items, pairs = interactions.n_users, interactions.n_items, len(interactions)
    return {"users": users, "items": items, "interactions": pairs, "avg_interactions_per_user": pairs / users,
            "density": 100 * pairs / users / items, "sparsity": 1 - pairs / users / items}
