"""The tables of the results page: which cells they have, and what stands in them."""

import re
from dataclasses import replace

from lines import FIGURE, ROWS, csv_rows, mean

from recot.artifacts.report import Report
from recot.artifacts.spec import Column
from recot.pages.grid import Maker, anchor, slug, told
from recot.record.lines import RunLine

COLUMNS = Column("far", "far", "Far", ()), Column("near", "near", "Near", (), stands_in="far")
TABLE = replace(FIGURE, kind="results", name="table1", axis=None, plot=None, rows=ROWS, columns=COLUMNS,
                metrics=("recall@20", "ndcg@20"), relative_to="bprmf")


def sections(artifact, values, today=(), **others):
    return Maker(Report(artifact, csv_rows(artifact, values), **others), dict(today)).sections


def test_data_with_numbers_come_first_and_rows_beyond_the_paper_without_data_are_left_out():
    cells = {(row.id, "far"): {"verdict": "data not available", "paper": 0.1} for row in ROWS}
    cells[("knn", "far")] = {"verdict": "data not available"}
    near, far = sections(TABLE, {("bprmf", "near"): mean(0.2)} | cells)
    assert (near.name, near.empty, near.stands_in) == ("Near", False, "far") and (far.name, far.empty) == ("Far", True)
    assert [band.id for band in far.grids[0].bands] == ["bprmf", "full"]
    assert [band.id for band in near.grids[0].bands] == ["bprmf", "full", "knn"]
    box = far.grids[0].bands[0].boxes[0]
    assert (box.ours, box.paper, box.measured, box.order) == ("data not available", "0.1000", False, None)


def test_a_cell_has_its_change_against_the_reference_and_the_best_of_the_papers_own_is_marked():
    values = {"bprmf": 0.2, "full": 0.25, "knn": 0.3}
    [near, _] = sections(TABLE, {(row, "near"): mean(value) for row, value in values.items()})
    first, second, third = (band.boxes[0] for band in near.grids[0].bands)
    assert [box.change for box in (first, second, third)] == ["", "+25.0 %", "+50.0 %"]
    assert [box.best for box in (first, second, third)] == [False, True, False]
    assert second.title == "R&D_1 | 50% {x}, recall@20, Near"


def test_along_an_axis_there_is_a_table_for_each_metric_in_the_order_of_its_values():
    artifact = replace(TABLE, axis=("noise", "noise added"), relative_to=None, columns=FIGURE.columns[:3])
    [section] = sections(artifact, {("bprmf", "gowalla noise=0.2"): mean(0.2)})
    assert [grid.caption for grid in section.grids] == [f"{metric} by noise added, GOWALLA" for metric in TABLE.metrics]
    assert section.grids[0].heads == ("0", "0.1", "0.2")
    assert [box.ours for box in section.grids[0].bands[0].boxes] == ["not run yet", "not run yet", "0.2000"]


def test_data_that_are_counted_are_rows():
    artifact = replace(TABLE, kind="statistics", relative_to=None, metrics=("users",),
                       rows=(replace(ROWS[0], id="statistics"),))
    [section] = sections(artifact, {("statistics", "near"): mean(1994)})
    assert [(band.name, band.boxes[0].ours) for band in section.grids[0].bands] == [
        ("Near", "1,994"), ("Far", "not run yet")]


def test_a_run_by_other_code_gives_a_dagger_until_todays_repeats_it():
    run = RunLine("k0", sources="old", repeated="seen", command="c", device="x86_64", threads=1)
    for today, dagger, words in (("old", False, None), ("seen", False, "today's code repeats it"),
                                 ("new", True, "code has changed since")):
        [near, _] = sections(TABLE, {("bprmf", "near"): mean(0.2)}, {"k0": today}, runs={"k0": run})
        assert near.grids[0].bands[0].boxes[0].dagger is dagger
        assert told(run, {"k0": today}).get("code") == words


def test_anchors_are_plain_and_tell_apart_what_a_slug_does_not():
    assert slug("ndcg@20, R&D") == "ndcg-20-r-d"
    assert anchor("a+b", "c") != anchor("a-b", "c") and re.fullmatch(r"[a-z0-9-]+", anchor("ä <x>", "\n"))
    assert anchor("a", "b") == anchor("a", "b")
