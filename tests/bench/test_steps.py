"""The comparisons of ``make bench`` compare the same thing."""

import pytest
import torch

from recot.batches.pairs import pairs
from recot.bench import plain, prorec_scale, steps
from recot.bench.steps import interleaved
from recot.data.interactions import Interactions
from recot.data.questions import Query
from recot.denoise.base import Denoiser
from recot.denoise.soft_matching import SoftMatching
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


def test_interleaving_alternates_and_reports_the_median_ratio(monkeypatch):
    clock, calls = iter(range(1000)), []
    monkeypatch.setattr("recot.bench.steps.time.perf_counter", lambda: float(next(clock)))
    ours, other, ratio = interleaved(lambda: calls.append("ours"), lambda: calls.append("other"), rounds=3)
    assert calls == ["ours", "other"] * 4 and (ours, other, ratio) == (1.0, 1.0, pytest.approx(1.0))


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


def test_full_ranking_is_compared_with_its_products(monkeypatch):
    for name, size in (("N_USERS", 60), ("N_ITEMS", 80), ("N_PAIRS", 60 * 20)):
        monkeypatch.setattr(steps, name, size)
    row = steps.evaluation_row(steps.synthetic(), 50, 2)
    assert row.ratio > 0 and row.ours > 0 and "50 users" in row.job


def test_a_step_with_large_tables_is_compared_with_a_dense_one():
    row = steps.large_row(1, 300)
    assert row.ratio > 0 and row.ours > 0 and "600 rows" in row.job
