"""What was asked for, and which runs its cells are: configs, keys and jobs."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recot.artifacts.jobs import Job
from recot.artifacts.spec import HELD_OUT, Artifact, Column, Row
from recot.record.lines import CellLine
from recot.request import keys
from recot.request.compose import composed, explain, layered, seeded
from recot.request.errors import RequestError
from recot.request.schema import metric_names

log = logging.getLogger(__name__)


@dataclass
class Request:
    """What was asked for on the command line.

    Attributes:
        artifacts: of the papers and tables asked for. rows, data: ids, or empty for all.
        seeds: or empty for those of the spec. results: folder. fetch: whether missing data may be downloaded.
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
        self.missing: dict[str, Mapping[str, Any]] = {}  # data sets whose files are missing or unreadable
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
        settings = json.dumps(keys.relevant({"data": data}), sort_keys=True)
        if settings not in self.digests:
            from recot.record.build import make

            self.digests[settings] = None
            if at_hand(data) or (self.request.fetch and (not self.request.data or name in self.request.data)):
                try:
                    self.digests[settings] = make(data).digest()
                except (OSError, ValueError) as error:  # nothing that is wrong with one data set stops the others
                    log.warning("%s", error)
            if self.digests[settings] is None:
                self.missing[name] = data
        return self.digests[settings]

    def seeds(self, artifact: Artifact, earlier: Sequence[CellLine]) -> list[int]:
        """Seeds that are wanted or were reported before."""
        reported = {seed for line in earlier for seed in line.seeds}
        return sorted({*(self.request.seeds or artifact.seeds), *artifact.seeds, *reported})

    def job(self, column: Column, row: Row, seed: int, key: str) -> Job:
        """The run of a cell and seed."""
        overrides = (*column.overrides, *row.overrides)
        config, choices = self.config(overrides, seed)
        words = ["python", "-m", "recot.run", *overrides, *([f"seed={seed}"] if seed else [])]
        return Job(key, shlex.join(words), config, choices, sources=self.code.get(key))

    def keys(self, artifact: Artifact, column: Column, row: Row, seeds: Iterable[int]) -> dict[int, str]:
        """Seed -> key of the run; empty where the data are not at hand."""
        config, _ = self.config((*column.overrides, *row.overrides))
        digest = self.digest(column.data, config["data"])
        if digest is None:
            return {}
        if artifact.kind == "statistics":
            counted = {"statistics": keys.relevant({"data": config["data"]})["data"]}
            split = {"split": config["protocol"]["split"]} if {*HELD_OUT} & {*artifact.metrics} else {}
            return {0: keys.key(counted | split, digest)}
        for metric in artifact.metrics:
            if ("@" in metric or metric in metric_names()) and metric not in config["metrics"]:
                raise RequestError(f"{artifact.label} asks for {metric}, and its runs answer "
                                   f"{', '.join(config['metrics'])}; name one of these, or add {metric} by "
                                   "metrics=[...] in the base")
        from recot.record.provenance import source_digest

        by_seed = {}
        for seed in seeds:
            config, _ = self.config((*column.overrides, *row.overrides), seed)
            by_seed[seed] = keys.key(config, digest)
            self.code.setdefault(by_seed[seed], source_digest(config))
        return by_seed


def at_hand(data: Mapping[str, Any]) -> bool:
    """Whether a data set's raw files lie where they are looked for; imports no torch."""
    from recot.data.fetch import OWN, cache_folder, data_root, in_folder

    if "path" in data:
        said = [place for key in OWN if (place := data.get(key.removeprefix("data.")))]
        return all(Path(path).exists() for place in said for path in ([place] if isinstance(place, str) else place))
    if "files" not in data:
        return True  # made, not read
    own = cache_folder(data.get("cache"))
    folders = [data_root(data.get("root"), own) / data["folder"], own / "raw" / data["folder"]]
    return any(all(any(in_folder(folder, name) for folder in folders) for name in files)
               for files in (data["files"], data.get("substitute")) if files)


def needed(artifact: Artifact, reachable: Callable[[str], bool]) -> Artifact:
    """The artifact without columns that stand in for data sets which are at hand."""
    return replace(artifact, columns=tuple(column for column in artifact.columns if not (
        column.stands_in and reachable(column.stands_in))))


def described(name: str, *words: str) -> dict[str, Any]:
    """The config of the data set ``data=<name>``, as other words change it."""
    data: dict[str, Any] = composed(f"data={name}", *words, "model=popularity")[0]["data"]
    return data


def reachable(name: str, *words: str) -> bool:
    """Whether the data set ``data=<name>`` is at hand."""
    return at_hand(described(name, *words))
