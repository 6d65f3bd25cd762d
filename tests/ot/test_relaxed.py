"""Partially relaxed transport: each half is a half-step of Sinkhorn, and blocks change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recot.ot.relaxed import column_potential, column_sums, relaxed_rows
from recot.ot.sinkhorn import sinkhorn

SEEDS = st.integers(0, 2**31)


def problem(seed, m=6, n=9, scale=3.0):
    rng = torch.Generator().manual_seed(seed)
    kernel = scale * torch.randn(m, n, generator=rng, dtype=torch.float64)
    q, p = (torch.rand(size, generator=rng, dtype=torch.float64) + 0.1 for size in (m, n))
    return kernel, (q / q.sum()).log(), (p / p.sum()).log()


def in_blocks(kernel, size, backwards=False):
    parts = list(torch.arange(len(kernel)).split(size))
    return lambda: ((place, kernel[place].clone()) for place in (parts[::-1] if backwards else parts))


def relaxed(kernel, log_q, log_p, size):
    columns = column_sums(in_blocks(kernel, size), log_p)
    return torch.cat([relaxed_rows(block, log_q[place], log_p, columns)
                      for place, block in in_blocks(kernel, size)()])


def test_the_worked_example_of_the_paper_s_equations():
    kernel = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]], dtype=torch.float64) / 0.5
    q, p = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)
    plan = relaxed(kernel, q.log(), p.log(), 1).exp()
    expected = torch.tensor([[0.443494, 0.166667, 0.060020], [0.039734, 0.166667, 0.293599]], dtype=torch.float64)
    torch.testing.assert_close(plan, expected, atol=1e-6, rtol=0)
    assert plan.sum() == pytest.approx(1.170181, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_the_plan_is_the_larger_of_the_first_half_steps_of_sinkhorn_from_either_side(seed):
    kernel, log_q, log_p = problem(seed)
    by_row = sinkhorn(kernel, log_q, log_p, 0)
    by_column = sinkhorn(kernel.T, log_p, log_q, 0).T
    plan = relaxed(kernel, log_q, log_p, 2)
    torch.testing.assert_close(plan, torch.maximum(by_row, by_column))
    assert bool((plan.logsumexp(1) >= log_q - 1e-12).all()) and bool((plan.logsumexp(0) >= log_p - 1e-12).all())
    assert 1 - 1e-12 <= plan.exp().sum() <= 2 + 1e-12


@pytest.mark.parametrize("size", [1, 4, 6])
@pytest.mark.parametrize("backwards", [False, True])
def test_blocks_of_any_size_in_any_order_give_the_sums_of_the_whole(size, backwards):
    kernel, _, log_p = problem(1, scale=300.0)  # exp of it overflows float64
    sums = column_sums(in_blocks(kernel, size, backwards), log_p)
    torch.testing.assert_close(sums, kernel.logsumexp(0), atol=0, rtol=1e-14)


def test_an_item_nobody_has_and_a_user_with_nothing_get_no_nan():
    kernel, log_q, log_p = problem(2)
    log_q[3], log_p[5] = -torch.inf, -torch.inf
    plan = relaxed(kernel, log_q, log_p, 2)
    assert not bool(plan.isnan().any())
    torch.testing.assert_close(plan[:, 5].exp(), (log_q + kernel[:, 5] - kernel.logsumexp(1)).exp())


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([1, 4, 6]))
def test_the_column_potential_gives_sinkhorn_s_rows(seed, size):
    kernel, log_q, log_p = problem(seed, scale=1.0)
    g = column_potential(in_blocks(kernel, size), log_q, log_p, 7, 0.0)
    potential = torch.zeros_like(log_p)
    for _ in range(7):
        f = log_q - (kernel + potential).logsumexp(1)
        potential = log_p - (kernel + f[:, None]).logsumexp(0)
    torch.testing.assert_close(g, potential)


def test_sinkhorn_ends_where_the_rows_are_off_by_less_than_the_tolerance():
    kernel, log_q, log_p = problem(4, scale=1.0)
    passes = []

    def blocks():
        passes.append(1)
        return in_blocks(kernel, 2)()

    g = column_potential(blocks, log_q, log_p, 500, 1e-3)
    assert 2 < len(passes) < 50
    plan = (kernel + g).softmax(1) * log_q.exp()[:, None]
    assert (plan.sum(0) - log_p.exp()).abs().sum() < 1e-3
    exact = sinkhorn(kernel, log_q, log_p, 500).exp()
    torch.testing.assert_close(plan, exact, atol=1e-3, rtol=0)
