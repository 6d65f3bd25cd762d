"""Specs: what a paper's tables are made of, and which printed number belongs to which cell."""

import csv
import re
from collections import Counter

import pytest
import torch
import yaml
from commands import known as composed

from recot.artifacts import load as loading
from recot.artifacts.load import load, of_data, papers, tunes_first, tuning
from recot.artifacts.printed import printed, printed_numbers
from recot.data.interactions import Domain, Interactions
from recot.record.build import build
from recot.request.errors import RequestError
from recot.request.keys import relevant
from recot.tuning.space import Space

SCLREC = {artifact.name: artifact for artifact in load("sclrec")}
PROREC = {artifact.name: artifact for artifact in load("prorec")}
TUNED = [paper for paper in papers() if "tuning:" in (loading.EXPERIMENTS / f"{paper}.yaml").read_text().split()]
"""Papers that say how their methods are tuned."""
NOBODY = Interactions.from_pairs(*torch.zeros(2, 0, dtype=torch.int64), 5, 7, domains=(Domain("a", 0, 7),))
TOY = {
    "title": "toy", "seeds": [0, 1], "data": {"planted": "Planted", "ml1m": "ML-1M"}, "stand_ins": {"ml1m": "planted"},
    "artifacts": {
        "table1": {"kind": "statistics", "title": "Counts", "data": ["planted"], "metrics": ["users"]},
        "table2": {"kind": "results", "title": "Methods", "data": ["planted", "ml1m"], "metrics": ["recall@20"],
                   "base": "trainer.max_epochs=3", "printed": "model", "note": "two\n  lines",
                   "rows": {"a": {"name": "A", "run": "model=bprmf"}},
                   "beyond": {"b": {"name": "B", "run": "model=clrec loss.tau=0.3"}}},
        "fig1": {"kind": "figure", "title": "Noise", "data": ["planted", "ml1m"], "metrics": ["recall@20"],
                 "base": "trainer.max_epochs=3", "plot": "degradation",
                 "axis": {"name": "noise", "label": "share", "values": {0.0: "", 0.10: "noise=add noise.ratio=0.1"}},
                 "rows": {"a": {"name": "A", "run": "model=bprmf"}}},
    },
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes the toy paper with changes to one of its artifacts, and its printed numbers; returns its artifacts."""
    for cached in (loading.papers, printed_numbers):
        cached.cache_clear()
    monkeypatch.setattr(loading, "EXPERIMENTS", tmp_path)

    def write(changed="table2", profile=None, numbers=(), **changes):
        artifacts = TOY["artifacts"] | {changed: TOY["artifacts"].get(changed, {}) | changes}
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY | {"artifacts": artifacts}, sort_keys=False))
        (tmp_path / "profiles").mkdir(exist_ok=True)
        (tmp_path / "profiles" / "smoke.yaml").write_text(
            "data: planted\nrun: data.n_users=60 trainer.max_epochs=2\n")
        (tmp_path / "papers").mkdir(exist_ok=True)
        (tmp_path / "papers" / "toy.csv").write_text(
            "\n".join(["artifact,dataset,model,variant,metric,k,value", *numbers, ""]))
        return {artifact.name: artifact for artifact in load("toy", profile)}

    yield write
    for cached in (loading.papers, printed_numbers):
        cached.cache_clear()


def cell(artifact, row, column):
    """A row and a column by their ids."""
    rows, columns = ({part.id: part for part in parts} for parts in (artifact.rows, artifact.columns))
    return rows[row], columns[column]


def number(artifact, row, column, metric):
    return printed(artifact, *cell(artifact, row, column), metric)


def test_a_table_has_a_column_for_each_data_set_with_the_base_in_its_overrides(toy):
    table = toy()["table2"]
    assert [(row.id, row.overrides, row.beyond) for row in table.rows] == [
        ("a", ("model=bprmf",), False), ("b", ("model=clrec", "loss.tau=0.3"), True)]
    assert [(column.id, column.overrides, column.stands_in) for column in table.columns] == [
        ("planted", ("data=planted", "trainer.max_epochs=3"), None),
        ("ml1m", ("data=ml1m", "trainer.max_epochs=3"), "planted")]
    assert (table.note, table.seeds, table.label) == ("two lines", (0, 1), "toy/table2")


def test_an_axis_gives_each_data_set_a_column_for_each_value_in_the_order_of_the_spec(toy):
    columns = toy()["fig1"].columns
    assert [column.id for column in columns] == ["planted noise=0", "planted noise=0.1", "ml1m noise=0",
                                                 "ml1m noise=0.1"]
    assert all(column.id.split()[0] == column.data for column in columns)
    assert columns[1].overrides == ("data=planted", "trainer.max_epochs=3", "noise=add", "noise.ratio=0.1")
    assert [column.value for column in columns] == [0.0, 0.1, 0.0, 0.1]


def test_cells_come_one_column_after_the_other_in_the_order_of_the_rows(toy):
    assert [(column.id, row.id) for column, row in toy()["table2"].cells()] == [
        ("planted", "a"), ("planted", "b"), ("ml1m", "a"), ("ml1m", "b")]


@pytest.mark.parametrize(("changed", "changes", "message"), [
    ("table2", {"kind": "tabel"}, "toy.yaml, table2: kind is one of statistics, results, figure, worked, got 'tabel'"),
    ("table2", {"metric": ["recall@20"]}, "table2: nothing reads 'metric'. Did you mean 'metrics'?"),
    ("table2", {"plot": "degradation"}, "table2: nothing reads 'plot'"),
    ("table1", {"rows": {}}, "table1: nothing reads 'rows'"),
    ("table2", {"data": ["gowala"]}, "table2: the data set 'gowala' has no name in `data`"),
])
def test_a_spec_that_says_something_nothing_reads_is_refused(toy, changed, changes, message):
    with pytest.raises(RequestError) as refused:
        toy(changed, **changes)
    assert message in str(refused.value)


def test_words_about_the_data_replace_those_of_the_spec_and_bring_the_rows_that_need_them(toy):
    rows = {"a": {"name": "A", "run": "model=bprmf"}, "s": {"name": "S", "run": "model=sasrec", "needs": "data.time"}}
    table = toy(rows=rows)["table2"]
    assert [row.needs for row in table.rows] == [None, "data.time", None]
    found = of_data(table, ["data.path=b.csv"])
    assert [row.id for row in found.rows] == ["a", "b"]
    assert found.columns[0].overrides == ("data=planted", "trainer.max_epochs=3", "data.path=b.csv")
    again = of_data(found, ["data.path=c.csv", "data.time=t"])
    assert again.columns[0].overrides == ("data=planted", "trainer.max_epochs=3", "data.path=c.csv", "data.time=t")
    assert [row.id for row in of_data(table, ["data.time=t"]).rows] == ["a", "s", "b"]
    small = toy(profile="smoke", rows=rows)["table2"]
    assert of_data(small, ["data.path=b.csv"]) == small


def test_a_study_that_comes_first_belongs_to_one_data_set():
    for paper in papers():
        if tunes_first(paper):
            assert all(len(artifact.columns) == 1 for artifact in load(paper) if artifact.shows_runs)
    assert tunes_first("own") and not tunes_first("sclrec") and not tunes_first("mstein")


def test_a_paper_or_profile_that_is_not_there_is_refused_with_the_nearest_one(toy):
    toy()
    with pytest.raises(RequestError, match="no paper is called 'toi'. Did you mean 'toy'?"):
        load("toi")
    with pytest.raises(RequestError, match="no profile is called 'smok'. Did you mean 'smoke'?"):
        load("toy", "smok")


def test_a_printed_number_is_joined_by_artifact_data_set_row_and_metric(toy):
    table = toy(numbers=["table2,planted,a,,recall,20,0.25", "table2,planted,a,,recall,10,0.5",
                         "table9,planted,b,,recall,20,0.75", "table1,planted,,,users,,1234567"])
    assert number(table["table2"], "a", "planted", "recall@20") == 0.25
    assert number(table["table2"], "b", "planted", "recall@20") is None  # another table has one
    assert number(table["table1"], "statistics", "planted", "users") == 1234567.0
    assert number(table["fig1"], "a", "planted noise=0", "recall@20") is None


def test_a_stand_in_gets_no_printed_number_of_the_data_set_it_stands_in_for(toy):
    assert number(toy(numbers=["table2,planted,a,,recall,20,0.25"])["table2"], "a", "ml1m", "recall@20") is None


def test_a_paper_without_printed_numbers_has_empty_cells(toy, tmp_path):
    table = toy()["table2"]
    (tmp_path / "papers" / "toy.csv").unlink()
    assert number(table, "a", "planted", "recall@20") is None


def test_a_profile_puts_planted_data_in_place_of_every_data_set_and_joins_no_printed_number(toy):
    artifacts = toy(profile="smoke", numbers=["table2,planted,a,,recall,20,0.25", "table1,planted,,,users,,60"])
    for artifact in artifacts.values():
        assert artifact.planted and {column.data for column in artifact.columns} == {"planted"}
        assert not any(column.stands_in for column in artifact.columns)
        assert all(printed(artifact, row, column, metric) is None
                   for column, row in artifact.cells() for metric in artifact.metrics)
    assert [column.overrides for column in artifacts["table2"].columns] == [  # its epochs, not those of the spec
        ("data=planted", "data.n_users=60", "trainer.max_epochs=2")]
    assert [column.id for column in artifacts["fig1"].columns] == ["planted noise=0", "planted noise=0.1"]
    assert artifacts["fig1"].columns[1].overrides[-2:] == ("noise=add", "noise.ratio=0.1")


# The specs that are there.

ARTIFACTS = [pytest.param(artifact, id=artifact.label) for paper in papers() for artifact in load(paper)]
RUNS = [artifact for artifact in ARTIFACTS if artifact.values[0].shows_runs]


@pytest.mark.parametrize("artifact", RUNS)
def test_every_row_builds_and_no_two_rows_ask_the_same_question(artifact):
    whole = [composed(*artifact.columns[0].overrides, *row.overrides)[0] for row in artifact.rows]
    for config in whole:
        build(config)
    configs = [relevant(config) for config in whole]
    assert not [(artifact.rows[i].id, artifact.rows[j].id) for i in range(len(configs)) for j in range(i)
                if configs[i] == configs[j]]


@pytest.mark.parametrize("artifact", RUNS)
def test_every_column_composes_and_no_two_columns_ask_the_same_question(artifact):
    asked = [(relevant(composed(*column.overrides, *artifact.rows[0].overrides)[0]), column.questions, column.group)
             for column in artifact.columns]
    assert all(asked[i] != asked[j] for i in range(len(asked)) for j in range(i))
    assert all(column.id.split()[0] == column.entry for column in artifact.columns)


@pytest.mark.parametrize("artifact", RUNS)
def test_the_smoke_profile_composes_on_small_data_with_few_epochs_and_no_row_undoes_it(artifact):
    small = {other.name: other for other in load(artifact.paper, "smoke")}[artifact.name]
    config, choices = composed(*small.columns[-1].overrides, *small.rows[-1].overrides)
    assert (choices["data"], config["data"]["n_users"], config["trainer"]["max_epochs"]) == ("planted", 60, 2)
    undone = {"data", "data.n_users", "trainer", "trainer.max_epochs"}
    assert not [row.id for row in small.rows if undone & {word.split("=")[0] for word in row.overrides}]


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_ids_of_rows_and_columns_are_unique_and_what_others_are_compared_with_is_a_row(artifact):
    for parts in (artifact.rows, artifact.columns):
        assert not [id_ for id_, n in Counter(part.id for part in parts).items() if n > 1]
    assert artifact.relative_to in {None, *(row.id for row in artifact.rows)}


@pytest.mark.parametrize("artifact", RUNS)
def test_every_metric_of_a_table_is_one_that_its_runs_report(artifact):
    """By as many cells as it takes: further ones can only add to what is reported."""
    reported = {"fit_seconds", "ask_seconds"}
    reported |= {"questions"} if any(column.group for column in artifact.columns) else set()
    if all(column.questions == "users" for column in artifact.columns):  # what UCLR's networks say of users
        reported |= {"temperature", "temperature_deviation", "visits"}
    columns, rows = artifact.columns, artifact.rows
    for column, row in [*((columns[0], row) for row in rows), *((column, rows[0]) for column in columns),
                        *artifact.cells()]:
        if set(artifact.metrics) <= reported:
            return
        config, choices = composed(*column.overrides, *row.overrides)
        reported |= {*config["metrics"]}
        if column.questions == "users":
            told = build(config).untrained(NOBODY).about_users
            reported |= {*told, *(f"{name}_deviation" for name in told)}
        if choices["noise"] != "none":
            reported |= {"noise_auc", "noise_auc_user"}
        if choices["denoiser"] == "prorec":
            reported |= {"flagged", "weight", "rank"}
            if choices["noise"] != "none":
                reported |= {"hit_ratio", "false_alarms", "precision", "weight_auc"}
    raise AssertionError(set(artifact.metrics) - reported)


@pytest.mark.parametrize(("data", "words"), [
    pytest.param([word for word in [artifact for artifact in load(paper) if artifact.shows_runs][-1].columns[
        0].overrides if re.match(r"data\b", word)], words, id=f"{paper}-{row}")
    for paper in TUNED if tuning(paper).preset_first for row, words in tuning(paper).rows.items()])
def test_where_the_preset_is_tried_first_its_settings_are_among_those_of_every_method(data, words):
    space = Space(words)
    preset, _ = composed(*data, *space.fixed(), "~tuned")
    assert composed(*data, *space.words(space.combination(preset)), "~tuned")[0] == preset


@pytest.mark.parametrize(("row", "words"), [
    pytest.param(row, tuning(paper).rows[row.id], id=f"{paper}-{row.id}")
    for paper in TUNED for artifact in load(paper) if artifact.tests for row in artifact.rows
    if row.id in tuning(paper).rows])
def test_a_method_is_tuned_with_what_its_row_of_the_table_says(row, words):
    tried = {key: value.split(",") for key, value in (word.split("=", 1) for word in words)}
    for key, value in (word.split("=", 1) for word in row.overrides):
        assert value in tried.get(key, []), f"the table has {key}={value}"


def test_the_cells_about_known_noise_are_read_from_the_runs_of_a_figure():
    wanted = {(*column.overrides, *row.overrides) for column, row in SCLREC["fig2_left_out"].cells()}
    assert {(*column.overrides, *row.overrides) for column, row in SCLREC["fig2_truth"].cells()} <= wanted


def test_every_printed_number_of_prorec_s_tables_has_exactly_one_cell():
    cells = Counter((artifact.name, column.data, row.id if artifact.kind != "statistics" else "",
                     dict(artifact.called).get(metric, metric), printed(artifact, row, column, metric))
                    for artifact in PROREC.values() for column, row in artifact.cells() for metric in artifact.metrics
                    if printed(artifact, row, column, metric) is not None)
    with (loading.EXPERIMENTS / "papers" / "prorec.csv").open(newline="") as stream:
        wanted = Counter((line["artifact"], line["dataset"], line["model"],
                          line["metric"] + (line["k"] and f"@{line['k']}"), float(line["value"]))
                         for line in csv.DictReader(stream)
                         if line["artifact"].startswith("table") or line["variant"] == "noise=0.20")
    assert cells == wanted and cells.total() == 16 + 108 + 30 + 2


def test_what_the_paper_calls_by_the_name_of_another_metric_is_not_that_metric():
    table = PROREC["table2"]
    row, column = table.rows[0], table.columns[0]
    assert printed(table, row, column, "ndcg_full@5") == 0.0375 and printed(table, row, column, "ndcg@5") is None


def test_every_printed_number_of_sclrec_has_exactly_one_cell():
    cells = Counter((artifact.name, column.data, metric, printed(artifact, row, column, metric))
                    for artifact in SCLREC.values() for column, row in artifact.cells() for metric in artifact.metrics
                    if printed(artifact, row, column, metric) is not None)
    with (loading.EXPERIMENTS / "papers" / "sclrec.csv").open(newline="") as stream:
        wanted = Counter((line["artifact"], line["dataset"], line["metric"] + (line["k"] and f"@{line['k']}"),
                          float(line["value"])) for line in csv.DictReader(stream)
                         if not line["metric"].endswith("_degradation_pct"))  # derived; the page derives ours beside it
    assert cells == wanted and cells.total() == 15 + 144 + 18


@pytest.mark.parametrize(("artifact", "row", "column", "metric", "value"), [
    ("table1", "statistics", "ml10m", "interactions", 9998900),
    ("table1", "statistics", "gowalla", "density", 0.08),
    ("table1", "statistics", "ml1m", "users", None),
    ("table2", "sclrec", "gowalla", "ndcg@20", 0.1215),
    ("table2", "bprmf", "ml10m", "recall@10", 0.1734),
    ("table2", "lightgcn", "tmallbuy", "ndcg@50", 0.0409),
    ("table2", "sclrec", "ml1m", "recall@50", None),
    ("table2", "sclrec-mask", "gowalla", "recall@50", None),
    ("table2", "popularity", "gowalla", "recall@50", None),
    ("table3", "full", "ml10m", "recall@50", 0.4669),
    ("table3", "alpha=0.80", "ml10m", "ndcg@50", 0.2848),
    ("table3", "gamma_p=0", "ml10m", "recall@50", 0.4380),
    ("table3", "iters=0", "ml10m", "ndcg@50", 0.2908),
    ("table3", "full", "gowalla", "recall@50", None),
    ("table3", "full", "ml1m", "recall@50", None),
    ("table3", "marginal", "ml10m", "recall@50", None),
    ("fig2", "sclrec", "gowalla noise=0.2", "recall@10", None),
])
def test_printed_numbers_stand_where_the_paper_prints_them(artifact, row, column, metric, value):
    assert number(SCLREC[artifact], row, column, metric) == value


@pytest.mark.parametrize(("row", "path", "value"), [
    ("full", "alpha", 0.9), ("alpha=0.80", "alpha", 0.8), ("alpha=0.99", "alpha", 0.99), ("gamma_u=0", "gamma_u", 0),
    ("gamma_v=0", "gamma_v", 0), ("gamma_p=0", "gamma_p", 0), ("lambda=0.05", "lam", 0.05), ("lambda=0.2", "lam", 0.2),
    ("iters=0", "n_iters", 0), ("alpha=1", "alpha", 1), ("marginal", "popularity", "marginal")])
def test_a_row_of_the_ablation_changes_what_its_name_says_and_nothing_else(row, path, value):
    def config(id_):
        row, column = cell(SCLREC["table3"], id_, "ml10m")
        return composed(*column.overrides, *row.overrides)[0]

    full, changed = config("full"), config(row)
    assert changed["denoiser"][path] == value
    assert full | {"denoiser": full["denoiser"] | {path: value}} == changed


def axis(**kind):
    return {"name": "noise", "label": "share"} | kind


def test_the_values_of_an_axis_may_be_other_test_sets_of_one_run(toy):
    columns = toy("fig1", axis=axis(sets={0.0: "test", 0.3: "test_0.3"}))["fig1"].columns[:2]
    assert [(column.id, column.questions) for column in columns] == [("planted noise=0", "test"),
                                                                     ("planted noise=0.3", "test_0.3")]
    assert columns[0].overrides == columns[1].overrides


def test_the_values_of_an_axis_may_be_groups_of_the_test_questions_which_leave_nobody_out(toy):
    columns = toy("fig1", axis=axis(groups=[0, 4, 8], by="activity"))["fig1"].columns[:3]
    assert [(column.id, column.label) for column in columns] == [
        ("planted noise=0", "up to 3"), ("planted noise=4", "4 to 7"), ("planted noise=8", "8 or more")]
    assert [(column.group.by, column.group.low, column.group.high) for column in columns] == [
        ("activity", 0, 3), ("activity", 4, 7), ("activity", 8, None)]
    assert len({column.overrides for column in columns}) == 1


@pytest.mark.parametrize("wrong", [axis(), axis(values={0: ""}, sets={0: "test"}), axis(values={0: ""}, by="activity")])
def test_an_axis_is_of_one_kind(toy, wrong):
    with pytest.raises(RequestError, match="axis"):
        toy("fig1", axis=wrong)


def test_a_second_reading_of_a_method_is_compared_with_the_number_of_the_first(toy):
    numbers = ["table2,planted,a,,recall,20,0.5"]
    rows = {id_: {"name": id_, "run": "model=bprmf"} | given
            for id_, given in (("a", {}), ("c", {"paper": "a"}), ("d", {}))}
    table = toy(numbers=numbers, rows=rows)["table2"]
    found = [printed(table, row, table.columns[0], "recall@20") for row in table.rows if not row.beyond]
    assert found == [0.5, 0.5, None]


def test_the_figures_of_a_paper_agree_on_the_colours_of_its_methods(toy):
    rows = {id_: {"name": id_, "run": "model=bprmf"} for id_ in ("c", "b")}
    for profile in (None, "smoke"):
        artifacts = toy("fig2", profile, **TOY["artifacts"]["fig1"] | {"rows": rows | TOY["artifacts"]["fig1"]["rows"]})
        assert artifacts["fig1"].colours == artifacts["fig2"].colours == ("a", "c", "b")


def test_a_folder_without_specs_and_a_file_that_is_none_are_refused(toy, tmp_path):
    with pytest.raises(RequestError, match="holds no spec; let RECOT_EXPERIMENTS name a folder"):
        papers()
    papers.cache_clear()
    toy()
    papers.cache_clear()
    (tmp_path / "toy.yaml").write_text("title: [oops")
    with pytest.raises(RequestError, match=r"toy\.yaml is no yaml: "):
        load("toy")
    (tmp_path / "toy.yaml").write_text("title: Toy\nseeds: [0]")
    with pytest.raises(RequestError, match=r"toy\.yaml lacks artifacts, data"):
        load("toy")
