"""The comparisons of ``make bench`` compare the same thing."""

import pytest
import torch

from recot.bench import DIM, N_ITEMS, N_USERS, StraightSCLRec, interleaved
from recot.data.batches import pairs
from recot.data.interactions import Interactions
from recot.denoise.soft_matching import SoftMatching
from recot.networks.tables import Tables


def test_the_straight_sclrec_and_ours_have_the_same_targets(rng):
    keys = torch.randint(N_USERS * N_ITEMS, (3000,), generator=rng).unique()
    train = Interactions.from_pairs(keys // N_ITEMS, keys % N_ITEMS, N_USERS, N_ITEMS)
    straight, network = StraightSCLRec(train), Tables(N_USERS, N_ITEMS, DIM)
    with torch.no_grad():
        for embedding, table in zip(straight.teacher, (network.user_table, network.item_table), strict=True):
            table.weight.copy_(embedding.weight)
    denoiser = SoftMatching()
    denoiser.bind(network, train)
    batch = next(pairs(train, 128, rng))
    ours = denoiser.before(batch, network).targets
    torch.testing.assert_close(straight.targets(batch.query.users, batch.items).detach(), ours, atol=1e-5, rtol=0)


def test_interleaving_alternates_and_reports_the_median_ratio(monkeypatch):
    clock, calls = iter(range(1000)), []
    monkeypatch.setattr("recot.bench.time.perf_counter", lambda: float(next(clock)))
    ours, other, ratio = interleaved(lambda: calls.append("ours"), lambda: calls.append("other"), rounds=3)
    assert calls == ["ours", "other"] * 4 and (ours, other, ratio) == (1.0, 1.0, pytest.approx(1.0))
