"""What is said of lists: by hand, by other libraries, by laws, and what a run and a table do with it."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from commands import TINY, composed, execute

from recot.artifacts import verify
from recot.artifacts.collect import paired_tests
from recot.artifacts.spec import Artifact, Column, Row
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query
from recot.evaluation.lists import LISTS, TOGETHER, Lists, coverage, gini, graded, intra_list_similarity
from recot.evaluation.recommender import Recommender
from recot.pages.table import leaders
from recot.record import attempt
from recot.record.lines import CellLine
from recot.record.provenance import source_digest
from recot.record.record import run_line
from recot.record.store import Runs
from recot.request.errors import RequestError
from recot.request.schema import list_names, of_lists
from recot.restore import restore

SHOWN = [[5, 6, 7, 11, 9], [0, 8, 2, 10, 9], [3, 11, 0, 8, 4], [3, 4, 11, 6, 5], [3, 11, 5, 10, 8], [1, 11, 10, 0, 4],
         [5, 6, 10, 8, 9], [8, 1, 10, 0, 2], [0, 3, 5, 4, 7]]
COUNTS = [2, 0, 1, 3, 7, 8, 5, 5, 5, 0, 3, 8, 3, 1]
VECTORS = [[0.11, 0.06, -1.23], [0.08, 1.36, -1.55], [0.86, 0.12, -0.64], [2.0, 0.76, -1.2], [0.07, 0.58, -0.19],
           [0.68, -0.07, 0.67], [1.44, -0.68, 0.2], [-0.46, 0.13, -1.19], [-0.58, -0.2, 0.9], [1.15, -1.32, -0.79],
           [0.65, -1.99, -0.46], [-0.1, 1.26, 0.69], [-0.33, -0.37, -0.25], [1.52, -0.43, -0.3]]
# Computed once from these by rectools 0.19.0 (CatalogCoverage, AvgRecPopularity), recbole 1.2.1 (GiniIndex,
# ItemCoverage, which agrees with rectools) and recmetrics 0.1.5 (intra_list_similarity).
OTHERS = {"coverage@1": 0.35714285714285715, "coverage@3": 0.7857142857142857, "coverage@5": 0.8571428571428571,
          "popularity@1": 3.7777777777777777, "popularity@5": 4.377777777777778,
          "gini@1": 0.7222222222222222, "gini@3": 0.42063492063492064, "gini@5": 0.2968253968253968,
          "intra_list_similarity@3": -0.03400535901725181, "intra_list_similarity@5": 0.04720877854422994}
OF_USERS = {"popularity@3": [6.0, 8 / 3, 13 / 3, 6.0, 19 / 3, 11 / 3, 16 / 3, 8 / 3, 13 / 3],
            "intra_list_similarity@3": [
                -0.21219038312525604, -0.3823079623289769, 0.03796726597621488, 0.39558194479810666, 0.1387596693937434,
                -0.38703591671289556, 0.5091337106031805, -0.4565103387146516, 0.050553778955268434]}


def lists(shown=SHOWN, counts=COUNTS, vectors=VECTORS):
    return Lists(Ragged.from_lists(shown), torch.tensor(counts), torch.tensor(vectors, dtype=torch.float64))


def value(name, given):
    return LISTS[name.partition("@")[0]](given, int(name.partition("@")[2]))


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_what_other_libraries_say(name):
    assert float(value(name, lists()).mean()) == pytest.approx(OTHERS[name], abs=1e-12)


@pytest.mark.parametrize("name", OF_USERS)
def test_each_user_has_the_value_that_other_libraries_give(name):
    np.testing.assert_allclose(value(name, lists()), OF_USERS[name], atol=1e-12)


@pytest.mark.parametrize("name", LISTS)
def test_a_metric_of_each_list_has_a_value_for_each_user_and_one_of_all_together_one(name):
    assert value(f"{name}@3", lists()).shape == (() if name in TOGETHER else (9,))


def test_gini_is_0_where_all_are_shown_alike_and_nearly_1_where_all_are_shown_the_same():
    assert gini(lists([[item] for item in range(14)]), 1) == 0
    assert float(gini(lists([[3]] * 20), 1)) == pytest.approx(1 - 1 / 14)


@pytest.mark.parametrize("k", [1, 4, 9])
def test_gini_is_half_the_mean_difference_of_two_items_over_the_mean(rng, k):
    shown = torch.rand(40, 25, generator=rng).argsort(1)[:, :9].tolist()
    given = lists(shown, [0] * 25)
    counts = given.exposure(k).double()
    assert float(gini(given, k)) == pytest.approx(float((counts[:, None] - counts).abs().mean() / counts.mean() / 2))


def test_more_places_show_no_less_of_the_catalogue():
    found = [float(coverage(lists(), k)) for k in range(1, 8)]
    assert found == sorted(found) and found[4] == found[6]  # the lists have five items


def test_similarity_does_not_hang_on_lengths_and_a_list_of_copies_has_1():
    scaled = (torch.tensor(VECTORS) * torch.arange(1, 15)[:, None]).tolist()
    torch.testing.assert_close(intra_list_similarity(lists(vectors=scaled), 4), intra_list_similarity(lists(), 4),
                               rtol=1e-6, atol=1e-6)
    copies = lists([[0, 1, 2], [4]], [1] * 5, [[3.0, 4.0]] * 5)
    torch.testing.assert_close(intra_list_similarity(copies, 3), torch.tensor([1.0, 0.0], dtype=torch.float64))


class Given(Recommender):
    def __init__(self, scores):
        self.scores = scores

    def score(self, query):
        return self.scores[query.users].clone()


def asked(seen, n_users=2, candidates=None, among=None):
    rows = Ragged.from_lists(seen)
    return EvalSet(Query(torch.arange(n_users), rows), rows, rows, candidates, "test", among=among)


TRAIN = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 4)


def test_the_lists_are_those_that_are_served_without_what_is_left_out():
    """User 0 has one item left and user 1 three, of which two are shown; a cut of 9 is one of 4."""
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 4.0]])
    found = graded(Given(scores), asked([[0, 1, 2], [3]]), TRAIN, ["popularity@2", "coverage@2", "popularity@9"])
    assert found["popularity@2"].tolist() == [0.0, 1.0]  # item 3; items 2 and 1, of which two users took the second
    assert found["coverage@2"] == 0.75
    assert found["popularity@9"].tolist() == [0.0, 1.0]  # items 2, 1 and 0


@pytest.mark.parametrize("part", [{"candidates": torch.tensor([[0, 1], [2, 3]])}, {"among": slice(0, 2)}])
def test_lists_over_a_part_of_the_items_are_refused(part):
    with pytest.raises(ValueError, match="ranks a part of the items.*use protocol=topk, or leave them out"):
        graded(Given(torch.zeros(2, 4)), asked([[0], [1]], **part), TRAIN, ["coverage@1"])


def test_similarity_without_vectors_is_refused():
    with pytest.raises(ValueError, match="the model has none; use a network such as model=bprmf, or leave"):
        graded(Given(torch.zeros(2, 4)), asked([[0], [1]]), TRAIN, ["intra_list_similarity@2"])


def test_the_names_known_without_torch_are_those_of_the_code():
    assert list_names() == list(LISTS) and of_lists(["recall@5", "gini@5", "mrr"]) == ["gini@5"]


ALL = ["recall@10", "coverage@10", "ndcg@10", "gini@10", "popularity@10", "intra_list_similarity@10"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def run(runs, *words, metrics=ALL):
    record = execute(runs, f"metrics=[{','.join(metrics)}]", *words)
    return record, runs / record["key"]


@pytest.mark.parametrize("words", [("model=bprmf",), ("model=vae",), ("model=sasrec", "protocol=sequence"),
                                   ("model=lightgcn", "denoiser=iterative", "denoiser.a=0.5")], ids=" ".join)
def test_a_run_reports_its_served_lists_in_the_order_that_was_asked_for(runs, words):
    record, folder = run(runs, *words)
    assert [*record["test"]] == [*record["valid"]] == ALL
    assert [*record["floor"]["test"]] == ALL[:-1]  # popularity has no vectors
    shown = restore(folder).lists(10, tested=True)
    train = restore(folder).split.train
    items = torch.from_numpy(shown["item"].to_numpy())  # planted items are their own raw ids
    counts = torch.bincount(items, minlength=train.n_items)
    assert record["test"]["coverage@10"] == pytest.approx(float((counts > 0).double().mean()))
    by_user = shown.assign(count=train.popularity[items].numpy()).groupby("user")["count"].mean()
    assert record["test"]["popularity@10"] == pytest.approx(by_user.mean())
    file = pd.read_parquet(folder / "test.parquet").set_index("user")
    assert not {"coverage@10", "gini@10"} & {*file.columns}  # no user has a part of them
    np.testing.assert_allclose(file["popularity@10"], by_user.loc[file.index])
    assert file["intra_list_similarity@10"].mean() == pytest.approx(record["test"]["intra_list_similarity@10"])


def test_what_is_said_of_lists_changes_no_other_answer_and_no_code_of_others(runs):
    plain, _ = run(runs, "model=bprmf", metrics=["recall@10", "ndcg@10"])
    more, _ = run(runs, "model=bprmf")
    assert more["digest"] == plain["digest"] and more["key"] != plain["key"]
    assert {name: more["test"][name] for name in plain["test"]} == plain["test"]
    configs = [composed("model=bprmf", f"metrics=[{','.join(names)}]")[0] for names in (ALL[:1], ALL)]
    assert source_digest(configs[0]) == plain["sources"] != source_digest(configs[1]) == more["sources"]


def test_validation_lists_of_a_refitted_run_count_what_the_first_fit_was_trained_on(runs):
    record, folder = run(runs, "model=itemknn", "protocol=denoise", metrics=["ndcg_full@5", "popularity@5"])
    config, _ = composed(*[f"data.{name}={number}" for name, number in (("n_users", 60), ("mean_activity", 8))],
                         "model=itemknn", "protocol=denoise")
    finished = restore(folder)
    before = attempt.ask_questions(config, finished.dataset)
    model = attempt.build(config).fit(before)
    expected = graded(model, before.valid, before.train, ["popularity@5"])["popularity@5"]
    assert record["valid"]["popularity@5"] == pytest.approx(float(expected.mean()))


def test_a_finished_run_is_brought_back_with_its_metrics_of_lists(runs):
    _, folder = run(runs, "model=itemknn", metrics=ALL[:-1])
    assert json.loads((folder / "record.json").read_text())["config"]["metrics"] == ALL[:-1]
    assert len(restore(folder).lists(3))


def test_a_run_with_metrics_of_lists_is_verified_by_its_other_answers(runs):
    for model in ("bprmf", "itemknn"):
        words = (f"model={model}", f"metrics=[{','.join(ALL[:-1])}]")
        record = execute(runs, *words)
        config, _ = composed(*TINY, *words)
        assert verify.departure(config, run_line(record)) == ""


def test_no_paired_test_asks_users_for_what_is_said_of_lists(runs):
    keys = [run(runs, f"model={model}", metrics=ALL[:-1])[0]["key"] for model in ("popularity", "itemknn")]
    given = dict.fromkeys(("paper", "name", "title", "note"), "")
    rows = tuple(Row(key, key, (), False) for key in keys)
    artifact = Artifact(kind="results", rows=rows, columns=(Column("c", "planted", "C", ()),),
                        metrics=("ndcg@10", "gini@10"), seeds=(0,), **given)
    found = [CellLine("t", key, "c", metric, seeds=(0,), mean=0.5, keys=(key,))
             for key in keys for metric in artifact.metrics]
    faults = []
    assert [test.metric for test in paired_tests(artifact, found, Runs(runs), [], faults)] == ["ndcg@10"]
    assert faults == []


@pytest.mark.parametrize(("words", "said"), [
    (("metrics=[coverage@20]",), "says nothing of held-out items; add one that does, such as recall@20"),
    (("metrics=[recall@20,gini]",), "'gini' needs a whole cut-off above 0, for example gini@20"),
    (("metrics=[recall@20,coverag@20]",), "no metric 'coverag'. Did you mean 'coverage'"),
    (("protocol.monitor=gini@20",), "use protocol.monitor=ndcg@20, and report gini@20 by metrics="),
    (("data.n_domains=3", "protocol=domains", "metrics=[hr@10,gini@3]"), "ranks a few; leave gini@3 out, or use"),
    (("model=itemknn", "metrics=[hr@10,intra_list_similarity@3]"), "ItemKNN has none; use a network such as model=bpr"),
    (("metrics=[hr@10,intra_list_similarity@1]",), "give intra_list_similarity@2 or more"),
    (("model=bprmf", "data.n_domains=3", "domains=each", "metrics=[hr@10,intra_list_similarity@3]"),
     "use domains=joint, or leave intra_list_similarity@3 out")])
def test_what_cannot_be_said_is_refused_before_anything_is_trained(words, said):
    with pytest.raises(RequestError, match=said):
        composed(*words)


def test_no_row_of_a_table_is_the_best_by_what_is_said_of_lists():
    given = dict.fromkeys(("paper", "name", "title", "note"), "")
    artifact = Artifact(kind="results", rows=(), columns=(), metrics=("recall@5", "gini@5", "popularity@5",
                                                                     "fit_seconds"), seeds=(0,), **given)
    assert artifact.contested == ("recall@5",) and leaders(artifact, None, {}) == {}
