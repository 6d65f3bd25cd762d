"""From records to csv: hand-made records, hand-computed cells."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recot.artifacts import collect, printed
from recot.artifacts.collect import Cell, lines, paired_tests, rounded, run_lines, verdict
from recot.artifacts.spec import Artifact, Column, Group, Row
from recot.record.lines import CellLine, PairedLine
from recot.record.record import Record, run_line
from recot.record.store import Runs
from recot.system.files import sha256

ROWS = tuple(Row(id_, id_.upper(), (f"model={id_}",), beyond) for id_, beyond in
             (("bprmf", False), ("clrec", False), ("sclrec", False), ("itemknn", True)))
COLUMNS = (Column("gowalla", "gowalla", "Gowalla", ()), Column("ml1m", "ml1m", "ML-1M", (), stands_in="ml10m"))
TABLE = Artifact("toy", "table2", "results", "Methods", "", ROWS, COLUMNS, ("recall@20", "ndcg@20"), (0,), "model",
                 tests=True)


@pytest.fixture(autouse=True)
def paper(monkeypatch):
    """The printed numbers of a toy paper."""
    numbers = {("table2", data, "sclrec", "", "recall@20"): value for data, value in (("gowalla", 0.2), ("ml10m", 0.3))}
    monkeypatch.setattr(printed, "printed_numbers", lambda name: numbers if name == "toy" else {})


def record(key="k0", split="s", **values):
    """A finished record."""
    config = {"trainer": {"max_epochs": 300}}
    return {"key": key, "status": "done", "data": "gowalla", "model": "sclrec", "loss": "infonce", "denoiser": "none",
            "noise": "none", "protocol": "topk", "seed": 0, "command": "python -m recot.run model=sclrec, x",
            "config": config, "test": {"recall@20": 0.2, "ndcg@20": 0.1} | values, "valid": {"recall@20": 0.9},
            "split": split, "epochs": 30, "best_epoch": 20, "seconds": 12.5, "wall_seconds": 14.0,
            "peak_memory_mb": 500, "device": "x86_64", "threads": 1, "commit": None, "sources": "abc",
            "finished": "2025-01-01T00:00:00Z"}


def cell(row="sclrec", column="gowalla", records=None, keys=None, reason="not run yet", runs=None):
    """A cell of the table with records by seed."""
    rows, columns = ({part.id: part for part in parts} for parts in (ROWS, COLUMNS))
    records = records or {}
    return Cell(rows[row], columns[column], {seed: f"k{seed}" for seed in records} if keys is None else keys,
                {seed: Record.of(content) for seed, content in records.items()}, reason, runs)


def only(found, metric="recall@20"):
    """The csv row of a metric, where there is one cell."""
    [line] = [line for line in found if line.metric == metric]
    return line


@pytest.mark.parametrize(("ours", "paper", "delta", "word"), [
    (0.2, 0.2, 0.0, "match"), (0.2038, 0.2, 0.019, "match"), (0.1962, 0.2, -0.019, "match"),
    (0.2042, 0.2, 0.021, "close"), (0.1958, 0.2, -0.021, "close"), (0.2198, 0.2, 0.099, "close"),
    (0.2202, 0.2, 0.101, "differs"), (0.1798, 0.2, -0.101, "differs"), (0.4, 0.2, 1.0, "differs"),
    (-0.2, -0.2, 0.0, "match"), (-0.1, -0.2, 0.5, "differs"),
    (0.2, None, None, "no printed number"), (0.0, 0.0, None, "match"), (0.1, 0.0, None, "differs"),
])
def test_within_2_percent_is_a_match_and_within_10_percent_close(ours, paper, delta, word):
    assert verdict(ours, paper) == (pytest.approx(delta), word)


@pytest.mark.parametrize(("value", "text"), [
    (None, ""), (0.123456789, "0.123457"), (0.2, "0.2"), (0.0, "0"), (1.5e-9, "1.5e-09"), (9998900.0, "9998900"),
    (1234567, "1234567"), (1234567.8, "1234570")])
def test_numbers_have_six_digits_and_counts_all_of_theirs(value, text):
    assert CellLine("t", "r", "c", "m", mean=None if value is None else rounded(value)).cells()["mean"] == text


def test_a_cell_is_the_mean_and_sample_deviation_over_seeds_beside_the_printed_number():
    records = {seed: record(f"k{seed}", **{"recall@20": value}) for seed, value in ((2, 0.23), (0, 0.2), (1, 0.21))}
    assert only(lines(TABLE, [cell(records=records)], [])) == CellLine(
        "table2", "sclrec", "gowalla", "recall@20", (0, 1, 2), mean=0.213333,
        std=0.0152753,  # sqrt((0.0133**2 + 0.0033**2 + 0.0167**2) / 2)
        paper=0.2, delta=0.066665, verdict="close", keys=("k0", "k1", "k2"))


def test_one_seed_has_no_deviation_and_a_metric_nobody_printed_no_difference():
    line = only(lines(TABLE, [cell(records={0: record()})], []), "ndcg@20")
    assert (line.mean, line.std, line.paper, line.delta, line.verdict) == (0.1, None, None, None, "no printed number")


def test_a_stand_in_is_not_compared_with_the_data_set_it_stands_in_for():
    line = only(lines(TABLE, [cell(column="ml1m", records={0: record()})], []))
    assert (line.mean, line.paper, line.verdict) == (0.2, None, "no printed number")


@pytest.mark.parametrize("reason", ["data not available", "not run yet", "failed: ValueError: no luck",
                                    "diverged: Diverged: the loss is nan"])
def test_an_empty_cell_says_why_and_still_shows_the_printed_number(reason):
    line = only(lines(TABLE, [cell(reason=reason)], []))
    assert (line.verdict, line.paper, line.mean, line.keys) == (reason, 0.2, None, ())


def test_a_record_without_the_metric_leaves_a_cell_that_says_so():
    old = record()
    del old["test"]["ndcg@20"]
    found = lines(TABLE, [cell(records={0: old})], [])
    assert only(found, "ndcg@20").verdict == "its record has no ndcg@20"
    assert (only(found, "ndcg@20").mean, only(found).mean) == (None, 0.2)
    assert lines(TABLE, [cell(keys={0: "k0"})], found) == found  # also in a clone, which has no record to ask


def test_values_are_those_of_the_test_set_and_noise_is_ranked_on_the_training_set():
    known = record() | {"noise_auc": {"auc": 0.7, "auc_user": 0.6}}
    found = cell(records={0: known, 1: record()})
    assert collect.measured(found, 0, "recall@20") == 0.2
    assert (collect.measured(found, 0, "noise_auc"), collect.measured(found, 0, "noise_auc_user")) == (0.7, 0.6)
    with pytest.raises(KeyError):
        collect.measured(found, 1, "noise_auc")


def test_a_column_may_report_another_test_set():
    noisy = replace(cell(records={0: record() | {"test_0.3": {"recall@20": 0.15}}}),
                    column=Column("gowalla noise=0.3", "gowalla", "Gowalla", (), 0.3, questions="test_0.3"))
    assert only(lines(TABLE, [noisy], [])).mean == 0.15


GROUPS = tuple(Column(f"gowalla length={low}", "gowalla", "Gowalla", (), low, group=Group("activity", low, high))
               for low, high in ((0, 3), (4, 7), (8, None)))


def noted(root, key):
    """The record of a run that left the answers which lie in its folder."""
    file = root / key / "test.parquet"
    manifest = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}}
    Runs(root).put(key, {"key": key, "status": "done", "command": "python -m recot.run", "config": {}, "model": "bprmf",
                         "split": "s", "files": manifest})


def test_groups_are_means_over_their_questions_and_together_the_whole(tmp_path):
    values, activity = [0.1, 0.2, 0.4, 0.8], [1, 3, 4, 7]
    (tmp_path / "k0").mkdir()
    pd.DataFrame({"user": range(4), "activity": activity, "recall@20": values}).to_parquet(tmp_path / "k0/test.parquet")
    noted(tmp_path, "k0")
    artifact = replace(TABLE, metrics=("recall@20", "questions"))
    cells = [replace(cell(records={0: record()}, runs=Runs(tmp_path)), column=column) for column in GROUPS]
    found = lines(artifact, cells, [])
    assert [(line.mean, line.verdict) for line in found if line.metric == "recall@20"] == [
        (0.15, "no printed number"), (0.6, "no printed number"), (None, "no question is of this group")]
    sizes = [line.mean for line in found if line.metric == "questions"]
    assert sizes == [2, 2, None] and sum(values) / 4 == pytest.approx((2 * 0.15 + 2 * 0.6) / 4)


@pytest.mark.parametrize("then", [b"PAR1 and no more", b"PAR1 and no more, written later"])
def test_damaged_answers_cost_their_group_and_their_test_and_are_named(tmp_path, then):
    folder = tmp_path / "k0"
    folder.mkdir()
    (folder / "test.parquet").write_bytes(b"PAR1 and no more")
    noted(tmp_path, "k0")
    (folder / "test.parquet").write_bytes(then)
    damaged = replace(cell(records={0: record()}, runs=Runs(tmp_path)), column=GROUPS[0])
    [line] = [line for line in lines(TABLE, [damaged], []) if line.metric == "recall@20"]
    assert line.verdict == "the answers to single questions are damaged"
    told = replace(line, mean=0.3, seeds=(0,), keys=("k0",))
    assert only(lines(TABLE, [damaged], [told])).mean == 0.3
    faults = []
    rows = [CellLine("table2", row, "gowalla", "recall@20", (0,), mean, keys=("k0",))
            for row, mean in (("bprmf", 0.1), ("clrec", 0.2))]
    earlier = [PairedLine("table2", "gowalla", "recall@20", "clrec", "bprmf", 0.1, 9, 0.5, 1, ("k0", "k0"))]
    assert len(paired_tests(TABLE, rows, Runs(tmp_path), earlier, faults)) == 1
    assert paired_tests(TABLE, rows, Runs(tmp_path), [], faults) == []
    for fault in (*damaged.faults, *faults):
        assert str(folder / "test.parquet") in fault and "force=true" in fault


def test_a_group_of_answers_that_are_gone_says_so(tmp_path):
    gone = replace(cell(records={0: record()}, runs=Runs(tmp_path)), column=GROUPS[0])
    [line] = [line for line in lines(TABLE, [gone], []) if line.metric == "recall@20"]
    assert line.verdict == "the answers to single questions are gone"
    told = replace(line, mean=0.3, seeds=(0,), keys=("k0",))
    assert only(lines(TABLE, [gone], [told])).mean == 0.3  # and stays what it was while it could be told


# What was there before.

KEYS = {0: "k0", 1: "k1", 2: "k2"}


@pytest.fixture
def reported():
    """The csv rows of three seeds, whose mean has more digits than are written."""
    records = {seed: record(f"k{seed}", **{"recall@20": 0.1489 + seed / 7e5}) for seed in KEYS}
    return lines(TABLE, [cell(records=records)], [])


def test_a_row_whose_runs_are_not_at_hand_stays_as_it_is_where_its_keys_are_todays(reported):
    assert lines(TABLE, [cell(keys=KEYS)], reported) == reported


def test_a_row_whose_runs_are_not_at_hand_goes_where_its_keys_are_not_todays(reported):
    line = only(lines(TABLE, [cell(keys=KEYS | {1: "other"})], reported))
    assert (line.mean, line.verdict, line.paper) == (None, "not run yet", 0.2)


def test_a_row_stays_where_the_data_are_not_at_hand_and_nothing_can_be_told(reported):
    assert lines(TABLE, [cell(keys={}, reason="data not available")], reported) == reported
    line = only(lines(TABLE, [cell(keys={}, reason="data not available")], []))
    assert (line.mean, line.verdict) == (None, "data not available")


def test_some_of_the_seeds_at_hand_do_not_replace_a_mean_over_all_of_them(reported):
    assert lines(TABLE, [cell(keys=KEYS, records={1: record("k1")})], reported) == reported


def test_as_many_but_other_seeds_do_not_replace_a_mean_and_more_do(reported):
    told = lines(TABLE, [cell(records={0: record("k0")})], [])
    keys = {seed: f"k{seed}" for seed in range(3)}
    assert lines(TABLE, [cell(keys=keys, records={1: record("k1")})], told) == told
    more = cell(keys=keys, records={seed: record(f"k{seed}") for seed in (1, 2)})
    assert only(lines(TABLE, [more], told)).seeds == (1, 2)


@pytest.mark.parametrize("broken", [{"test": {}}, {"test": {"recall@20": None, "ndcg@20": "x"}}])
def test_a_record_that_lost_its_numbers_does_not_replace_those_that_were_reported(broken):
    told = lines(TABLE, [cell(records={0: record("k0")})], [])
    assert lines(TABLE, [cell(records={0: record("k0") | broken})], told) == told
    line = only(lines(TABLE, [cell(records={0: record("k0") | broken})], []))
    assert line.verdict == "its record has no recall@20"


def test_as_many_seeds_at_hand_replace_what_was_reported(reported):
    line = only(lines(TABLE, [cell(keys=KEYS, records={seed: record(key) for seed, key in KEYS.items()})], reported))
    assert (line.mean, line.delta) == (0.2, 0)


def test_a_row_that_stays_is_judged_by_the_number_printed_today(reported, monkeypatch):
    numbers = {("table2", "gowalla", "sclrec", "", "recall@20"): 0.15}
    monkeypatch.setattr(printed, "printed_numbers", lambda name: numbers)
    line = only(lines(TABLE, [cell(keys=KEYS)], reported))
    assert (line.paper, line.verdict, line.mean) == (0.15, "match", only(reported).mean)


def test_earlier_rows_of_methods_the_table_has_no_more_go(reported):
    assert {line.row for line in lines(TABLE, [cell("bprmf", keys={0: "x"})], reported)} == {"bprmf"}


# Files.

def test_the_list_of_runs_keeps_what_a_csv_names_and_no_other_run():
    runs = [run_line(record(key) | {"model": model})
            for key, model in (("k1", "sclrec"), ("k2", "bprmf"), ("k3", "clrec"))]
    first = run_lines([], runs, {"k1", "k2", "k9"})
    assert [(line.key, line.model) for line in first] == [("k2", "bprmf"), ("k1", "sclrec")]
    assert (first[0].commit, first[0].max_epochs, first[0].seconds) == ("unknown", 300, 12.5)
    assert first[0].command == "python -m recot.run model=sclrec, x"
    assert run_lines(first, reversed(runs), {"k1", "k2"}) == first
    assert run_lines(first, [], {"k1", "k2"}) == first  # a clone: none of the runs is at hand
    assert [line.key for line in run_lines(first, [], {"k2"})] == ["k2"]
    assert run_lines(first, [], None) == first  # where a csv cannot be read, what it names cannot be told


def test_a_model_in_closed_form_has_no_epochs_to_stop_after():
    assert run_line(record() | {"epochs": 0}).max_epochs == 0


def test_records_of_different_splits_in_one_column_are_an_error_that_names_both():
    cells = [cell("bprmf", records={0: record(split="one")}), cell("sclrec", records={0: record(split="two")})]
    with pytest.raises(ValueError, match=r"sclrec and bprmf of gowalla .* \(two, one\); .* FRESH=1"):
        collect.same_questions(cells)
    collect.same_questions([cell(records={0: record(split="one"), 1: record(split="two")})])
    with pytest.raises(ValueError, match="run on different splits"):
        collect.same_questions([*cells[:1], cell("sclrec", records={1: record(split="two"), 0: record(split="two")})])
    collect.same_questions([cells[0], cell("sclrec", "ml1m", records={0: record(split="two")})])


# Significance.

RNG = np.random.default_rng(0)
USERS = np.arange(40) * 3
ANSWERS = {key: pd.DataFrame({"user": USERS, "recall@20": base + RNG.normal(0, 0.05, 40),
                              "ndcg@20": base + RNG.normal(0, 0.5, 40)})
           for key, base in (("c0", 0.20), ("c1", 0.20), ("s0", 0.25), ("s1", 0.25), ("b0", 0.1), ("i0", 0.6))}


@pytest.fixture
def runs(tmp_path):
    """Runs whose answers for every user are at hand."""
    for key, frame in ANSWERS.items():
        (tmp_path / key).mkdir()
        frame.to_parquet(tmp_path / key / "test.parquet", index=False)
        noted(tmp_path, key)
    return Runs(tmp_path)


def measured(**seeds):
    """Csv rows of the table from the answers: row -> seeds."""
    found = []
    for row, given in seeds.items():
        keys = [f"{row[0]}{seed}" for seed in given]
        for metric in TABLE.metrics:
            mean = np.mean([ANSWERS[key][metric].mean() for key in keys])
            found.append(CellLine("table2", row, "gowalla", metric, tuple(given), rounded(float(mean)),
                                  keys=tuple(keys)))
    return found


def test_the_best_is_tested_against_the_second_best_over_users_and_corrected_by_holm(runs):
    found = paired_tests(TABLE, measured(bprmf=[0], clrec=[0], sclrec=[0]), runs, [], [])
    assert [(line.metric, line.best, line.second, line.users) for line in found][0] == (
        "recall@20", "sclrec", "clrec", 40)
    raw = []
    for line in found:
        best, second = (ANSWERS[f"{row[0]}0"][line.metric] for row in (line.best, line.second))
        raw.append(stats.ttest_rel(best, second).pvalue)
        assert line.p == pytest.approx(raw[-1], rel=1e-5)
        assert line.difference == pytest.approx((best - second).mean(), rel=1e-5)
    low, high = sorted(raw)
    corrected = {low: min(2 * low, 1.0), high: min(max(high, 2 * low), 1.0)}
    assert [line.p_holm for line in found] == pytest.approx([corrected[p] for p in raw], rel=1e-5)


def test_a_row_beyond_the_paper_is_never_the_best_or_second_of_a_test(runs):
    found = paired_tests(TABLE, measured(clrec=[0], sclrec=[0], itemknn=[0]), runs, [], [])
    assert {line.best for line in found} | {line.second for line in found} == {"clrec", "sclrec"}


def test_values_are_averaged_over_the_seeds_that_both_have(runs):
    def mean(row):
        return (ANSWERS[f"{row}0"]["recall@20"] + ANSWERS[f"{row}1"]["recall@20"]) / 2

    found = paired_tests(TABLE, measured(clrec=[0, 1], sclrec=[0, 1]), runs, [], [])
    assert found[0].p == pytest.approx(stats.ttest_rel(mean("s"), mean("c")).pvalue, rel=1e-5)
    assert found[0].keys == ("s0", "s1", "c0", "c1")
    assert paired_tests(TABLE, measured(clrec=[0], sclrec=[0, 1]), runs, [], [])[0].keys == ("s0", "c0")
    assert paired_tests(TABLE, measured(clrec=[0], sclrec=[1]), runs, [], []) == []


def test_one_row_alone_is_not_tested_and_no_test_is_no_error(runs):
    assert paired_tests(TABLE, measured(sclrec=[0]), runs, [], []) == []


def test_an_earlier_test_of_the_same_runs_stays_and_one_of_others_goes(runs, tmp_path):
    table = measured(clrec=[0], sclrec=[0])
    earlier = paired_tests(TABLE, table, runs, [], [])
    nowhere = Runs(tmp_path / "clone")
    assert paired_tests(TABLE, table, nowhere, earlier, []) == earlier
    assert paired_tests(TABLE, measured(clrec=[1], sclrec=[0]), nowhere, earlier, []) == []


def test_tests_over_different_users_are_an_error(runs, tmp_path):
    ANSWERS["c0"].assign(user=USERS + 1).to_parquet(tmp_path / "c0" / "test.parquet", index=False)
    noted(tmp_path, "c0")
    with pytest.raises(ValueError, match="the runs s0 and c0 were tested on different users"):
        paired_tests(TABLE, measured(clrec=[0], sclrec=[0]), runs, [], [])
