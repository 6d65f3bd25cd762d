"""Finished runs side by side: means, intervals and tests as scipy has them, and what may not stand in one table."""

import logging
import statistics

import numpy as np
import pytest
from compared import CONFIG, leave
from scipy import stats

from recot.artifacts.comparison import compare, finished, groups
from recot.record.store import Runs
from recot.request.errors import RequestError

BEST = [[0.9, 0.8, 0.7, 0.9, 0.6], [0.8, 0.8, 0.5, 0.9, 0.8]]
SECOND = [0.5, 0.8, 0.6, 0.9, 0.4]
WORST = [0.1, 0.2, 0.1, 0.3, 0.1]


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def of(runs, *keys, **options):
    return compare(finished(runs, keys), runs, **options)


def three(root):
    """Two seeds of the best method, one of two others."""
    return [leave(root, 1, BEST[0]), leave(root, 2, BEST[1], seed=1), leave(root, 3, SECOND, model="bprmf"),
            leave(root, 4, WORST, model="popularity")]


def test_methods_have_means_over_seeds_intervals_and_tests_over_users_and_holm_s_correction(runs):
    found = of(runs, *three(runs.root), metrics=["ndcg@20"])
    assert [method.label for method in found.methods] == ["clrec", "bprmf", "popularity"]
    best, second, worst = (method.values["ndcg@20"] for method in found.methods)
    means = [statistics.fmean(values) for values in BEST]
    assert (best.mean, best.std) == (pytest.approx(statistics.fmean(means)), pytest.approx(statistics.stdev(means)))
    assert second.std is None and best.p is best.p_holm is None
    users = np.mean(BEST, 0)
    low, high = stats.t.interval(0.95, 4, users.mean(), stats.sem(users))
    assert (best.low, best.high) == (pytest.approx(low), pytest.approx(high))
    p = [stats.ttest_rel(values, users).pvalue for values in (SECOND, WORST)]
    assert [second.p, worst.p] == pytest.approx(p) and p[1] < p[0]
    assert [second.p_holm, worst.p_holm] == pytest.approx([p[0], 2 * p[1]])
    assert second.difference == pytest.approx(np.mean(SECOND) - users.mean())
    assert (found.users, found.tests, found.split) == (5, 2, "5" * 16)


def test_holm_corrects_for_all_tests_of_the_table(runs):
    found = of(runs, *three(runs.root))
    assert found.metrics == ("ndcg@20", "recall@20") and found.tests == 4  # the monitor comes first
    p = stats.ttest_rel(WORST, np.mean(BEST, 0)).pvalue
    worst = found.methods[-1].values
    assert worst["ndcg@20"].p_holm == worst["recall@20"].p_holm == pytest.approx(4 * p)


def test_what_a_method_cost_is_the_mean_over_its_seeds_and_its_command_makes_all_of_them(runs):
    clrec, bprmf, _ = of(runs, *three(runs.root)).methods
    assert (clrec.epochs, clrec.seconds, clrec.memory, clrec.seeds) == (10.5, 2.5, 501, (0, 1))
    assert clrec.command == "python -m recot.run model=clrec seed=0,1 -m"
    assert bprmf.command == "python -m recot.run model=bprmf"


def test_the_first_metric_that_is_named_orders_the_methods(runs):
    keys = [leave(runs.root, 1, [0.5, 0.4], test={"ndcg@20": 0.45, "recall@20": 0.1}),
            leave(runs.root, 2, [0.3, 0.2], model="ease", test={"ndcg@20": 0.25, "recall@20": 0.2})]
    assert [method.label for method in of(runs, *keys).methods] == ["clrec", "ease"]
    assert [method.label for method in of(runs, *keys, metrics=["recall@20"]).methods] == ["ease", "clrec"]


def test_a_label_is_the_shortest_set_of_settings_that_tells_a_method_from_the_others(runs):
    def settings(**changes):
        return {"loss": {"tau": 0.1} | changes, "model": CONFIG["model"] | {"dim": 64}}

    keys = [leave(runs.root, 1, [0.9, 0.5], config=settings()),
            leave(runs.root, 2, [0.8, 0.5], config=settings(tau=0.2)),
            leave(runs.root, 3, [0.7, 0.5], config=settings(tau=0.2, duplicates="mask")),
            leave(runs.root, 4, [0.6, 0.5], denoiser="soft_matching", config=settings() | {"denoiser": {"lam": 0.1}}),
            leave(runs.root, 5, [0.5, 0.5], model="bprmf")]
    assert [method.label for method in of(runs, *keys).methods] == [
        "clrec denoiser=none loss.tau=0.1", "clrec loss.tau=0.2", "clrec loss.duplicates=mask",
        "clrec denoiser=soft_matching", "bprmf"]


def test_runs_of_former_and_of_present_code_are_one_method(runs):
    former = CONFIG | {"model": {"_target_": "recot.networks.tables.Tables", "dim": 64}}
    today = CONFIG | {"domains": "joint", "noise": {"seen": "all"}}
    keys = [leave(runs.root, 1, [0.9, 0.5], config=former | {"noise": {}}), leave(runs.root, 2, [0.9, 0.5], 1,
                                                                                  config=today)]
    assert [method.seeds for method in of(runs, *keys).methods] == [(0, 1)]


@pytest.mark.parametrize(("changes", "words"), [
    ({"split": "6" * 16}, r"split 5{16}: 0+1; split 6{16}: 0+2; take one split with --split 55555555"),
    ({"split": "6" * 16, "data": "csv"}, r"split 5{16} \(data=planted\): 0+1; split 6{16} \(data=csv\): 0+2"),
    ({"floor": {"valid": {}, "test": {}, "books": {}}}, "test sets test: 0+1; test sets books, test: 0+2"),
    ({"test": {"ndcg@20": 0.1}}, "metrics ndcg@20, recall@20: 0+1; metrics ndcg@20: 0+2; name what all of them have "
                                 "with --metric"),
    ({"config": {"protocol": {"monitor": "recall@20"}}}, "monitor ndcg@20.*: 0+1; monitor recall@20.*: 0+2")])
def test_runs_that_did_not_answer_the_same_questions_are_refused_with_what_differs(runs, changes, words):
    keys = [leave(runs.root, 1, [0.9, 0.5]), leave(runs.root, 2, [0.9, 0.5], model="ease", **changes)]
    with pytest.raises(RequestError, match=f"these 2 runs did not answer the same questions: {words}"):
        of(runs, *keys)
    assert len(groups(finished(runs, keys))) == 2


def test_the_order_of_metrics_is_no_difference(runs):
    keys = [leave(runs.root, 1, [0.9, 0.5]), leave(runs.root, 2, [0.9, 0.7], model="ease",
                                                   test={"ndcg@20": 0.8, "recall@20": 0.4})]
    assert [method.label for method in of(runs, *keys).methods] == ["ease", "clrec"]


def test_what_all_runs_have_compares_where_it_is_named(runs):
    keys = [leave(runs.root, 1, [0.9, 0.5]), leave(runs.root, 2, [0.9, 0.7], model="ease", test={"ndcg@20": 0.8})]
    assert [method.label for method in of(runs, *keys, metrics=["ndcg@20"]).methods] == ["ease", "clrec"]
    with pytest.raises(RequestError, match="not all of these runs answer 'recall@20'. Did you mean 'ndcg@20'|Known"):
        of(runs, *keys, metrics=["recall@20"])
    with pytest.raises(RequestError, match="these runs have no test set 'tset'. Did you mean 'test'?"):
        of(runs, *keys, metrics=["ndcg@20"], questions="tset")


def test_methods_that_were_tested_on_other_users_are_an_error(runs):
    keys = [leave(runs.root, 1, [0.9, 0.5]), leave(runs.root, 2, [0.9, 0.5], model="ease", users=["u1", "u0"])]
    with pytest.raises(ValueError, match="the runs ease and clrec were tested on different users"):
        of(runs, *keys)


def test_damaged_and_unfinished_runs_are_named_and_left_out(runs, caplog):
    good, bad = leave(runs.root, 1, [0.9, 0.5]), leave(runs.root, 2, [0.9, 0.5], model="ease")
    (runs.root / bad / "record.json").write_text("{")
    runs.put("f" * 16, {"status": "failed", "error": "no\nluck", "data": "planted"})
    (runs.root / ("a" * 16)).mkdir()
    with caplog.at_level(logging.WARNING):
        found = finished(runs, [good, bad, "f" * 16, "a" * 16])
    assert [record.content["key"] for record in found] == [good]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3 and f"{bad}/record.json is not a record" in told[0]
    assert told[1].endswith("is failed (no luck)") and "holds no record" in told[2]
    assert finished(runs, [good, "f" * 16], data="gowalla") == []


def test_a_method_whose_answers_are_gone_has_its_numbers_and_no_interval_and_no_test(runs, caplog):
    keys = three(runs.root)
    (runs.root / keys[2] / "test.parquet").unlink()
    with caplog.at_level(logging.WARNING):
        found = of(runs, *keys, metrics=["ndcg@20"])
    gone = found.methods[1].values["ndcg@20"]
    assert gone.mean == pytest.approx(statistics.fmean(SECOND)) and gone.low is gone.p is None and found.tests == 1
    assert "bprmf has no interval and no test" in caplog.text and "is gone" in caplog.text


def test_one_user_has_no_interval_and_no_test(runs):
    found = of(runs, leave(runs.root, 1, [0.9]), leave(runs.root, 2, [0.5], model="ease"))
    assert found.tests == 0 and found.methods[0].values["ndcg@20"].low is None and found.users == 1
