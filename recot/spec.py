"""A paper's tables and figures as data: what ``experiments/<paper>.yaml`` says, checked. Imports no torch."""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recot.schema import RequestError, nearest

HERE = Path(__file__).parent
EXPERIMENTS = Path(os.environ.get("RECOT_EXPERIMENTS") or (
    HERE / "experiments" if (HERE / "experiments").is_dir() else HERE.parent / "experiments"))
"""The specs: where RECOT_EXPERIMENTS says, else inside an installed package or at the top of a clone."""

KINDS = {"statistics": {"data", "metrics"},
         "results": {"data", "metrics", "rows", "beyond", "base", "axis", "printed", "called", "tests", "relative_to",
                     "improvement"},
         "figure": {"data", "metrics", "rows", "beyond", "base", "axis", "printed", "called", "plot"}}
"""What an artifact of each kind may say besides ``kind``, ``title`` and ``note``."""

PLOTS = ("degradation", "lines", "groups", "case")
"""How a figure may be drawn: bars with their loss below, one panel of lines for each metric, lines over bars that show
how large the groups are, or a few users' pairs."""

AXES = ("values", "sets", "groups")
"""What the values of an axis may be: other runs, other test sets of a run, or groups of its test questions."""


@dataclass(frozen=True)
class Row:
    """A method or setting: its id, its name, its overrides; ``beyond`` the paper or in it.

    Attributes:
        paper: its id in the printed numbers where that is another one (two readings of one method), or None.
    """

    id: str
    name: str
    overrides: tuple[str, ...]
    beyond: bool
    paper: str | None = None


@dataclass(frozen=True)
class Group:
    """Test questions by how many training pairs the user or the target has.

    Attributes:
        by: ``activity`` of the user, or ``popularity`` of the target.
        low: the least value. high: the largest, or None for no bound.
    """

    by: str
    low: int
    high: int | None

    @property
    def label(self) -> str:
        """``4 to 7``."""
        if self.high is None:
            return f"{self.low} or more"
        return f"{self.low} to {self.high}" if self.low else f"up to {self.high}"


@dataclass(frozen=True)
class Column:
    """A data set, and a value of the artifact's axis where it has one.

    Attributes:
        id: begins with the config name of the data set.
        data: that name. name: how a table calls it.
        overrides: of the run. value: on the axis, or None.
        stands_in: the data set it replaces where that is not at hand, or None.
        questions: name of the test set that is reported. group: the part of it, or None for all of it.
    """

    id: str
    data: str
    name: str
    overrides: tuple[str, ...]
    value: float | None = None
    stands_in: str | None = None
    questions: str = "test"
    group: Group | None = None

    @property
    def label(self) -> str:
        """Its place on the axis."""
        return self.group.label if self.group else f"{self.value:g}"


@dataclass(frozen=True)
class Artifact:
    """A table or figure; its runs are the product of rows, columns and seeds, in the order they are wanted.

    Attributes:
        printed: which column of the printed numbers names a row, ``model`` or ``variant``; None where there are none.
        called: (metric, its name in the printed numbers) where the two differ; that name then means no other metric.
        relative_to: id of the row the others are compared with, or None.
        improvement: ids of rows the best of which is compared with the best of the paper's other rows, or none.
        plot: how a figure is drawn, or None. axis: name and label of the x axis, or None.
        planted: the real data gave way to planted ones (a profile).
        colours: ids of the rows of all figures of the paper; the place of a row there is its colour.
    """

    paper: str
    name: str
    kind: str
    title: str
    note: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    printed: str | None = None
    called: tuple[tuple[str, str], ...] = ()
    tests: bool = False
    relative_to: str | None = None
    improvement: tuple[str, ...] = ()
    plot: str | None = None
    axis: tuple[str, str] | None = None
    planted: bool = False
    colours: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``paper/artifact``."""
        return f"{self.paper}/{self.name}"

    def cells(self) -> Iterator[tuple[Column, Row]]:
        """Columns of one data set together, rows inside a column."""
        for column in self.columns:
            for row in self.rows:
                yield column, row


@dataclass(frozen=True)
class Tuning:
    """How the methods of a paper are tuned: every one with as many trials of as many epochs.

    Attributes:
        rows: id -> overrides in Hydra's sweep grammar, without the data set; those of ``base`` in the spec come first.
        preset_first: whether the first trial has the settings of the preset.
        finals: so many of the best trials, and the preset, are run without the cap on epochs as well.
    """

    trials: int
    epochs: int
    rows: dict[str, tuple[str, ...]]
    preset_first: bool = False
    finals: int = 0


@cache
def papers() -> tuple[str, ...]:
    """Names of the papers there is a spec for."""
    found = tuple(sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")))
    if not found:
        raise RequestError(f"{EXPERIMENTS} holds no spec; RECOT_EXPERIMENTS names a folder of yaml files, one for each "
                           "paper")
    return found


def load(paper: str, profile: str | None = None) -> tuple[Artifact, ...]:
    """The artifacts of a paper.

    Args:
        profile: name of a file in ``experiments/profiles`` that puts small planted data in place of all data sets.

    Raises:
        RequestError: there is no such paper or profile, or the spec says something nothing reads.
    """
    spec = _read(paper)
    artifacts = [_artifact(paper, name, node, spec) for name, node in spec["artifacts"].items()]
    colours = tuple(dict.fromkeys(row.id for artifact in artifacts if artifact.kind == "figure"
                                  for row in artifact.rows))
    artifacts = [replace(artifact, colours=colours) for artifact in artifacts]
    return tuple(_on_planted(artifact, profile) if profile else artifact for artifact in artifacts)


def tuning(paper: str) -> Tuning:
    """How the methods of a paper are tuned.

    Raises:
        RequestError: there is no such paper, or its spec says nothing of it.
    """
    node = _read(paper).get("tuning")
    if node is None:
        raise RequestError(f"experiments/{paper}.yaml has no `tuning`; use python -m recot.tune for a single method")
    _refuse_unknown(node, {"trials", "epochs", "base", "preset_first", "finals", "rows"}, f"{paper}.yaml, tuning")
    base = node.get("base", "")
    rows = {str(id_): tuple(shlex.split(f"{base} {run}")) for id_, run in node["rows"].items()}
    return Tuning(node["trials"], node["epochs"], rows, node.get("preset_first", False), node.get("finals", 0))


def _read(paper: str) -> dict[str, Any]:
    if paper not in papers():
        raise RequestError(f"no paper is called {paper!r}. {nearest(paper, list(papers()))}")
    file = EXPERIMENTS / f"{paper}.yaml"
    try:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RequestError(f"{file} is no yaml: {' '.join(str(error).split())}") from error
    if missing := {"title", "seeds", "data", "artifacts"} - set(spec or {}):
        raise RequestError(f"{file} lacks {', '.join(sorted(missing))}")
    _refuse_unknown(spec, {"title", "seeds", "data", "stand_ins", "tuning", "artifacts"}, f"{paper}.yaml")
    return spec


def _refuse_unknown(node: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in node:
        if name not in known:
            raise RequestError(f"experiments/{where}: nothing reads {name!r}. {nearest(str(name), sorted(known))}")


def _artifact(paper: str, name: str, node: Mapping[str, Any], spec: Mapping[str, Any]) -> Artifact:
    where = f"{paper}.yaml, {name}"
    if node.get("kind") not in KINDS:
        raise RequestError(f"experiments/{where}: kind is one of {', '.join(KINDS)}, got {node.get('kind')!r}")
    _refuse_unknown(node, KINDS[node["kind"]] | {"kind", "title", "note"}, where)
    if node["kind"] == "figure" and node.get("plot") not in PLOTS:
        raise RequestError(f"experiments/{where}: plot is one of {', '.join(PLOTS)}, got {node.get('plot')!r}")
    for data in node["data"]:
        if data not in spec["data"] and data != "planted":
            raise RequestError(f"experiments/{where}: the data set {data!r} has no name in `data`")
    rows = [Row(str(id_), entry["name"], tuple(shlex.split(entry["run"])), beyond, entry.get("paper"))
            for beyond, group in ((False, "rows"), (True, "beyond")) for id_, entry in node.get(group, {}).items()]
    if node["kind"] == "statistics":
        rows = [Row("statistics", "statistics", (), False)]
    axis = node.get("axis")
    if axis is not None:
        _refuse_unknown(axis, {"name", "label", *AXES, *(("by",) if "groups" in axis else ())}, f"{where}, axis")
        if sum(kind in axis for kind in AXES) != 1:
            raise RequestError(f"experiments/{where}: an axis has one of {', '.join(AXES)}")
    return Artifact(
        paper, name, node["kind"], node["title"], " ".join(node.get("note", "").split()), tuple(rows),
        tuple(_columns(node, spec, axis)), tuple(node["metrics"]), tuple(spec["seeds"]),
        called=tuple(node.get("called", {}).items()), improvement=tuple(node.get("improvement", ())),
        **{key: node[key] for key in ("printed", "tests", "relative_to", "plot") if key in node},
        axis=(axis["name"], axis["label"]) if axis else None)


def _columns(node: Mapping[str, Any], spec: Mapping[str, Any], axis: Mapping[str, Any] | None) -> Iterator[Column]:
    base = tuple(shlex.split(node.get("base", "")))
    for data in node["data"]:
        common = (f"data={data}", *base)
        name, stands_in = spec["data"].get(data, "planted communities"), spec.get("stand_ins", {}).get(data)
        if axis is None:
            yield Column(data, data, name, common, None, stands_in)
            continue
        for value, run, questions, group in _places(axis):
            yield Column(f"{data} {axis['name']}={value:g}", data, name, (*common, *shlex.split(run)), value, stands_in,
                         questions, group)


def _places(axis: Mapping[str, Any]) -> Iterator[tuple[float, str, str, Group | None]]:
    """Along an axis: the value, the run's overrides, the test set that is reported, and the part of it."""
    for value, run in axis.get("values", {}).items():
        yield float(value), run, "test", None
    for value, questions in axis.get("sets", {}).items():
        yield float(value), "", questions, None
    lows = axis.get("groups", [])
    for place, low in enumerate(lows, 1):
        yield float(low), "", "test", Group(axis["by"], low, lows[place] - 1 if place < len(lows) else None)


def _on_planted(artifact: Artifact, profile: str) -> Artifact:
    """The artifact with small planted data in place of every data set, which is then one column; two seeds at most."""
    file = EXPERIMENTS / "profiles" / f"{profile}.yaml"
    if not file.exists():
        known = [path.stem for path in (EXPERIMENTS / "profiles").glob("*.yaml")]
        raise RequestError(f"no profile is called {profile!r}. {nearest(profile, known)}")
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = shlex.split(settings["run"])
    replaced = {word.split("=")[0] for word in given}
    columns: dict[str, Column] = {}
    for column in artifact.columns:
        kept = [word for word in column.overrides if word.split("=")[0] not in {"data", *replaced}]
        id_ = column.id.replace(column.data, settings["data"], 1)
        columns.setdefault(id_, replace(
            column, id=id_, data=settings["data"], name="planted communities", stands_in=None,
            overrides=(f"data={settings['data']}", *given, *kept)))
    return replace(artifact, columns=tuple(columns.values()), seeds=artifact.seeds[:2], planted=True)


@cache
def printed_numbers(paper: str) -> dict[tuple[str, str, str, str, str], float]:
    """(artifact, data set, model, variant, metric) -> the number a paper prints."""
    file, found = EXPERIMENTS / "papers" / f"{paper}.csv", {}
    if not file.exists():  # tables of one's own have nothing printed
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            metric = f"{row['metric']}@{row['k']}" if row["k"] else row["metric"]
            found[row["artifact"], row["dataset"], row["model"], row["variant"], metric] = float(row["value"])
    return found


def printed(artifact: Artifact, row: Row, column: Column, metric: str) -> float | None:
    """What the paper prints in a cell, or None; planted data have no printed numbers."""
    if artifact.planted or (column.value is not None and artifact.kind != "figure"):
        return None
    numbers, called = printed_numbers(artifact.paper), dict(artifact.called)
    if metric not in called and metric in called.values():
        return None
    metric = called.get(metric, metric)
    variant = f"{artifact.axis[0]}={column.value:.2f}" if artifact.axis and column.value is not None else ""
    if artifact.kind == "statistics":
        return numbers.get((artifact.name, column.data, "", "", metric))
    if artifact.printed == "model":
        return numbers.get((artifact.name, column.data, row.paper or row.id, variant, metric))
    if artifact.printed == "variant":
        return numbers.get((artifact.name, column.data, artifact.paper, row.id, metric))
    return None
