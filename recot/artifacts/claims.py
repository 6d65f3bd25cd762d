"""The claims of the papers, ``experiments/claims.yaml``, and whether the cells of the tables bear them out.

A claim names a table, its rows, data and metrics, and one of the rules of :mod:`recot.artifacts.rules`. Its verdict
follows from the csv files, so that a new run can change it. A claim that no cell decides has ``prose`` in place of a
rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recot.artifacts import load
from recot.artifacts.rules import RULES, SETTINGS, Asked, Claim, Comparison, Reports
from recot.artifacts.spec import Artifact
from recot.request.errors import RequestError, nearest

HELD, NOT_HELD, UNTESTABLE = "held", "not held", "untestable"
"""Verdicts. A claim is held where all comparisons that can be made bear it out."""

@dataclass(frozen=True)
class Judgement:
    """A claim, its verdict, and the comparisons that it was made of."""

    claim: Claim
    verdict: str
    comparisons: tuple[Comparison, ...] = ()

    @property
    def made(self) -> list[Comparison]:
        """The comparisons whose numbers are there."""
        return [each for each in self.comparisons if each.holds is not None]

    @property
    def tightest(self) -> Comparison | None:
        """The comparison that bears the claim out least: of those that do not, if there are some."""
        made = sorted(self.made, key=lambda each: (bool(each.holds), each.slack))
        return made[0] if made else None


def claims(paper: str, artifacts: Mapping[str, Artifact]) -> list[Claim]:
    """The claims of a paper, checked against its tables; none where there is no file of claims.

    Raises:
        RequestError: the file says something that nothing reads, or names what no table has.
    """
    file = load.EXPERIMENTS / "claims.yaml"
    if not file.exists():
        return []
    spec = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for name in spec:
        refuse_unknown(str(name), load.papers(), "a paper")
    return [checked(paper, id_, node, artifacts) for id_, node in spec.get(paper, {}).items()]


def refuse_unknown(name: str, known: Sequence[str] | set[str], what: str) -> None:
    """Refuse a name that is not known, with the nearest one.

    Raises:
        RequestError: it is not.
    """
    if name not in known:
        raise RequestError(f"experiments/claims.yaml: {name!r} is not {what}. {nearest(name, sorted(known))}")


def checked(paper: str, id_: str, node: Mapping[str, Any], artifacts: Mapping[str, Artifact]) -> Claim:
    """A claim of the file.

    Raises:
        RequestError: as in :func:`claims`.
    """
    for name in node:
        refuse_unknown(name, {"claim", "table", "data", "metrics", "remarks", "prose", *RULES}, "what a claim may say")
    rules = [name for name in node if name in RULES]
    if "claim" not in node or len(rules) + ("prose" in node) != 1:
        raise RequestError(f"experiments/claims.yaml, {paper}, {id_}: a claim has `claim` and one of "
                           f"{', '.join([*RULES, 'prose'])}")
    for verdict in node.get("remarks", {}):
        refuse_unknown(verdict, {HELD, NOT_HELD, UNTESTABLE}, "a verdict")
    words = {verdict: " ".join(text.split()) for verdict, text in node.get("remarks", {}).items()}
    if not rules:
        return Claim(paper, id_, node["claim"], prose=" ".join(node["prose"].split()))
    refuse_unknown(node.get("table", ""), list(artifacts), f"a table of {paper}")
    claim = Claim(paper, id_, node["claim"], node["table"], tuple(node.get("data", ())), tuple(node.get("metrics", ())),
                  rules[0], node[rules[0]], words)
    check_settings(claim, artifacts)
    return claim


def check_settings(claim: Claim, artifacts: Mapping[str, Artifact]) -> None:
    """Refuse a claim whose rule lacks a setting, or that names rows, columns or metrics that its tables do not have.

    Raises:
        RequestError: it is so.
    """
    needed, optional = SETTINGS[claim.rule]
    if missing := needed - set(claim.settings):
        raise RequestError(f"experiments/claims.yaml, {claim.paper}, {claim.id}: {claim.rule} lacks "
                           f"{', '.join(sorted(missing))}")
    for name in claim.settings:
        refuse_unknown(name, needed | optional, f"a setting of {claim.rule}")
    check_names(artifacts[claim.table], claim.settings, claim.data, claim.metrics)
    other = claim.settings["than"] if claim.rule == "gains" else {}
    if other:
        table = other.get("table", claim.table)
        refuse_unknown(table, list(artifacts), f"a table of {claim.paper}")
        check_names(artifacts[table], other, other.get("data", ()), ())


def check_names(artifact: Artifact, settings: Mapping[str, Any], data: Sequence[str], metrics: Sequence[str]) -> None:
    """Refuse names that a table does not have.

    Raises:
        RequestError: with the nearest one.
    """
    named = [settings[name] for name in ("row", "over", "rows", "among") if name in settings]
    named += [settings["than"]] if isinstance(settings.get("than"), list) else []
    for row in (row for each in named for row in ([each] if isinstance(each, str) else each)):
        refuse_unknown(row, {each.id for each in artifact.rows}, f"a row of {artifact.label}")
    ends = [settings[name] for name in ("start", "end") if name in settings]
    columns = [*data, *settings.get("than_data", ()), *ends]
    for column in columns:
        refuse_unknown(column, {name for each in artifact.columns for name in (each.id, each.entry)},
                       f"a column of {artifact.label}")
    for metric in (*metrics, *(settings[name] for name in ["than_metric"] if name in settings)):
        refuse_unknown(metric, artifact.metrics, f"a metric of {artifact.label}")


def judge(claim: Claim, reports: Reports) -> Judgement:
    """Ask the cells."""
    if not claim.rule:
        return Judgement(claim, UNTESTABLE)
    comparisons = tuple(RULES[claim.rule](Asked(claim, reports), **claim.settings))
    answers = [each.holds for each in comparisons if each.holds is not None]
    return Judgement(claim, UNTESTABLE if not answers else HELD if all(answers) else NOT_HELD, comparisons)


def judgements(paper: str, results: Path) -> list[Judgement]:
    """All claims of a paper, judged by the csv files in ``results``.

    Raises:
        RequestError: as in :func:`claims`.
    """
    artifacts = {artifact.name: artifact for artifact in load.load(paper)}
    reports = Reports(artifacts, results)
    return [judge(claim, reports) for claim in claims(paper, artifacts)]
