"""The figures of the results page: what their points and words say, and that nothing in them is not of the page."""

import re
from dataclasses import replace

import pytest
from lines import FIGURE, NOISE, csv_rows, mean

from recot.artifacts.report import Report
from recot.artifacts.spec import Column, Group
from recot.pages.charts import SERIES, THEME, chart

LINES = replace(FIGURE, plot="lines")
GROUPS = replace(FIGURE, plot="groups", metrics=("recall@20", "questions"), columns=tuple(
    Column(f"gowalla length={low}", "gowalla", "GOWALLA", (), low, group=Group("activity", low, high))
    for low, high in ((0, 3), (4, 7))))


def titles(svg):
    return re.findall(r"<title>(.*?)</title>", svg)


def test_every_value_is_a_point_that_says_it():
    drawn = chart(Report(LINES, NOISE))
    known = sorted((line.column, line.row) for line in NOISE if line.mean is not None)
    assert sum(len(titles(panel.svg)) for panel in drawn.panels) == len(known) == 6
    assert titles(drawn.panels[0].svg) == [
        "BPRMF, noise 0: 0.2000", "BPRMF, noise 0.1: 0.1900", "BPRMF, noise 0.2: 0.1700",
        "R&amp;D_1 | 50% {x}, noise 0: 0.2500"]


def test_degradation_has_a_panel_of_changes_against_the_first_value():
    values, changes, *_ = chart(Report(FIGURE, NOISE)).panels
    assert values.title == "GOWALLA: recall@20" and changes.title == "GOWALLA: recall@20, change in %"
    assert titles(changes.svg)[:3] == ["BPRMF, noise 0: 0.0 %", "BPRMF, noise 0.1: -5.0 %", "BPRMF, noise 0.2: -15.0 %"]


def test_deviations_and_printed_numbers_are_said_as_well():
    found = csv_rows(LINES, {("bprmf", "gowalla noise=0"): mean(0.2, std=0.01, paper=0.25)})
    [panel] = chart(Report(LINES, found)).panels
    assert titles(panel.svg) == ["BPRMF, noise 0: 0.2000 ± 0.0100", "BPRMF, the paper: 0.2500"]


def test_groups_stand_over_bars_and_are_called_by_their_bounds():
    found = csv_rows(GROUPS, {("bprmf", column.id, metric): mean(value) for column in GROUPS.columns
                              for metric, value in (("recall@20", 0.2), ("questions", 70))})
    [panel] = chart(Report(GROUPS, found)).panels
    assert titles(panel.svg) == ["BPRMF, noise up to 3: 0.2000", "BPRMF, noise 4 to 7: 0.2000"]
    assert "questions (bars)" in panel.svg and "var(--bar)" in panel.svg


def test_a_picture_takes_every_colour_from_the_page_and_has_no_id_that_another_has():
    panels = chart(Report(LINES, NOISE)).panels
    for panel in panels:
        assert not re.search(r"#[0-9a-f]{6}\b(?!\")", re.sub(r"url\(#\w+\)|href=\"#\w+", "", panel.svg))
        assert "DejaVu" not in panel.svg and "<style" not in panel.svg and "<metadata" not in panel.svg
    ids = [id_ for panel in panels for id_ in re.findall(r'id="([^"]+)"', panel.svg)]
    assert len(set(ids)) == len(ids)
    assert set(SERIES) < set(THEME)


def test_the_legend_names_those_with_a_number_by_colour_and_mark():
    found = csv_rows(LINES, {("full", "gowalla noise=0"): mean(0.2)})
    assert chart(Report(replace(LINES, colours=("x", "full", "bprmf")), found)).legend == (
        ("R&D_1 | 50% {x}", 1, "■"),)


def test_the_words_of_a_picture_have_first_and_last_values():
    assert chart(Report(LINES, NOISE)).panels[0].alt == (
        "GOWALLA: recall@20 by share of added interactions. BPRMF from 0.2000 at 0 to 0.1700 at 0.2; R&D_1 | 50% {x} "
        "from 0.2500 at 0 to 0.2500 at 0. The table below has all values.")


@pytest.mark.parametrize("artifact", [replace(FIGURE, kind="results"), replace(FIGURE, axis=None, plot="case"), FIGURE])
def test_there_is_no_picture_without_numbers_or_an_axis(artifact):
    assert chart(Report(artifact)) is None
