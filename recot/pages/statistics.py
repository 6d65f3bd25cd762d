"""The tables that show no runs: counts of what data sets hold, and worked examples, beside what the papers print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from recot.artifacts.collect import NO_DATA, NOT_RUN, judged, rounded
from recot.artifacts.plan import Planner
from recot.artifacts.printed import printed
from recot.artifacts.spec import HELD_OUT, Artifact, Column
from recot.record.lines import CellLine


def statistics(artifact: Artifact, planner: Planner, earlier: Sequence[CellLine]) -> Iterator[CellLine]:
    """The csv rows of a table about data sets.

    The data sets that were asked for are counted now if they are at hand. A row of ``earlier``, the csv as it was,
    stays if it counted the same data, or if these are not at hand.
    """
    from recot.record.build import ask_questions, make

    before = {(line.column, line.metric): line for line in earlier}
    for column in artifact.columns:
        key = counted(artifact, planner, column)
        stays = {metric: line for metric in artifact.metrics if (line := before.get((column.id, metric)))
                 and line.mean is not None and key in (None, *line.keys)}
        counts: dict[str, float] = {}
        if key and len(stays) < len(artifact.metrics) and planner.request.wants(artifact.rows[0], column):
            config, _ = planner.config((*column.overrides, "model=popularity"))
            dataset = make(config["data"]).load()
            if {*HELD_OUT} & {*artifact.metrics}:
                counts = count_split(ask_questions(config, dataset))
            else:
                counts = count(within(dataset.interactions, column.questions))
        for metric in artifact.metrics:
            paper = printed(artifact, artifact.rows[0], column, metric)
            line = CellLine(artifact.name, artifact.rows[0].id, column.id, metric,
                            paper=None if paper is None else rounded(paper), verdict=NOT_RUN if key else NO_DATA)
            if counts and key:
                line = judged(replace(line, seeds=(0,), keys=(key,)), exact(counts[metric]), paper)
            elif (old := stays.get(metric)) and old.mean is not None:
                line = judged(replace(line, seeds=old.seeds, keys=old.keys), old.mean, paper)
            yield line


def counted(artifact: Artifact, planner: Planner, column: Column) -> str | None:
    """The key of the counts of a data set; None where its files are not at hand."""
    row = replace(artifact.rows[0], overrides=("model=popularity",))
    return planner.keys(artifact, column, row, [0]).get(0)


def worked(artifact: Artifact) -> Iterator[CellLine]:
    """The csv rows of a worked example, computed now."""
    from recot.ot import worked as examples

    found: dict[str, dict[str, float]] = getattr(examples, artifact.of)()
    for column, row in artifact.cells():
        for metric in artifact.metrics:
            paper = printed(artifact, row, column, metric)
            line = CellLine(artifact.name, row.id, column.id, metric, paper=None if paper is None else rounded(paper))
            yield judged(line, rounded(found[row.id][metric]), paper)


def within(interactions: Any, name: str) -> Any:
    """The pairs of the domain whose test set has a ``name``, in id spaces of their own; all where that is "test"."""
    from recot.data.domains import called, of

    found = [domain for domain in interactions.domains if called(domain) == name]
    return of(interactions, found) if found else interactions


def exact(value: float) -> float:
    """Ten significant digits: counts of interactions have more than six."""
    return int(value) if float(value).is_integer() else float(f"{value:.10g}")


def count(interactions: Any) -> dict[str, float]:
    """Statistics of a data set as SCLRec's and ProRec's first tables have them; density in percent."""
    users, items, pairs = interactions.n_users, interactions.n_items, len(interactions)
    return {"users": users, "items": items, "interactions": pairs, "avg_interactions_per_user": pairs / users,
            "density": 100 * pairs / users / items, "sparsity": 1 - pairs / users / items}


def count_split(split: Any) -> dict[str, float]:
    """Statistics of data whose users are split: all of them, the items that train, and the pairs of these."""
    train, parts = split.train, (split.valid, *split.test)
    held = sum(len(part.query.history.values) + len(part.targets.values) for part in parts)
    return {"users": int((train.activity > 0).sum()) + sum(len(part) + part.left_out for part in parts),
            "items": train.n_items, "interactions": len(train) + held,
            "validation_users": len(parts[0]), "test_users": len(parts[1])}
