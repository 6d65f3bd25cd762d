"""The pictures of figures, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recot.artifacts.spec import Artifact, Column, Row
from recot.pages.table import Lines, by_data, indexed, sorted_by_value
from recot.record.lines import CellLine
from recot.system.files import write_whole

CASE_USERS = 8  # in the picture of a case study


def figure(artifact: Artifact, rows: Sequence[CellLine], folder: Path) -> None:
    """Draw ``<folder>/<artifact>.png`` and ``.svg``: a column of panels for each data set, as ``plot`` says.

    Along an axis of lines whose values multiply (sizes of batches) they stand at equal distances.
    """
    style(artifact)
    from matplotlib import pyplot

    lines, bars = indexed(rows), artifact.plot == "degradation"

    def known(row: Row, columns: Sequence[Column]) -> bool:
        return any(lines[row.id, column.id, metric].mean is not None
                   for column in columns for metric in artifact.metrics)

    groups = {data: columns for data, columns in by_data(artifact).items()
              if any(known(row, columns) for row in artifact.rows)}
    drawn_rows = [row for row in artifact.rows if any(known(row, columns) for columns in groups.values())]
    wide = max(len(groups), 1)
    shown = [metric for metric in artifact.metrics if metric != "questions"]
    high = 2 if bars else len(shown)
    panels, axes = pyplot.subplots(high, wide, figsize=(1 + 5.5 * wide, 6.5 if bars else 1 + 2 * high), squeeze=False,
                                   sharex="col", layout="constrained", height_ratios=[3, 2] if bars else None)
    for number, columns in enumerate(groups.values()):
        along = sorted_by_value(columns)
        if bars:
            draw(axes[0][number], axes[1][number], artifact, drawn_rows, along, lines)
        else:
            for panel, metric in zip(axes[:, number], shown, strict=True):
                draw_lines(panel, artifact, along, lines, metric)
                if artifact.plot == "groups":
                    draw_sizes(panel, artifact, along, lines)
            axes[0][number].set(title=columns[0].name)
            axes[-1][number].set(xlabel=artifact.axis[1] if artifact.axis else "")
    if not groups:
        axes[0][0].text(0.5, 0.5, "not run yet", ha="center", va="center")
    named = {label: drawn for panel in axes.flat
             for drawn, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    labels = [row.name for row in artifact.rows if row.name in named]
    if labels:
        panels.legend([named[label] for label in labels], labels, loc="outside lower center", ncols=4 * wide,
                      frameon=False)
    save(panels, artifact, folder)


def save(panels: Any, artifact: Artifact, folder: Path) -> None:
    """Write and close a picture; the same one has the same bytes."""
    from matplotlib import pyplot

    if artifact.planted:
        panels.suptitle("planted data, tiny settings")
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        drawn = io.BytesIO()
        panels.savefig(drawn, format=suffix, metadata=metadata, dpi=150)
        write_whole(folder / f"{artifact.name}.{suffix}", drawn.getvalue())
    pyplot.close(panels)


def case(artifact: Artifact, pairs: Any, lists: Any, folder: Path) -> None:
    """Draw what a denoiser makes of a few users' pairs: what was observed, how the plan matches it, and their lists.

    Args:
        pairs: a row for each pair: user, item, weight, rho, noise. lists: a row for each user and place: before, after.
    """
    from matplotlib import pyplot

    style(artifact)
    changed = {user: len(set(rows["before"]) ^ set(rows["after"])) for user, rows in lists.groupby("user")}
    most = max(changed, key=lambda user: (changed[user], -list(changed).index(user)))
    users = [user for user in changed if user != most][:CASE_USERS - 1] + [most]
    shown_pairs = pairs[pairs["user"].isin(users)]
    items = list(shown_pairs["item"].value_counts(sort=True).sort_index(kind="stable").sort_values(
        ascending=False, kind="stable").index)
    observed, matched, kept = (np.full((len(users), len(items)), np.nan) for _ in range(3))
    for pair in shown_pairs.itertuples():
        place = users.index(pair.user), items.index(pair.item)
        observed[place] = 1.0
        (matched if pair.noise else kept)[place] = np.log10(max(pair.rho, 1e-300))
    panels, axes = pyplot.subplots(3, 1, figsize=(11, 6.0), layout="constrained", height_ratios=[1, 1, 0.5])
    names = [f"user {user}" for user in users]
    axes[0].imshow(observed, aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    axes[0].set(title="observed pairs", yticks=range(len(users)), yticklabels=names, xticks=[])
    image = axes[1].imshow(matched, aspect="auto", cmap="viridis", interpolation="nearest")
    rows, columns = np.nonzero(~np.isnan(kept))
    axes[1].plot(columns, rows, "o", color="C3", markersize=3, linestyle="", label="kept")
    axes[1].set(title="taken for noise (colour: log10 of the matching) and kept (dots)", yticks=range(len(users)),
                yticklabels=names, xticks=[], xlabel=f"{len(items)} items, those of more of these users first")
    panels.colorbar(image, ax=axes[1], pad=0.01)
    rows = lists[lists["user"] == most]
    mine = shown_pairs[shown_pairs["user"] == most].sort_values("rho", ascending=False, kind="stable")
    text = [f"user {most}, whose list changes most: {len(mine)} items, {int((~mine['noise']).sum())} kept",
            f"  best matched: {', '.join(map(str, mine['item'][:8]))}",
            f"  worst matched: {', '.join(map(str, mine['item'][-8:]))}",
            f"  shown before: {', '.join(map(str, rows['before']))}",
            f"  shown after:  {', '.join(map(str, rows['after']))}",
            f"lists of {sum(map(bool, changed.values()))} of {len(changed)} users differ"]
    axes[2].axis("off")
    axes[2].text(0.0, 0.95, "\n".join(text), va="top", family="monospace")
    save(panels, artifact, folder)


def style(artifact: Artifact) -> None:
    """Settings of all pictures."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": artifact.label, "font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False}


def colour(artifact: Artifact, row: Row) -> str:
    """The same for a method in every panel and every figure of a paper, whichever rows they have."""
    return f"C{(artifact.colours or tuple(row.id for row in artifact.rows)).index(row.id)}"


def draw_lines(panel: Any, artifact: Artifact, columns: Sequence[Column], lines: Lines, metric: str) -> None:
    """One metric of one data set along the axis: a line for every row, crosses where the paper prints a number."""
    for row in artifact.rows:
        along = [(place if column.group else column.value, lines[row.id, column.id, metric])
                 for place, column in enumerate(columns)]
        ours = [(value, line.mean, line.std or 0.0) for value, line in along if line.mean is not None]
        if ours:
            values, means, errors = zip(*ours, strict=True)
            panel.errorbar(values, means, errors if any(errors) else None, color=colour(artifact, row), marker="o",
                           markersize=4, label=row.name)
        printed = [(value, line.paper) for value, line in along if line.paper is not None]
        if printed:
            panel.plot(*zip(*printed, strict=True), color=colour(artifact, row), marker="x", linestyle="")
    ticks = [column.value or 0.0 for column in columns]
    if multiply(ticks):
        panel.set_xscale("log")
        panel.minorticks_off()
    panel.set(ylabel=metric, xticks=ticks, xticklabels=[column.label for column in columns])


def multiply(values: Sequence[float]) -> bool:
    """Whether each of at least three values is the one before it times the same factor, as 16, 32, 64 are."""
    return len(values) > 2 and values[0] > 0 and bool(np.allclose(np.diff(np.log(values), 2), 0.0))


def draw_sizes(panel: Any, artifact: Artifact, columns: Sequence[Column], lines: Lines) -> None:
    """Behind the lines of :func:`draw_lines`: how many questions each group has, and what it is called."""
    sizes = {place: size for place, column in enumerate(columns) for row in artifact.rows
             if (size := lines[row.id, column.id, "questions"].mean) is not None}
    behind = panel.twinx()
    behind.bar(list(sizes), list(sizes.values()), 0.6, color="0.9")
    behind.set(ylabel="test questions (bars)")
    behind.spines["right"].set_visible(True)
    panel.set_zorder(behind.get_zorder() + 1)
    panel.patch.set_visible(False)
    panel.set(xticks=range(len(columns)), xticklabels=[column.label for column in columns],
              xlim=(-0.5, len(columns) - 0.5), ylim=(0, 1.04 * panel.get_ylim()[1]))


def draw(above: Any, below: Any, artifact: Artifact, rows: Sequence[Row], columns: Sequence[Column],
         lines: Lines) -> None:
    """One data set: bars for each of the rows at every value of the axis, and the change against the first value."""
    metric, width = artifact.metrics[0], 0.8 / len(rows)
    for number, row in enumerate(rows):
        places, values, errors = [], [], []
        for place, column in enumerate(columns):
            line = lines[row.id, column.id, metric]
            if line.mean is not None:
                places.append(place)
                values.append(line.mean)
                errors.append(line.std or 0.0)
        if not places:
            continue
        above.bar([place + (number - (len(rows) - 1) / 2) * width for place in places], values, width,
                  color=colour(artifact, row), label=row.name, yerr=errors if any(errors) else None)
        if places[0] == 0 and values[0]:
            changes = [100 * (value / values[0] - 1) for value in values]
            below.plot(places, changes, color=colour(artifact, row), marker="o", markersize=4)
    above.set(title=columns[0].name, ylabel=metric, xlim=(-0.6, len(columns) - 0.4))
    below.set(xticks=range(len(columns)), xticklabels=[f"{column.value:.0%}" for column in columns],
              xlabel=artifact.axis[1] if artifact.axis else "", ylabel="change in %")
    below.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
