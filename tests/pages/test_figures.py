"""Pictures: what is drawn of hand-made csv rows, read off matplotlib and off the files."""

import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from lines import FIGURE, NOISE, csv_rows, mean
from matplotlib.colors import to_rgba

from recot.artifacts.spec import Column, Group
from recot.pages import figures
from recot.pages.figures import figure


def test_a_picture_of_planted_data_says_so(tmp_path):
    assert "planted data, tiny settings" in drawn(replace(FIGURE, planted=True), NOISE, tmp_path)


def drawn(artifact, found, folder):
    """Text of the svg without ids and paths: matplotlib leaves every text in a comment."""
    figure(artifact, found, folder)
    return "\n".join(re.findall(r"<!-- (.*?) -->", (folder / f"{artifact.name}.svg").read_text()))


def test_a_figure_drawn_twice_is_the_same_bytes_and_leaves_nothing_else(tmp_path):
    figure(FIGURE, NOISE, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    figure(FIGURE, NOISE, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert set(first) == {"fig2.png", "fig2.svg"}
    pixels = matplotlib.image.imread(tmp_path / "fig2.png")[..., :3]
    assert pixels.min() < 0.2 and pixels.std() > 0.05


def test_a_figure_names_its_methods_data_metric_and_axis(tmp_path):
    text = drawn(FIGURE, NOISE, tmp_path)
    for word in ("BPRMF", "R&amp;D_1 | 50% {x}", "GOWALLA", "ML1M", "recall@20", "share of added interactions", "20%"):
        assert word in text or word.replace("&amp;", "&") in text


def test_a_figure_without_any_value_says_so(tmp_path):
    assert "not run yet" in drawn(FIGURE, csv_rows(FIGURE, {}), tmp_path)


@pytest.fixture
def panels(tmp_path, monkeypatch):
    """Draws a figure and returns its matplotlib figure instead of closing it."""
    from matplotlib import pyplot

    def draw(artifact, found):
        kept = []
        with monkeypatch.context() as patch:
            patch.setattr(pyplot, "close", kept.append)
            figure(artifact, found, tmp_path)
        return kept[0]

    yield draw
    pyplot.close("all")


def test_a_method_has_one_colour_in_all_panels_and_the_legend_even_where_it_is_not_in_the_first(panels):
    found = csv_rows(FIGURE, {("bprmf", "gowalla noise=0"): mean(0.2), ("full", "ml1m noise=0"): mean(0.3),
                              ("full", "ml1m noise=0.2"): mean(0.24)})
    drawn = panels(FIGURE, found)
    gowalla, ml1m, below, loss = drawn.axes
    [legend] = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == [row.name for row in FIGURE.rows]
    colours = [handle.get_facecolor() for handle in legend.get_patches()]
    assert [gowalla.patches[0].get_facecolor(), ml1m.patches[0].get_facecolor()] == colours and len(set(colours)) == 2
    assert [bar.get_height() for bar in ml1m.patches] == [0.3, 0.24]
    assert [bar.get_width() for bar in (*gowalla.patches, *ml1m.patches)] == pytest.approx([0.4] * 3)
    assert loss.lines[0].get_xdata().tolist() == [0, 2]  # 0.1 was not run
    assert loss.lines[0].get_ydata().tolist() == pytest.approx([0, -20])
    assert [label.get_text() for label in loss.get_xticklabels()] == ["0%", "10%", "20%"]


@pytest.mark.parametrize(("first", "second"), [("bprmf", "full"), ("full", "bprmf")])
def test_the_legend_has_the_colours_of_methods_that_are_in_one_panel_only(panels, first, second):
    found = {(first, "gowalla noise=0"): mean(0.2), (second, "ml1m noise=0"): mean(0.3)}
    drawn = panels(FIGURE, csv_rows(FIGURE, found))
    [legend] = drawn.legends
    assert [handle.get_facecolor() for handle in legend.get_patches()] == [to_rgba("C0"), to_rgba("C1")]
    assert [panel.get_xlim() for panel in drawn.axes[:2]] == [(-0.6, 2.6)] * 2


def test_without_its_first_value_a_method_has_bars_and_no_line_of_losses(panels):
    drawn = panels(FIGURE, csv_rows(FIGURE, {("full", "gowalla noise=0.1"): mean(0.25, std=0.01)}))
    above, below = drawn.axes
    assert len(above.patches) == 1 and above.collections  # the deviation over seeds
    assert [line for line in below.lines if line.get_marker() == "o"] == []


LINES = replace(FIGURE, plot="lines", metrics=("recall@20", "ndcg@20"))


def test_lines_have_a_panel_for_each_metric_and_a_line_for_each_method_along_the_axis(panels):
    found = csv_rows(LINES, {("bprmf", "gowalla noise=0"): mean(0.2), ("bprmf", "gowalla noise=0.2"): mean(0.1),
                             ("full", "gowalla noise=0.1"): mean(0.3)})
    above, below = panels(LINES, found).axes
    assert above.get_ylabel() == "recall@20" and below.get_ylabel() == "ndcg@20"
    lines = {line.get_label(): line for line in above.lines} | {
        container.get_label(): container.lines[0] for container in above.containers}
    assert lines["BPRMF"].get_xdata().tolist() == [0.0, 0.2] and lines["BPRMF"].get_ydata().tolist() == [0.2, 0.1]
    assert len(above.containers) == 2


@pytest.mark.parametrize(("values", "scale"), [((16, 64, 256), "log"), ((0.25, 0.5, 0.75), "linear"),
                                               ((0, 1, 2), "linear"), ((1, 10), "linear")])
def test_values_that_multiply_stand_at_equal_distances_under_their_own_names(panels, values, scale):
    columns = tuple(Column(f"gowalla size={value:g}", "gowalla", "Gowalla", (), value) for value in values)
    artifact = replace(LINES, columns=columns)
    above, below = panels(artifact, csv_rows(artifact, {("bprmf", columns[-1].id): mean(0.2)})).axes
    for panel in (above, below):
        assert panel.get_xscale() == scale and not list(panel.xaxis.get_minorticklocs())
        assert panel.get_xticks().tolist() == list(values)
    assert [label.get_text() for label in below.get_xticklabels()] == [f"{value:g}" for value in values]


def test_crosses_stand_where_the_paper_prints_a_number(panels):
    found = csv_rows(LINES, {("bprmf", "gowalla noise=0"): mean(0.2),
                             ("bprmf", "gowalla noise=0.2", "recall@20"): {"paper": 0.25}})
    crosses = [line for line in panels(LINES, found).axes[0].lines if line.get_marker() == "x"]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in crosses] == [([0.2], [0.25])]


@pytest.mark.parametrize("artifact", [FIGURE, LINES])
def test_a_method_has_the_colour_of_its_place_among_all_figures_of_the_paper(panels, artifact):
    values = {(row.id, "gowalla noise=0"): mean(0.2) for row in artifact.rows}
    drawn = panels(replace(artifact, colours=("other", "full", "another", "bprmf")), csv_rows(artifact, values))
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    colours = {label: to_rgba(handle.patches[0].get_facecolor() if artifact is FIGURE else handle.lines[0].get_color())
               for handle, label in zip(handles, labels, strict=True)}
    assert [colours[row.name] for row in artifact.rows] == [
        to_rgba({"bprmf": "C3", "full": "C1"}[row.id]) for row in artifact.rows]


PAIRS = pd.DataFrame({"user": np.repeat(np.arange(20), 3), "item": [*range(3)] * 20, "weight": 0.7,
                      "rho": np.linspace(0.001, 0.5, 60), "noise": [True, True, False] * 20})
LISTS = pd.DataFrame({"user": np.repeat(np.arange(20), 2), "place": [1, 2] * 20, "before": [7, 8] * 20,
                      "after": [7, 8] * 13 + [7, 9] + [7, 8] * 6})


def test_a_case_shows_the_first_users_and_the_one_whose_list_changes_most(panels, tmp_path, monkeypatch):
    from matplotlib import pyplot

    kept = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    figures.case(FIGURE, PAIRS, LISTS, tmp_path)
    observed, matched, words, *_ = kept[0].axes
    names = [label.get_text() for label in observed.get_yticklabels()]
    assert names == [*(f"user {user}" for user in range(7)), "user 13"]
    assert np.nansum(observed.images[0].get_array().filled(np.nan)) == 24
    assert matched.images[0].get_array().count() == 16 and len(matched.lines[0].get_xdata()) == 8
    text = words.texts[0].get_text()
    assert "user 13, whose list changes most: 3 items, 1 kept" in text and "shown after:  7, 9" in text
    assert "lists of 1 of 20 users differ" in text


def test_groups_are_lines_over_bars_of_their_sizes(panels):
    columns = tuple(Column(f"gowalla length={low}", "gowalla", "GOWALLA", (), low, group=Group("activity", low, high))
                    for low, high in ((0, 3), (4, 7), (8, None)))
    artifact = replace(FIGURE, plot="groups", columns=columns, metrics=("recall@20", "questions"))
    found = csv_rows(artifact, {("full", column.id, metric): mean(value) for column, values in zip(
        columns, ((0.3, 50), (0.2, 70), (0.1, 20)), strict=True) for metric, value in zip(
        artifact.metrics, values, strict=True)})
    above, sizes = panels(artifact, found).axes
    assert above.lines[0].get_xdata().tolist() == [0, 1, 2] and above.lines[0].get_ydata().tolist() == [0.3, 0.2, 0.1]
    assert [bar.get_height() for bar in sizes.patches] == [50, 70, 20]
    assert [label.get_text() for label in above.get_xticklabels()] == ["up to 3", "4 to 7", "8 or more"]
    assert above.get_xlim() == (-0.5, 2.5) and above.get_ylim()[0] == 0  # a group without a value keeps its place
