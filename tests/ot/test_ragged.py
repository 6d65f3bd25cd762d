"""The transport cost of many problems at once: worked examples, laws, and three other ways to the same numbers."""

import math

import ot
import pytest
import torch

from recot.ot.ragged import Kernel, LogKernel, Rows, Shared, is_linear, level, plan, ragged, rounds, slopes, transport
from recot.ot.sinkhorn import SAFE_EXPONENT, sinkhorn

SIZES = [1, 2, 5, 0, 7]
COST = torch.tensor([[0.0, 0.2, 0.9, 0.9], [0.2, 0.0, 0.9, 0.9], [0.9, 0.9, 0.0, 0.2], [0.9, 0.9, 0.2, 0.0]],
                    dtype=torch.float64)
"""Of the worked example: items {1, 2} and {3, 4} are alike by .8, all others by .1."""
KINDS = {"kernel": Kernel, "log": LogKernel}


def of_sizes(*sizes):
    lengths = torch.tensor(sizes)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return Rows(offsets, torch.arange(len(sizes)).repeat_interleave(lengths), list(sizes))


def problem(rng, dtype=torch.float64, k=4, sizes=SIZES):
    """Costs, rows, and log masses: those of the rows sum to anything, those of the columns to less than one."""
    rows = of_sizes(*sizes)
    cost = torch.rand(sum(sizes), k, generator=rng, dtype=dtype)
    log_rows = torch.randn(sum(sizes), generator=rng, dtype=dtype)
    log_columns = torch.randn(len(sizes), k + 2, generator=rng, dtype=dtype).log_softmax(1)[:, :k]
    return cost, rows, log_rows, log_columns


def price(cost, mu, nu, eps, n_iters, kind=Kernel):
    """The cost of one problem, from masses."""
    log_mu, log_nu = torch.tensor(mu, dtype=cost.dtype).log(), torch.tensor([nu], dtype=cost.dtype).log()
    return float(transport(kind(cost, of_sizes(len(mu)), eps), log_mu, log_nu, n_iters))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("eps", "n_iters", "printed"), [
    (1.0, 1, 0.33302324), (1.0, 2, 0.33312260), (1.0, 5, 0.33312330),
    (0.1, 1, 0.28668841), (0.1, 2, 0.28713964), (0.1, 5, 0.28755664), (0.1, 4000, 0.28758887)])
def test_the_worked_example_to_all_its_digits(kind, eps, n_iters, printed):
    found = price(COST[:2], [0.5, 0.5], [0.4, 0.3, 0.2, 0.1], eps, n_iters, kind)
    assert found == pytest.approx(printed, abs=6e-9)


def test_the_worked_example_lies_between_exact_transport_and_the_product_of_the_masses():
    mu, nu = [0.5, 0.5], [0.4, 0.3, 0.2, 0.1]
    product = float(torch.tensor(mu, dtype=torch.float64) @ COST[:2] @ torch.tensor(nu, dtype=torch.float64))
    exact = ot.emd2(mu, nu, COST[:2].numpy())
    assert (exact, product) == (pytest.approx(0.27), pytest.approx(0.34))
    assert exact < price(COST[:2], mu, nu, 0.1, 50) < price(COST[:2], mu, nu, 1.0, 50) < product


@pytest.mark.parametrize("eps", [1.0, 0.1])
def test_equals_pot_at_convergence(eps):
    mu, nu = [0.5, 0.5], [0.4, 0.3, 0.2, 0.1]
    expected = ot.sinkhorn2(mu, nu, COST[:2].numpy(), eps, method="sinkhorn_log", numItermax=10_000, stopThr=1e-14)
    assert price(COST[:2], mu, nu, eps, 4000) == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize("eps", [5.0, 1.0, 0.1, 0.01])
@pytest.mark.parametrize("n_iters", [1, 5])
@pytest.mark.parametrize(("nu", "cost"), [([0.5, 0.5, 0.0, 0.0], 0.1), ([0.5, 0.0, 0.5, 0.0], 0.45)])
def test_from_a_single_item_there_is_one_plan_at_every_entropy(eps, n_iters, nu, cost):
    assert price(COST[:1], [1.0], nu, eps, n_iters, LogKernel) == pytest.approx(cost)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("eps", "printed"), [(1.0, 0.260145), (0.1, 1.11055e-4)])
def test_two_points_have_a_closed_form_after_one_round(kind, eps, printed):
    cost = torch.tensor([[0.0, 0.9], [0.9, 0.0]], dtype=torch.float64)
    found = price(cost, [0.5, 0.5], [0.5, 0.5], eps, 1, kind)
    assert found == pytest.approx(0.9 / (1 + math.exp(0.9 / eps)), rel=1e-12) == pytest.approx(printed, rel=1e-5)


@pytest.mark.parametrize("n_iters", [1, 2, 6])
@pytest.mark.parametrize("eps", [1.0, 0.1])
def test_ragged_rows_padded_rows_and_a_loop_over_problems_agree(rng, eps, n_iters):
    """The house's other scaling ends with the rows; on the turned problem, from the first row scaling on, it is this.
    """
    cost, rows, log_rows, log_columns = problem(rng)

    def one(cost, log_rows, log_columns):
        log_kernel = -cost / eps
        first = log_rows - log_kernel.logsumexp(-1)
        return sinkhorn((log_kernel + first[..., None]).mT, log_columns, log_rows, n_iters - 1).mT.exp()

    parts = zip(cost.split(SIZES), log_rows.split(SIZES), log_columns, strict=True)
    looped = torch.stack([(one(*part) * part[0]).sum() for part in parts])
    padded_cost, padded_rows = torch.zeros(5, 7, 4, dtype=torch.float64), torch.full((5, 7), -torch.inf).double()
    for u, (own, mass) in enumerate(zip(cost.split(SIZES), log_rows.split(SIZES), strict=True)):
        padded_cost[u, :len(own)], padded_rows[u, :len(own)] = own, mass
    padded_rows[3, 0] = 0.0  # a problem without rows; its plan is not looked at
    padded = (one(padded_cost, padded_rows, log_columns) * padded_cost).sum((1, 2))
    for kind in KINDS.values():
        found = transport(kind(cost, rows, eps), log_rows, log_columns, n_iters)
        torch.testing.assert_close(found, looped, atol=1e-14, rtol=1e-12)
        torch.testing.assert_close(found, padded, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_columns_are_exact_after_every_round_and_rows_in_the_limit(rng, kind):
    cost, rows, log_rows, log_columns = problem(rng)
    kernel, owned = kind(cost, rows, 0.1), torch.tensor(SIZES) > 0
    errors, log_rows = [], level(kernel, log_rows, log_columns)
    for n_iters in (1, 3, 10, 1000):
        found = plan(kernel, rounds(kernel, log_rows, log_columns, n_iters))
        columns = torch.zeros_like(log_columns).index_add_(0, rows.owners, found)
        torch.testing.assert_close(columns[owned], log_columns.exp()[owned], atol=1e-14, rtol=1e-12)
        errors.append(float((found.sum(1) - log_rows.exp()).abs().sum()))
    assert errors == sorted(errors, reverse=True) and errors[0] > 1e-3 and errors[-1] < 1e-12


def kernels(rng, eps, dtype):
    """One of each kind, with its masses of the rows and of the columns."""
    cost, rows, log_rows, log_columns = problem(rng, dtype)
    ways = {"log": (LogKernel(cost, rows, eps), log_rows, log_columns)}
    if is_linear(eps):
        common = torch.rand(6, 4, generator=rng, dtype=dtype)
        log_common = torch.randn(5, 6, generator=rng, dtype=dtype)
        log_common[:, 2] = -torch.inf  # a row that nobody has
        ways |= {"kernel": (Kernel(cost, rows, eps), log_rows, log_columns),
                 "shared": (Shared(common, eps), log_common, log_columns)}
    return ways


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
@pytest.mark.parametrize("eps", [1.0, 0.1, 0.01])
def test_masses_times_slopes_are_the_cost_for_columns_and_nothing_for_rows(rng, eps, dtype, close):
    for kernel, log_rows, log_columns in kernels(rng, eps, dtype).values():
        log_rows = level(kernel, log_rows, log_columns)
        done = rounds(kernel, log_rows, log_columns, 5)
        of_rows, of_columns = slopes(kernel, done)
        last = done[-1]
        cost = (log_columns.exp() * kernel.column_means(last.a, last.column_totals, None)).sum(1)
        torch.testing.assert_close((log_columns.exp() * of_columns).sum(1), cost, atol=close, rtol=0)
        torch.testing.assert_close(kernel.gathered(log_rows.exp() * of_rows), torch.zeros_like(cost), atol=10 * close,
                                   rtol=0)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])
@pytest.mark.parametrize("eps", [1.0, 0.1, 0.01])
def test_the_slopes_without_autograd_are_those_of_autograd_through_the_rounds(rng, eps, dtype, close):
    for kernel, log_rows, log_columns in kernels(rng, eps, dtype).values():
        masses = [log_rows.masked_fill(log_rows == -torch.inf, -50.0).requires_grad_(), log_columns.requires_grad_()]
        exact, unrolled = (transport(kernel, *masses, 5, way) for way in ("exact", "unrolled"))
        torch.testing.assert_close(exact, unrolled, atol=close, rtol=0)
        slopes_of = [torch.autograd.grad(cost.sum(), masses) for cost in (exact, unrolled)]
        for ours, autograds in zip(*slopes_of, strict=True):
            torch.testing.assert_close(ours, autograds, atol=close, rtol=0)


@pytest.mark.parametrize("gradient", ["exact", "unrolled"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_gradients_are_those_of_finite_differences(rng, kind, gradient):
    cost, rows, log_rows, log_columns = problem(rng, sizes=[1, 2, 5])
    kernel = kind(cost, rows, 0.5)
    assert torch.autograd.gradcheck(lambda *masses: transport(kernel, *masses, 3, gradient),
                                    (log_rows.requires_grad_(), log_columns.requires_grad_()))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_only_the_shares_of_the_rows_count_and_the_cost_grows_with_the_columns(rng, kind):
    cost, rows, log_rows, log_columns = problem(rng)
    kernel = kind(cost, rows, 0.3)
    found = transport(kernel, log_rows, log_columns, 2)
    torch.testing.assert_close(transport(kernel, log_rows + math.log(7), log_columns, 2), found, atol=0, rtol=1e-14)
    torch.testing.assert_close(transport(kernel, log_rows, log_columns + math.log(3), 2), 3 * found, atol=0, rtol=1e-14)


@pytest.mark.parametrize("gradient", ["exact", "unrolled"])
def test_many_rows_of_mass_one_and_columns_of_little_mass_do_not_overflow_float32(rng, gradient):
    cost, rows = torch.rand(1000, 20, generator=rng), of_sizes(1000)
    log_rows, log_columns = torch.zeros(1000), torch.full((1, 20), math.log(0.001)).requires_grad_()
    found = transport(Kernel(cost, rows, 1.0), log_rows, log_columns, 30, gradient)
    expected = transport(LogKernel(cost.double(), rows, 1.0), log_rows.double(), log_columns.double(), 30)
    torch.testing.assert_close(found.double(), expected, atol=1e-7, rtol=1e-5)
    assert torch.autograd.grad(found.sum(), log_columns)[0].isfinite().all()


def test_problems_with_all_rows_in_common_are_those_with_rows_of_their_own(rng):
    cost, chosen = torch.rand(6, 4, generator=rng, dtype=torch.float64), [[0, 2], [1, 3, 5], [], [4]]
    log_columns = torch.randn(4, 4, generator=rng, dtype=torch.float64).log_softmax(1)
    log_rows = torch.full((4, 6), -torch.inf, dtype=torch.float64)
    for u, items in enumerate(chosen):
        log_rows[u, items] = 0.0
    own = Kernel(cost[sum(chosen, [])], of_sizes(*map(len, chosen)), 0.4)
    expected = transport(own, torch.zeros(6, dtype=torch.float64), log_columns, 3)
    torch.testing.assert_close(transport(Shared(cost, 0.4), log_rows, log_columns, 3), expected)


@pytest.mark.parametrize("eps", [1 / SAFE_EXPONENT, 0.1, 1.0])
def test_the_kernel_itself_is_as_good_as_logs_where_it_is_chosen(rng, eps):
    cost, rows, log_rows, log_columns = problem(rng, torch.float32, k=60, sizes=[30, 3, 40])
    log_columns.requires_grad_()
    assert isinstance(ragged(cost, rows, eps), Kernel)
    exact = transport(LogKernel(cost.double(), rows, eps), log_rows.double(), log_columns.double(), 5)
    found = transport(ragged(cost, rows, eps), log_rows, log_columns, 5)
    torch.testing.assert_close(found.double(), exact, atol=1e-6, rtol=1e-5)
    (ours,), (right,) = (torch.autograd.grad(loss.sum(), log_columns) for loss in (found, exact))
    torch.testing.assert_close(ours, right, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("gradient", ["exact", "unrolled"])
@pytest.mark.parametrize("eps", [0.01, 1e-3])
def test_where_the_kernel_would_underflow_logs_are_taken_and_nothing_is_nan(rng, eps, gradient):
    cost, rows, log_rows, log_columns = problem(rng, torch.float32, k=60, sizes=[30, 0, 40])
    kernel = ragged(cost, rows, eps)
    assert isinstance(kernel, LogKernel) and not torch.exp(-cost / 1e-3).all()
    loss = transport(kernel, log_rows.requires_grad_(), log_columns.requires_grad_(), 5, gradient)
    loss.sum().backward()
    assert loss.isfinite().all() and log_rows.grad.isfinite().all() and log_columns.grad.isfinite().all()
    expected = transport(LogKernel(cost.double(), rows, eps), log_rows.double(), log_columns.double(), 5)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("eps", [1.0, 0.01])
def test_a_mass_too_small_for_its_number_breaks_nothing(rng, eps):
    cost, rows, log_rows, log_columns = problem(rng, torch.float32)
    log_columns[:, 1] = -200.0
    log_rows[2:4] = -200.0
    loss = transport(ragged(cost, rows, eps), log_rows.requires_grad_(), log_columns.requires_grad_(), 5)
    loss.sum().backward()
    assert loss.isfinite().all() and log_rows.grad.isfinite().all() and log_columns.grad.isfinite().all()


@pytest.mark.parametrize("eps", [1.0, 0.01])
def test_costs_of_16_bits_are_computed_with_in_32(rng, eps):
    cost, rows, log_rows, log_columns = problem(rng, torch.float32)
    short = transport(ragged(cost.half(), rows, eps), log_rows, log_columns, 5)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, transport(ragged(cost.half().float(), rows, eps), log_rows, log_columns, 5))


def test_products_with_a_shared_kernel_stay_long_under_autocast(rng):
    cost, masses = torch.rand(30, 20, generator=rng), torch.randn(5, 20, generator=rng).log_softmax(1)
    kernel, log_rows = Shared(cost, 1.0), torch.zeros(5, 30)
    with torch.autocast("cpu", torch.bfloat16):
        found = transport(kernel, log_rows, masses, 5)
    assert found.dtype == torch.float32 and torch.equal(found, transport(kernel, log_rows, masses, 5))


def test_a_problem_without_rows_costs_nothing_and_pulls_at_nothing(rng):
    cost, rows, log_rows, log_columns = problem(rng)
    for kind in KINDS.values():
        loss = transport(kind(cost, rows, 1.0), log_rows, log_columns.requires_grad_(), 5)
        (grad,) = torch.autograd.grad(loss.sum(), log_columns)
        assert loss[3] == 0 and not grad[3].any() and loss[[0, 1, 2, 4]].all()


@pytest.mark.parametrize("eps", [1.0, 0.1, 0.02])
def test_the_adjoint_gives_the_slopes_of_the_converged_plan(rng, eps):
    cost, rows, log_rows, log_columns = problem(rng)
    masses = log_rows.requires_grad_(), log_columns.requires_grad_()
    kernel = LogKernel(cost, rows, eps)
    found = [torch.autograd.grad(transport(kernel, *masses, 3000, way).sum(), masses) for way in ("exact", "implicit")]
    for exact, implicit in zip(*found, strict=True):
        torch.testing.assert_close(implicit, exact, atol=1e-9, rtol=0)


def test_what_has_no_rounds_or_no_adjoint_is_refused(rng):
    kernel = Shared(torch.rand(3, 3, generator=rng), 1.0)
    with pytest.raises(ValueError, match="1 or more; got 0"):
        transport(kernel, torch.zeros(1, 3), torch.zeros(1, 3), 0)
    with pytest.raises(ValueError, match="rows of their own; use exact"):
        transport(kernel, torch.zeros(1, 3), torch.zeros(1, 3), 1, "implicit")
