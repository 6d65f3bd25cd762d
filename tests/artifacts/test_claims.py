"""Claims and their verdicts: hand-made csv files, and what each rule makes of them."""

import textwrap

import pytest
from scipy import stats

from recot.artifacts import load
from recot.artifacts.claims import HELD, NOT_HELD, UNTESTABLE, claims, judge
from recot.artifacts.rules import RULES, SETTINGS, Reports
from recot.artifacts.spec import Artifact, Column, Row
from recot.record.ledger import write
from recot.record.lines import CellLine, PairedLine
from recot.request.errors import RequestError

ROWS = tuple(Row(id_, id_.upper(), (), False) for id_ in ("a", "b", "c"))
TABLE = Artifact("toy", "table1", "results", "One", "", ROWS, (
    Column("near", "near", "Near", ()), Column("far", "far", "Far", ())), ("ndcg@10",), (0,))
FIGURE = Artifact("toy", "fig1", "figure", "Noise", "", ROWS, tuple(
    Column(f"near noise={value:g}", "near", "Near", (), value) for value in (0.0, 0.1, 0.2)), ("ndcg@10", "auc"), (0,),
    axis=("noise", "noise"))
ARTIFACTS = {"table1": TABLE, "fig1": FIGURE}


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Judges one claim of the toy paper by the numbers of its cells."""
    monkeypatch.setattr(load, "EXPERIMENTS", tmp_path)
    monkeypatch.setattr(load, "papers", lambda: ("toy",))

    def judge_one(text, cells, tests=()):
        words = textwrap.indent(textwrap.dedent(text), "    ")
        (tmp_path / "claims.yaml").write_text(f"toy:\n  one:\n{words}")
        for name, artifact in ARTIFACTS.items():
            lines = [CellLine(name, *place, **fields) for place, fields in cells.items()
                     if place[1] in {column.id for column in artifact.columns}]
            write(tmp_path / "toy" / f"{name}.csv", CellLine, lines)
        write(tmp_path / "toy" / "table1_tests.csv", PairedLine, tests)
        [claim] = claims("toy", ARTIFACTS)
        return judge(claim, Reports(ARTIFACTS, tmp_path))

    return judge_one


def one(value, **others):
    return {"mean": value, "seeds": (0,), "keys": ("0" * 16,)} | others


def several(value, deviation):
    return one(value, std=deviation, seeds=(0, 1, 2), keys=("0" * 16, "1" * 16, "2" * 16))


def near(**values):
    return {(row, "near", "ndcg@10"): one(value) if isinstance(value, float) else value
            for row, value in values.items()}


BEATS = "claim: A beats B\ntable: table1\ngreater: {rows: [a], than: [b]}\n"


@pytest.mark.parametrize(("cells", "verdict"), [
    (near(a=0.3, b=0.2), HELD), (near(a=0.2, b=0.2), NOT_HELD), (near(a=0.2, b=0.3), NOT_HELD),
    (near(a=0.3), UNTESTABLE),
    (near(a=0.3, b=0.2) | {(row, "far", "ndcg@10"): one(value) for row, value in (("a", 0.1), ("b", 0.2))}, NOT_HELD)])
def test_the_verdict_follows_the_cells_and_changes_with_them(judged, cells, verdict):
    assert judged(BEATS, cells).verdict == verdict


def test_what_cannot_be_compared_yet_is_counted_and_decides_nothing(judged):
    found = judged(BEATS, near(a=0.3, b=0.2))
    assert (len(found.made), len(found.comparisons)) == (1, 2)


@pytest.mark.parametrize(("margin", "verdict"), [(0.49, HELD), (0.51, NOT_HELD)])
def test_a_margin_is_relative_to_the_other(judged, margin, verdict):
    assert judged(BEATS.replace("[b]}", f"[b], margin: {margin}}}"), near(a=0.3, b=0.2)).verdict == verdict


def test_several_seeds_are_tested_by_welch_from_means_and_deviations(judged):
    [comparison] = judged(BEATS, near(a=several(0.30, 0.01), b=several(0.28, 0.03))).made
    expected = stats.ttest_ind_from_stats(0.30, 0.01, 3, 0.28, 0.03, 3, equal_var=False).pvalue
    assert comparison.p == expected and comparison.evidence == "over 3 seeds" and comparison.holds


@pytest.mark.parametrize(("deviation", "verdict"), [(0.001, HELD), (0.1, NOT_HELD)])
def test_a_claim_may_demand_that_the_difference_is_significant(judged, deviation, verdict):
    text = BEATS.replace("[b]}", "[b], significant: true}")
    assert judged(text, near(a=several(0.3, deviation), b=several(0.25, deviation))).verdict == verdict


def test_of_one_seed_significance_is_the_stored_test_or_nothing(judged):
    text = BEATS.replace("[b]}", "[b], significant: true}")
    assert judged(text, near(a=0.3, b=0.2)).verdict == UNTESTABLE
    test = PairedLine("table1", "near", "ndcg@10", "a", "b", 0.1, 4905, 0.01, 0.02, ("0" * 16, "0" * 16))
    found = judged(text, near(a=0.3, b=0.2), [test])
    assert found.verdict == HELD and found.made[0].p == 0.02 and found.made[0].evidence == "paired over 4,905 users"


def test_the_comparison_that_is_shown_bears_the_claim_out_least(judged):
    text = BEATS.replace("[b]", "[b, c]")
    assert [each.row for each in judged(text, near(a=0.3, b=0.1, c=0.2)).tightest.readings] == ["a", "c"]
    assert [each.row for each in judged(text, near(a=0.3, b=0.4, c=0.2)).tightest.readings] == ["a", "b"]


@pytest.mark.parametrize(("by", "verdict"), [(0.06, HELD), (0.04, NOT_HELD)])
def test_within_asks_only_for_what_the_paper_prints(judged, by, verdict):
    cells = near(a=one(0.95, paper=1.0), b=0.2)
    found = judged(f"claim: reached\ntable: table1\nwithin: {{rows: [a, b], by: {by}}}\n", cells)
    assert found.verdict == verdict and len(found.comparisons) == 1


def along(metric="ndcg@10", **values):
    return {(row, f"near noise={place}", metric): one(value)
            for row, each in values.items() for place, value in zip(("0", "0.1", "0.2"), each, strict=True)}


@pytest.mark.parametrize(("by", "verdict"), [(0.11, HELD), (0.09, NOT_HELD)])
def test_flat_compares_the_least_with_the_largest_along_the_axis(judged, by, verdict):
    text = f"claim: flat\ntable: fig1\nmetrics: [ndcg@10]\nflat: {{rows: [a], by: {by}}}\n"
    assert judged(text, along(a=(0.95, 1.0, 0.9))).verdict == verdict


@pytest.mark.parametrize(("end", "verdict"), [(0.27, HELD), (0.25, NOT_HELD)])  # of 0.3, where B keeps 5 of 6 parts
def test_falls_least_compares_relative_changes(judged, end, verdict):
    text = """
        claim: A falls least
        table: fig1
        metrics: [ndcg@10]
        falls_least: {row: a, among: [b], start: near noise=0, end: near noise=0.2}
        """
    assert judged(text, along(a=(0.3, 0.3, end), b=(0.6, 0.6, 0.5))).verdict == verdict


def test_another_metric_or_another_column_may_be_what_is_compared(judged):
    cells = along(a=(0.3, 0.3, 0.2)) | along("auc", a=(0.2, 0.4, 0.1))
    text = "claim: c\ntable: fig1\nmetrics: [ndcg@10]\ndata: [near noise=0]\ngreater: {rows: [a], than: [a], MORE}\n"
    assert judged(text.replace("MORE", "than_metric: auc"), cells).verdict == HELD
    assert judged(text.replace("MORE", "than_data: [near noise=0.1]"), cells).verdict == NOT_HELD


def test_gains_compares_means_of_relative_gains_over_columns_also_of_another_table(judged):
    text = """
        claim: A gains more over B near than far
        table: table1
        data: [near]
        gains: {row: a, over: b, than: {row: a, over: b, data: [far]}}
        """
    far = {(row, "far", "ndcg@10"): one(value) for row, value in (("a", 0.6), ("b", 0.5))}
    [comparison] = judged(text, near(a=0.3, b=0.2) | far).made
    assert comparison.holds and comparison.change == pytest.approx(0.5 - 0.2)
    other = text.replace("data: [far]", "table: fig1, data: [near noise=0]")
    assert judged(other, near(a=0.3, b=0.2) | along(a=(0.4, 0, 0), b=(0.2, 0, 0))).verdict == NOT_HELD


def test_prose_has_no_verdict_of_the_cells(judged):
    assert judged("claim: c\nprose: nothing decides it\n", near(a=0.3, b=0.2)).verdict == UNTESTABLE


@pytest.mark.parametrize(("text", "complaint"), [
    (BEATS.replace("[b]", "[bb]"), "'bb' is not a row of toy/table1. The nearest is b"),
    (BEATS.replace("table1", "tabel1"), "'tabel1' is not a table of toy"),
    (BEATS + "data: [naer]\n", "'naer' is not a column of toy/table1"),
    (BEATS + "metrics: [ndcg]\n", "'ndcg' is not a metric of toy/table1"),
    (BEATS.replace("than", "then"), "greater lacks than"),
    (BEATS.replace("[b]}", "[b], by: 1}"), "'by' is not a setting of greater"),
    (BEATS.replace("greater", "graeter"), "'graeter' is not what a claim may say"),
    (BEATS + "within: {rows: [a], by: 1}\n", "a claim has `claim` and one of"),
    (BEATS + "remarks: {holds: x}\n", "'holds' is not a verdict")])
def test_a_claim_that_nothing_can_judge_is_refused(judged, text, complaint):
    with pytest.raises(RequestError, match="experiments/claims.yaml") as error:
        judged(text, near(a=0.3, b=0.2))
    assert complaint.split(".")[0] in str(error.value)


def test_claims_of_no_paper_are_refused(judged, tmp_path):
    judged(BEATS, {})
    (tmp_path / "claims.yaml").write_text("ty: {}\n")
    with pytest.raises(RequestError, match="'ty' is not a paper"):
        claims("toy", ARTIFACTS)


def test_the_rules_are_a_small_closed_set_that_is_documented():
    assert set(RULES) == set(SETTINGS) and all(rule.__doc__ for rule in RULES.values())
