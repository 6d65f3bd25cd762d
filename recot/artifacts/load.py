"""Reads the specification of a paper's tables, figures and studies, ``experiments/<paper>.yaml``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from recot.artifacts.spec import AXES, EXAMPLES, KINDS, PLOTS, Artifact, Column, Group, Row, Tuning
from recot.request.errors import RequestError, nearest

HERE = Path(__file__).parents[1]

EXPERIMENTS = Path(os.environ.get("RECOT_EXPERIMENTS") or (
    HERE / "experiments" if (HERE / "experiments").is_dir() else HERE.parent / "experiments"))
"""The specs: where RECOT_EXPERIMENTS says, else inside an installed package or at the top of a clone."""


@cache
def papers() -> tuple[str, ...]:
    """Names of the papers there is a spec for; ``claims.yaml`` holds what all of them claim."""
    names = tuple(sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if path.stem != "claims"))
    if not names:
        raise RequestError(f"{EXPERIMENTS} holds no spec; let RECOT_EXPERIMENTS name a folder of yaml files, one for "
                           "each paper")
    return names


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
    planted = run_of(spec["data"].get("planted", ""))
    parts = {entry["questions"] for entry in spec["data"].values() if "questions" in entry and isinstance(entry, dict)}
    parts.discard("users")  # what a model knows of users is no test set of the data
    return tuple(_on_planted(artifact, profile, planted, parts) if profile and artifact.kind != "worked" else artifact
                 for artifact in artifacts)


def title(paper: str) -> str:
    """What a paper is called.

    Raises:
        RequestError: there is no such paper.
    """
    return str(_read(paper)["title"])


def tuning(paper: str) -> Tuning:
    """How the methods of a paper are tuned.

    Raises:
        RequestError: there is no such paper, or its spec says nothing of it.
    """
    node = _read(paper).get("tuning")
    if node is None:
        raise RequestError(f"experiments/{paper}.yaml has no `tuning`; use python -m recot.tune for a single method")
    _refuse_unknown(node, {"trials", "epochs", "base", "preset_first", "finals", "first", "rows"},
                    f"{paper}.yaml, tuning")
    base = node.get("base", "")
    rows = {str(id_): tuple(shlex.split(f"{base} {run}")) for id_, run in node["rows"].items()}
    return Tuning(node["trials"], node["epochs"], rows, node.get("preset_first", False), node.get("finals", 0),
                  node.get("first", False))


def tunes_first(paper: str) -> bool:
    """Whether the tables of a paper are made of the best trials of their studies."""
    return bool((_read(paper).get("tuning") or {}).get("first"))


def of_data(artifact: Artifact, words: Sequence[str]) -> Artifact:
    """The artifact over the data that ``words`` such as ``data.path=my.csv`` say, without rows that need other words.

    Planted data are what they are, and have all that a row may need.
    """
    if artifact.planted:
        return artifact
    typed = {word.partition("=")[0] for word in words}
    rows = tuple(row for row in artifact.rows if row.needs is None or row.needs in typed)
    columns = tuple(replace(column, overrides=(
        *(word for word in column.overrides if word.partition("=")[0] not in typed), *words))
        for column in artifact.columns)
    return replace(artifact, rows=rows, columns=columns)


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
    rows = [Row(str(id_), entry["name"], tuple(shlex.split(entry.get("run", ""))), beyond, entry.get("paper"),
                entry.get("needs"))
            for beyond, group in ((False, "rows"), (True, "beyond")) for id_, entry in node.get(group, {}).items()]
    if node["kind"] == "worked" and node.get("of") not in EXAMPLES:
        raise RequestError(f"experiments/{where}: a worked example is of one of {', '.join(EXAMPLES)}, got "
                           f"{node.get('of')!r}")
    if node["kind"] == "statistics":
        rows = [Row("statistics", "statistics", (), False)]
    axis = node.get("axis")
    if axis is not None:
        _refuse_unknown(axis, {"name", "label", *AXES, *(("by", "of") if "groups" in axis else ())}, f"{where}, axis")
        if sum(kind in axis for kind in AXES) != 1:
            raise RequestError(f"experiments/{where}: an axis has one of {', '.join(AXES)}")
    return Artifact(
        paper, name, node["kind"], node["title"], " ".join(node.get("note", "").split()), tuple(rows),
        tuple(_columns(node, spec, axis)), tuple(node["metrics"]), tuple(spec["seeds"]),
        called=tuple(node.get("called", {}).items()), improvement=tuple(node.get("improvement", ())),
        **{key: node[key] for key in ("printed", "tests", "relative_to", "plot", "of") if key in node},
        axis=(axis["name"], axis["label"]) if axis else None)


def _columns(node: Mapping[str, Any], spec: Mapping[str, Any], axis: Mapping[str, Any] | None) -> Iterator[Column]:
    base = tuple(shlex.split(node.get("base", "")))
    for data in node["data"]:
        entry = spec["data"].get(data, "planted communities")
        said: Mapping[str, str] = entry if isinstance(entry, Mapping) else {"name": entry}
        _refuse_unknown(said, {"name", "run", "data", "questions"}, f"data, {data}")
        name, known = said["name"], said.get("data", data)
        common = (f"data={known}", *base, *run_of(entry))
        stands_in = spec.get("stand_ins", {}).get(data)
        if axis is None:
            yield Column(data, known, name, common, None, stands_in, said.get("questions", "test"), entry=data)
            continue
        for value, run, questions, group in _places(axis, said.get("questions", "test")):
            yield Column(f"{data} {axis['name']}={value:g}", known, name, (*common, *shlex.split(run)), value,
                         stands_in, questions, group, data)


def _places(axis: Mapping[str, Any], known: str) -> Iterator[tuple[float, str, str, Group | None]]:
    """Along an axis: the value, the run's overrides, the test set that is reported, and the part of it.

    Args:
        known: the test set where the axis does not name one.
    """
    for value, run in axis.get("values", {}).items():
        yield float(value), run, known, None
    for value, questions in axis.get("sets", {}).items():
        yield float(value), "", questions, None
    lows = axis.get("groups", [])
    for low, following in zip_longest(lows, lows[1:]):
        high = None if following is None else following - 1
        yield float(low), "", axis.get("of", known), Group(axis["by"], low, high)


def run_of(entry: Mapping[str, str] | str) -> tuple[str, ...]:
    """The overrides that every run on a data set has; ``entry`` is its name, or its ``name`` and ``run``."""
    return tuple(shlex.split(entry.get("run", ""))) if isinstance(entry, Mapping) else ()


def _on_planted(artifact: Artifact, profile: str, own: tuple[str, ...], parts: set[str]) -> Artifact:
    """The artifact with small planted data in place of every data set, which is then one column; two seeds at most.

    Args:
        own: overrides that the paper has for planted data, where it has some. parts: test sets that real data have.
    """
    file = EXPERIMENTS / "profiles" / f"{profile}.yaml"
    if not file.exists():
        known = [path.stem for path in (EXPERIMENTS / "profiles").glob("*.yaml")]
        raise RequestError(f"no profile is called {profile!r}. {nearest(profile, known)}")
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = shlex.split(settings["run"])
    replaced = {word.split("=")[0] for word in (*given, *own)}
    columns: dict[str, Column] = {}
    for column in artifact.columns:
        rest = [word for word in column.overrides if word.split("=")[0] not in {"data", "data.path", *replaced}]
        id_ = settings["data"] + column.id.removeprefix(column.entry)
        columns.setdefault(id_, replace(
            column, id=id_, data=settings["data"], name="planted communities", stands_in=None, entry=settings["data"],
            questions="test" if column.questions in parts else column.questions,
            overrides=(f"data={settings['data']}", *given, *rest, *own)))
    return replace(artifact, columns=tuple(columns.values()), seeds=artifact.seeds[:2], planted=True)
