"""The comparisons of ``make bench`` compare the same thing."""

import pytest
import torch

from recot.batches.pairs import pairs
from recot.bench import drawn, plain, prorec_scale, ranking
from recot.bench.measure import Times, interleaved
from recot.bench.steps import cells, large_row
from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.denoise.base import Denoiser
from recot.denoise.soft_matching import SoftMatching
from recot.evaluation.evaluate import evaluate
from recot.networks.factorisation import Tables
from recot.networks.lightgcn import LightGCN
from recot.objectives.pairs import BPR, DirectAU, InfoNCE
from recot.objectives.transport import SinkhornCF


@pytest.fixture
def train(rng):
    keys = torch.randint(300 * 200, (3000,), generator=rng).unique()
    return Interactions.from_pairs(keys // 200, keys % 200, 300, 200)


@pytest.mark.parametrize(("other", "objective", "denoiser", "network"), [
    (plain.BPRMF, BPR(), Denoiser(), Tables), (plain.DirectAU, DirectAU(), Denoiser(), Tables),
    (lambda *given: plain.LightGCN(*given, 3), BPR(penalty=1e-4), Denoiser(), LightGCN),
    (plain.SCLRec, InfoNCE(), SoftMatching(), Tables)], ids=["bprmf", "directau", "lightgcn", "sclrec"])
def test_the_straight_version_and_ours_have_the_same_loss(train, rng, other, objective, denoiser, network):
    plain, ours = other(train, 8, 128), network(300, 200, 8)
    ours.bind(train)
    with torch.no_grad():
        ours.user_table.weight.copy_(plain.user.weight)
        ours.item_table.weight.copy_(plain.item.weight)
    ours.after_step()
    denoiser.bind(ours, train)
    batch = next(pairs(train, 128, rng, negatives=1))
    plain.negatives = lambda: batch.negatives[:, 0]
    loss, _ = objective(ours, denoiser.before(batch, ours))
    torch.testing.assert_close(plain.loss(batch.query.users, batch.items), loss.mean(), atol=1e-5, rtol=1e-5)


def test_the_transport_user_by_user_and_ours_have_the_same_loss(train, rng):
    objective = SinkhornCF(40, k=7, n_iters=3)
    batch = next(objective.batches(train, rng, Tables(300, 200, 8), 0))
    log_p = torch.randn(40, 200, generator=rng).log_softmax(1)
    items = batch.query.history.values.split(batch.query.history.lengths.tolist())
    torch.testing.assert_close(plain.transported(objective.cost.whole(), items, log_p, 7, 3),
                               objective.to_top(batch, log_p)[0], atol=1e-6, rtol=1e-5)


def test_interleaving_alternates_and_reports_the_median_ratios(monkeypatch):
    wall, cpu, calls = iter(range(1000)), iter(range(0, 2000, 2)), []
    monkeypatch.setattr("recot.bench.measure.time.perf_counter", lambda: float(next(wall)))
    monkeypatch.setattr("recot.bench.measure.time.process_time", lambda: float(next(cpu)))
    times = interleaved(lambda: calls.append("ours"), lambda: (calls.append("other"), next(cpu)), rounds=3)
    assert calls == ["ours", "other"] * 4 and times == (1.0, 1.0, 1.0, 2.0, 4.0, 0.5)


def test_what_was_not_measured_is_left_empty():
    nothing = float("nan")
    assert cells(Times(0.5, nothing, nothing, 0.25, nothing, nothing)) == ["500.0", "", "", "250.0", "", ""]


def test_the_pairs_and_scores_of_the_large_relabelling_are_of_the_size_they_claim(monkeypatch):
    train = prorec_scale.drawn_pairs(40)
    assert train.n_items == prorec_scale.N_ITEMS
    assert 0.95 * 40 * prorec_scale.PER_USER < len(train) <= 40 * prorec_scale.PER_USER
    scores = prorec_scale.Drawn(40).score(Query(torch.arange(40), train.by_user))
    assert scores.shape == (40, prorec_scale.N_ITEMS) and 0 < float(scores.quantile(0.5)) < 1


def test_the_large_relabelling_reports_time_and_memory(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scale", "--users", "3"])
    prorec_scale.main()
    assert "3 users x 46,110 items" in (printed := capsys.readouterr().out) and "MiB beside the factors" in printed


@pytest.fixture
def small(monkeypatch):
    for name, size in (("N_USERS", 60), ("N_ITEMS", 80), ("N_PAIRS", 60 * 20)):
        monkeypatch.setattr(drawn, name, size)
    return drawn.synthetic()


def test_full_ranking_is_compared_with_its_products_with_implicit_and_popularity_with_itself(small):
    rows = list(ranking.evaluation_rows(small, 50, 2))
    assert ["50 users" in rows[0].job, "implicit" in rows[1].job, "popularity" in rows[2].job] == [True] * 3
    assert all(value > 0 for row in rows for value in row.times)


def test_without_implicit_the_same_ranking_is_timed_alone(small, monkeypatch):
    monkeypatch.setattr(ranking.importlib.util, "find_spec", lambda name: None)
    _, row, _ = ranking.evaluation_rows(small, 50, 1)
    assert "implicit is not installed" in row.job and row.times.cpu > 0 and row.times.ratio != row.times.ratio


def test_implicit_ranks_the_same_vectors(small):
    """Its nDCG divides by the gain of as many hits as there are targets, and so does ours."""
    test = small.test[0]
    network = Tables(60, 80, 8)
    theirs = ranking.of_implicit(network.user_table.weight.detach()[test.query.users],
                                 network.item_table.weight.detach(), test)()
    ours = evaluate(ranking.Served(network), test, ["ndcg@20", "map@20"])
    assert float(ours["ndcg@20"].mean()) == pytest.approx(theirs["ndcg"], abs=1e-4)
    assert float(ours["map@20"].mean()) == pytest.approx(theirs["map"], abs=1e-4)


def test_every_shape_makes_all_scores(monkeypatch):
    users, items, made = torch.randn(70, 3), torch.randn(90, 3), []
    monkeypatch.setattr(ranking, "seconds", lambda way: (way(), made.append(1), (1.0, 1.0))[-1])
    ranking.floor(users, items)()
    assert len(made) == 3 * (len(ranking.SHAPES) + 1)


def test_a_step_with_large_tables_is_compared_with_a_dense_one():
    row = large_row(1, 300)
    assert row.times.ratio > 0 < row.times.cpu and "600 rows" in row.job
