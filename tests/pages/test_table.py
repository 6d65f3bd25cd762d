"""From csv to pages, LaTeX and pictures: hand-made csv rows, and what is read off them."""

import re
from dataclasses import replace

import pytest
from lines import FIGURE, NOISE, ROWS, csv_rows, mean

from recot.artifacts.collect import NO_DATA, NOT_RUN
from recot.artifacts.spec import Artifact, Column, Row
from recot.pages import table
from recot.pages.latex import latex, tex_escape
from recot.pages.markdown import markdown
from recot.pages.pipes import escape
from recot.pages.table import percent, shown
from recot.record.lines import PairedLine, RunLine

COLUMNS = (Column("gowalla", "gowalla", "Gowalla", ()), Column("ml1m", "ml1m", "ML-1M", (), stands_in="ml10m"))
TABLE = Artifact("toy", "table2", "results", "Methods & more", "A <note>.", ROWS, COLUMNS, ("recall@20", "ndcg@20"),
                 (0,), "model", tests=True)
FOUND = csv_rows(TABLE, {
    ("bprmf", "gowalla"): mean(0.1),
    ("full", "gowalla", "recall@20"): mean(0.21, std=0.0125, seeds=(0, 1), keys=("k1", "k2"), paper=0.2, delta=0.05,
                                           verdict="close"),
    ("full", "gowalla", "ndcg@20"): mean(0.05),
    ("knn", "gowalla"): mean(0.9),
    ("bprmf", "ml1m"): {"verdict": "failed: ValueError: a | b_c"},
})
TESTS = [PairedLine("table2", "gowalla", "recall@20", "full", "bprmf", 0.1, 40, 0.001, 0.001, ("k1", "k0")),
         PairedLine("table2", "gowalla", "ndcg@20", "bprmf", "full", 0.05, 40, 0.06, 0.06, ("k0", "k1"))]


def page(artifact=TABLE, found=FOUND, tests=TESTS, runs=None, today=None, notes=("Command: `make`.",)):
    return markdown(artifact, found, tests, runs or {}, today or {}, notes)


def tables_of(text):
    """The tables of a page: lists of rows of cells, the line below the header left out."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()
             if not line.startswith("| ---")] for block in blocks]


def row_of(table, name, what="ours"):
    """Cells of the row of a method that is labelled ``what``."""
    start = next(i for i, cells in enumerate(table) if cells[0] == name)
    following = [table[start], *[cells for cells in table[start + 1:]]]
    until = next((i for i, cells in enumerate(following[1:], 1) if cells[0]), len(following))
    return next(cells[2:] for cells in following[:until] if cells[1] == what)


def test_ours_the_papers_and_the_difference_stand_below_each_other():
    gowalla, _ = tables_of(page())
    name = escape(ROWS[1].name)
    assert gowalla[0] == ["", "", "recall@20", "ndcg@20"]
    assert row_of(gowalla, name) == ["**0.2100 ± 0.0125**\\*", "0.0500"]
    assert row_of(gowalla, name, "paper") == ["0.2000", ""]
    assert row_of(gowalla, name, "difference") == ["+5.0 %, close", ""]


def test_the_best_of_the_papers_own_rows_is_bold_and_one_beyond_it_never():
    gowalla, _ = tables_of(page())
    assert row_of(gowalla, "BPRMF") == ["0.1000", "**0.1000**"]   # its p value is above 0.05: no star
    assert row_of(gowalla, "ItemKNN") == ["0.9000", "0.9000"]
    assert [cells[0] for cells in gowalla].index("*beyond the paper*") == len(gowalla) - 2


def test_a_best_row_that_is_alone_is_not_bold():
    assert "**" not in page(found=csv_rows(TABLE, {("bprmf", "gowalla"): mean(0.1)}), tests=[])


@pytest.mark.parametrize(("p", "difference", "star"), [(0.049, 0.1, True), (0.05, 0.1, False),
                                                       (0.001, -0.1, False), (0.001, 0, False)])
def test_a_star_means_significantly_better(p, difference, star):
    tests = [replace(TESTS[0], p_holm=p, difference=difference)]
    assert ("**\\*" in page(tests=tests)) == star
    assert ("$^*$" in latex(TABLE, FOUND, tests, {}, {})) == star


def test_an_empty_cell_says_why_and_a_method_beyond_the_paper_without_data_is_left_out():
    _, ml1m = tables_of(page())
    assert row_of(ml1m, "BPRMF") == [r"failed: ValueError: a \| b\_c", ""]
    assert row_of(ml1m, "ItemKNN") == [NOT_RUN, ""]
    gone = csv_rows(TABLE, {("knn", "ml1m"): {"verdict": NO_DATA}, ("bprmf", "ml1m"): {"verdict": NO_DATA}})
    _, ml1m = tables_of(page(found=gone))
    assert row_of(ml1m, "BPRMF") == [NO_DATA, ""] and "ItemKNN" not in [cells[0] for cells in ml1m]


def test_a_table_where_only_some_metrics_are_there_says_of_each_of_the_others_why():
    found = csv_rows(TABLE, {("bprmf", "gowalla", "recall@20"): mean(0.1),
                             ("bprmf", "gowalla", "ndcg@20"): {"verdict": "its record has no ndcg@20"}})
    assert row_of(tables_of(page(found=found))[0], "BPRMF") == ["0.1000", "its record has no ndcg@20"]


def test_a_stand_in_says_what_it_stands_in_for():
    assert page().count("In place of `ml10m`, which is not at hand") == 1
    assert "## ML-1M (`ml1m`)" in page()


def test_every_row_of_a_page_has_as_many_cells_as_its_header_whatever_names_and_reasons_hold():
    nasty = "failed: a | b `c` *d* <e> [f] {g} \\ | h"
    for rows in tables_of(page(found=csv_rows(TABLE, {}, verdict=nasty))):
        assert {len(cells) for cells in rows} == {4}
    assert "| failed: a \\| b \\`c\\` \\*d\\* \\<e\\> \\[f\\] \\{g\\} \\\\ \\| h |" in page(
        found=csv_rows(TABLE, {}, verdict=nasty))


def test_special_characters_are_escaped_in_markdown_and_in_latex():
    assert escape(r"a_b|c*d`<e>[f]{g}\h") == r"a\_b\|c\*d\`\<e\>\[f\]\{g\}\\h"
    assert tex_escape("a&b%c$d#e_f{g}~^\\<>|±†") == (
        r"a\&b\%c\$d\#e\_f\{g\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
        r"\textless{}\textgreater{}\textbar{}$\pm$$^\dagger$")
    assert r"R&D\_1 \| 50% \{x\}" in page() and r"A \<note\>." in page()
    assert r"R\&D\_1 \textbar{} 50\% \{x\} & " in latex(TABLE, FOUND, TESTS, {}, {})


def test_a_latex_table_has_ours_and_the_papers_in_parentheses_and_balanced_columns():
    text = latex(TABLE, FOUND, TESTS, {}, {})
    first, second = text.split("\n\n")
    assert r"\caption{Methods \& more, Gowalla: ours (the paper's).}" in first
    assert r"\textbf{0.2100 $\pm$ 0.0125}$^*$ (0.2000) & 0.0500 \\" in first
    assert r"BPRMF & 0.1000 & \textbf{0.1000} \\" in first
    assert r"failed: ValueError: a \textbar{} b\_c" in second
    for part in (first, second):
        body = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2} and r"\begin{tabular}{lrr}" in part
        assert part.count(r"\midrule") == 2  # below the header, and above what the paper does not have
        unescaped = re.sub(r"\\[{}]", "", part)
        assert unescaped.count("{") == unescaped.count("}")


@pytest.mark.parametrize(("made", "repeated", "today", "marked"), [
    ("old", "", "new", True), ("new", "", "new", False), ("old", "new", "new", False), ("old", "older", "new", True)])
def test_a_cell_made_by_code_that_has_changed_since_is_marked_with_a_dagger(made, repeated, today, marked):
    runs = {key: RunLine(key, sources="new") for key in ("k0", "k1")} | {
        "k2": RunLine("k2", sources=made, repeated=repeated)}
    code = dict.fromkeys(runs, today)
    gowalla, _ = tables_of(page(runs=runs, today=code))
    assert row_of(gowalla, escape(ROWS[1].name)) == [f"**0.2100 ± 0.0125{'†' * marked}**\\*", "0.0500"]
    assert row_of(gowalla, "BPRMF") == ["0.1000", "**0.1000**"]
    assert (r"0.0125$^\dagger$" in latex(TABLE, FOUND, TESTS, runs, code)) == marked


def test_a_run_nobody_knows_the_code_of_is_not_marked():
    assert "†" not in page(runs={"k0": RunLine("k0", sources="old")}) + page(today={"k0": "new"})


def test_rows_are_compared_with_the_reference_row_in_ours_and_in_the_papers_numbers():
    found = csv_rows(TABLE, {("full", "gowalla"): mean(0.4, paper=0.5, delta=-0.2, verdict="differs"),
                             ("bprmf", "gowalla"): mean(0.3, paper=0.45, delta=-0.333333, verdict="differs")})
    table = tables_of(page(replace(TABLE, relative_to="full"), found, []))[0]
    assert row_of(table, "BPRMF", "against full") == ["-25.0 %"] * 2
    assert row_of(table, "BPRMF", "paper against full") == ["-10.0 %"] * 2
    assert row_of(table, "BPRMF", "difference") == ["-33.3 %, differs"] * 2
    assert sum(cells[1] == "against full" for cells in table) == 1  # not the reference itself


@pytest.mark.parametrize(("share", "text"), [(0.05, "+5.0 %"), (-0.1234, "-12.3 %"), (0.0, "0.0 %"), (-0.0001, "0.0 %"),
                                             (2.0, "+200.0 %")])
def test_a_relative_difference_has_a_sign_unless_it_is_nothing(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(("value", "metric", "text"), [
    (0.12345, "recall@20", "0.1235"), (9998900, "interactions", "9,998,900"), (29858, "users", "29,858"),
    (34.4085, "avg_interactions_per_user", "34.4"), (0.0839622, "density", "0.084"), (1.42, "density", "1.42"),
    (12.34, "fit_seconds", "12.3"), (None, "recall@20", "")])
def test_counts_are_shown_in_full_and_measures_with_four_digits(value, metric, text):
    assert shown(value, metric) == text


STATISTICS = Artifact("toy", "table1", "statistics", "Counts", "", (Row("statistics", "statistics", (), False),),
                      COLUMNS, ("users", "density"), (0,))


def test_a_table_about_data_has_ours_the_papers_and_the_difference_or_why_there_is_nothing():
    found = csv_rows(STATISTICS, {
        ("statistics", "gowalla", "users"): mean(29858, paper=29900, delta=-0.00140468, verdict="match"),
        ("statistics", "gowalla", "density"): mean(0.084)}, verdict=NO_DATA)
    [table] = tables_of(page(STATISTICS, found, []))
    assert table == [["", "", "users", "density"], ["Gowalla", "ours", "29,858", "0.084"], ["", "paper", "29,900", ""],
                     ["", "difference", "-0.1 %, match", ""], ["ML-1M", "ours", NO_DATA, ""]]


# Along an axis.

def test_values_of_an_axis_stand_in_rising_order_whatever_the_order_of_the_runs():
    gowalla, ml1m = tables_of(page(FIGURE, NOISE, []))
    assert gowalla == [["recall@20, noise", "0", "0.1", "0.2"], ["BPRMF", "0.2000", "0.1900", "0.1700"],
                       [escape(ROWS[1].name), "0.2500", NOT_RUN, NOT_RUN]]
    assert ml1m[2][1:] == ["0.3000", NOT_RUN, "0.2700"]
    assert "![Added noise](fig2.png)" in page(FIGURE, NOISE, [])
    assert r" & recall@20, 0 & recall@20, 0.1 & recall@20, 0.2 \\" in latex(FIGURE, NOISE, [], {}, {})


def test_a_page_of_planted_data_says_so_everywhere():
    planted = replace(FIGURE, planted=True)
    assert "**Planted data" in page(planted, NOISE, []) and "Planted data" not in page(FIGURE, NOISE, [])
    assert "Planted data, tiny settings." in latex(planted, NOISE, [], {}, {})
    assert "Planted" not in latex(FIGURE, NOISE, [], {}, {})


def test_the_same_csv_is_the_same_page():
    assert page() == page(found=list(reversed(FOUND))) and latex(TABLE, FOUND, TESTS, {}, {}) == latex(
        TABLE, list(reversed(FOUND)), TESTS, {}, {})
    assert page().endswith("* Command: `make`.\n") and table.STAR == 0.05


def test_the_improvement_is_that_of_the_best_reading_over_the_best_other_row_of_the_paper():
    table = replace(TABLE, improvement=(ROWS[1].id,))
    own = [row.id for row in ROWS if not row.beyond]
    values = {(id_, column.id): {"mean": mean, "paper": paper} for column in COLUMNS for id_, (mean, paper) in zip(
        own, ((0.2, 0.4), (0.3, 0.5)), strict=True)}
    first, *_ = tables_of(page(table, csv_rows(table, values), []))
    place = next(place for place, row in enumerate(first) if row[0].startswith("best of"))
    assert first[place][1:3] == ["ours", "+50.0 %"]
    assert first[place + 1][1:3] == ["paper", "+25.0 %"]
    missing = {cell: value | {"mean": None} if cell[0] == own[0] else value for cell, value in values.items()}
    labelled = [row for row in tables_of(page(table, csv_rows(table, missing), []))[0] if row[0].startswith("best of")]
    assert [row[1:3] for row in labelled] == [["paper", "+25.0 %"]]
