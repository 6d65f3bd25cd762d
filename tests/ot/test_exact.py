"""Transport without entropy."""

import sys

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from recot.ot import exact
from recot.ot.exact import exact_plan
from recot.ot.sinkhorn import sinkhorn


def costs(m, n, seed=0):
    return torch.rand(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_square_costs_it_is_the_best_assignment():
    cost = costs(12, 12)
    rows, columns = linear_sum_assignment(cost.numpy())
    expected = torch.zeros(12, 12, dtype=torch.float64)
    expected[rows, columns] = 1 / 12
    torch.testing.assert_close(exact_plan(cost), expected)


def test_it_has_uniform_marginals_few_entries_and_costs_least():
    cost = costs(7, 30)
    plan = exact_plan(cost)
    torch.testing.assert_close(plan.sum(1), torch.full((7,), 1 / 7, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(0), torch.full((30,), 1 / 30, dtype=torch.float64))
    assert int((plan > 0).sum()) <= 7 + 30 - 1
    marginals = [torch.full((size,), 1 / size, dtype=torch.float64).log() for size in (7, 30)]
    entropic = sinkhorn(-cost / 0.05, *marginals, 500).exp()
    assert (plan * cost).sum() < (entropic * cost).sum()


def test_without_pot_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install 'recot\[exact\]'"):
        exact_plan(costs(2, 3))


def test_a_simplex_that_stops_early_is_an_error(monkeypatch):
    monkeypatch.setattr(exact, "ITERATIONS", 1)
    with pytest.raises(RuntimeError, match="of 40 x 60 stopped early"):
        exact_plan(costs(40, 60))
