"""Theorems about scaling, and agreement with POT."""

import ot
import pytest
import torch

from recot.ot.sinkhorn import column_error, scale_kernel, sinkhorn


def masses(rng, *shape):
    return torch.rand(*shape, generator=rng, dtype=torch.float64).add(0.1)


def problem(rng, m=7, n=5):
    cost = torch.rand(m, n, generator=rng, dtype=torch.float64)
    a, b = masses(rng, m), masses(rng, n)
    return cost, a / a.sum(), b / b.sum()


@pytest.mark.parametrize("eps", [1.0, 0.1, 0.02])
def test_equals_pot_at_convergence(rng, eps):
    cost, a, b = problem(rng)
    expected = ot.bregman.sinkhorn_log(a, b, cost, eps, numItermax=20_000, stopThr=1e-13)
    plan = sinkhorn(-cost / eps, a.log(), b.log(), 5_000).exp()
    torch.testing.assert_close(plan, expected, atol=1e-9, rtol=0)


def test_low_entropy_approaches_the_optimal_assignment(rng):
    cost, uniform = torch.rand(6, 6, generator=rng, dtype=torch.float64), torch.full((6,), 1 / 6, dtype=torch.float64)
    plan = sinkhorn(-cost / 1e-3, uniform.log(), uniform.log(), 20_000).exp()
    exact = ot.emd(uniform.numpy(), uniform.numpy(), cost.numpy())
    assert abs(float((plan * cost).sum()) - float((torch.from_numpy(exact) * cost).sum())) < 1e-3


@pytest.mark.parametrize("n_iters", [0, 1, 6, 100])
def test_rows_are_exact_after_any_number_of_rounds(rng, n_iters):
    cost, a, b = problem(rng)
    torch.testing.assert_close(sinkhorn(-cost / 0.1, a.log(), b.log(), n_iters).exp().sum(1), a, atol=1e-12, rtol=0)


def test_column_error_shrinks_to_zero(rng):
    cost, a, b = problem(rng)
    errors = [float(column_error(sinkhorn(-cost / 0.1, a.log(), b.log(), n), b.log())) for n in (0, 1, 10, 1000)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 0.1 and errors[-1] < 1e-10


def test_no_rounds_and_unit_masses_are_a_row_softmax(rng):
    kernel, ones = torch.randn(4, 6, generator=rng), torch.zeros(4)
    torch.testing.assert_close(sinkhorn(kernel, ones, torch.zeros(6), 0).exp(), kernel.softmax(-1))


@pytest.mark.parametrize("n_iters", [0, 1, 6, 50])
@pytest.mark.parametrize("forbid", [False, True])
def test_kernel_scaling_equals_log_domain_within_the_safe_range(rng, n_iters, forbid):
    log_kernel = 80 * torch.rand(64, 64, generator=rng) - 40
    if forbid:
        log_kernel.fill_diagonal_(-torch.inf)
        log_kernel[3] = -torch.inf
        log_kernel[:, 9] = -torch.inf
    a, b = torch.rand(64, generator=rng) + 0.5, torch.rand(64, generator=rng) + 0.5
    plan = sinkhorn(log_kernel.double(), a.double().log(), b.double().log(), n_iters).exp()
    torch.testing.assert_close(scale_kernel(log_kernel.exp(), a, b, n_iters).double(), plan, atol=1e-5, rtol=1e-3)


def test_a_forbidden_pair_gets_nothing_and_an_empty_row_or_column_breaks_nothing(rng):
    log_kernel = torch.randn(5, 5, generator=rng)
    log_kernel[2], log_kernel[:, 4], log_kernel[0, 0] = -torch.inf, -torch.inf, -torch.inf
    plan = sinkhorn(log_kernel, torch.zeros(5), torch.zeros(5), 20).exp()
    assert plan.isfinite().all()
    assert plan[0, 0] == 0 and plan[2].sum() == 0 and plan[:, 4].sum() == 0
    torch.testing.assert_close(plan[[0, 1, 3, 4]].sum(1), torch.ones(4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_hard_inputs_stay_finite(rng, dtype):
    """Entropy 1e-3, an empty row and an empty column, and costs of 60,000, the edge of half precision."""
    cost = torch.rand(8, 8, generator=rng)
    cost[1, 1] = 60.0
    mass = torch.full((8,), 1 / 7)
    a, b = mass.clone(), mass.clone()
    a[3] = b[5] = 0
    plan = sinkhorn((-cost / 1e-3).to(dtype), a.log().to(dtype), b.log().to(dtype), 2_000)
    assert plan.dtype == (dtype if dtype in (torch.float32, torch.float64) else torch.float32)
    assert plan.exp().isfinite().all() and plan[3].exp().sum() == 0 and plan[:, 5].exp().sum() == 0
    torch.testing.assert_close(plan.exp().sum(1), a.to(plan.dtype), atol=2e-3, rtol=0)


def test_gradients_through_the_rounds_are_right(rng):
    cost, a, b = problem(rng, 4, 3)
    cost.requires_grad_()
    assert torch.autograd.gradcheck(lambda c: sinkhorn(-c / 0.5, a.log(), b.log(), 5).exp(), cost)


def test_a_batch_of_problems_equals_one_by_one(rng):
    kernel, zero = torch.randn(3, 4, 5, generator=rng), torch.zeros(3, 4)
    together = sinkhorn(kernel, zero, torch.zeros(3, 5), 7)
    for i in range(3):
        torch.testing.assert_close(together[i], sinkhorn(kernel[i], zero[i], torch.zeros(5), 7))


@pytest.mark.parametrize("function", [sinkhorn, scale_kernel])
def test_wrong_shapes_and_rounds_are_refused(function):
    with pytest.raises(ValueError, match="row masses need 2 entries and the column masses 3; got 3 and 3"):
        function(torch.zeros(2, 3), torch.zeros(3), torch.zeros(3), 1)
    with pytest.raises(ValueError, match="0 or more; got -1"):
        function(torch.zeros(2, 3), torch.zeros(2), torch.zeros(3), -1)
