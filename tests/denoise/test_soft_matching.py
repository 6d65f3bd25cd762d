"""SCLRec: the worked example, the theorems of its transport, and the claims of its docstring."""

from dataclasses import replace
from types import SimpleNamespace

import ot
import pytest
import torch
import torch.nn.functional as F
from observed import interactions

from recot.batches.pairs import pairs
from recot.data.interactions import Interactions
from recot.denoise.soft_matching import SoftMatching, matching, pair_similarity
from recot.networks.factorisation import Tables
from recot.nn.table import clear_gradients
from recot.objectives.pairs import InfoNCE

KNOWN = SimpleNamespace(inductive=False)  # a network that needs no history


def unit(rng, n, d=8):
    return F.normalize(torch.randn(n, d, generator=rng, dtype=torch.float64), dim=-1)


def plan(similarity, lam=0.1, n_iters=6, masses=None, fast=False):
    n = len(similarity)
    masses = torch.ones(n, dtype=similarity.dtype) if masses is None else masses
    return matching(similarity.clone(), torch.eye(n, dtype=torch.bool), masses, lam, n_iters, fast)


@pytest.mark.parametrize("fast", [False, True])
def test_a_forbidden_diagonal_needs_no_mask(fast):
    similarity, ones = torch.randn(33, 33), torch.ones(33)
    found = [matching(similarity.clone(), forbidden, ones, 0.3, 6, fast) for forbidden in (
        None, torch.eye(33, dtype=torch.bool))]
    assert found[0].equal(found[1])


@pytest.fixture
def train(rng):
    return interactions(rng, 40, 50)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Tables(40, 50, dim=8)


def bound(network, train, **settings):
    denoiser = SoftMatching(**settings)
    denoiser.bind(network, train)
    return denoiser


EXAMPLE = torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.1], [0.2, 0.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("fast", [False, True])
def test_the_worked_example_of_three_pairs(fast):
    converged = [[0, 0.791391, 0.208609], [0.208609, 0, 0.791391], [0.791391, 0.208609, 0]]
    softmax = [[0, 0.731059, 0.268941], [0.268941, 0, 0.731059], [0.880797, 0.119203, 0]]
    for n_iters, expected in ((200, converged), (0, softmax)):
        found = plan(EXAMPLE, n_iters=n_iters, fast=fast)
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=1e-6, rtol=0)


def test_eq_2_term_by_term(rng):
    a, c, pi = unit(rng, 5), unit(rng, 5), torch.rand(5, generator=rng, dtype=torch.float64)
    expected = [[0.7 * a[i] @ a[j] + 0.4 * c[i] @ c[j] + 0.2 * pi[j] + a[i] @ c[j] for j in range(5)] for i in range(5)]
    torch.testing.assert_close(pair_similarity(a, c, pi, 0.7, 0.4, 0.2), torch.tensor(expected, dtype=torch.float64))


def test_only_the_cross_term_tells_users_from_items(rng):
    a, c, pi = unit(rng, 5), unit(rng, 5), torch.zeros(5, dtype=torch.float64)
    cross = pair_similarity(a, c, pi, 0, 0, 0)
    own = pair_similarity(a, c, pi, 1, 1, 0) - cross
    torch.testing.assert_close(own, own.T)
    assert (cross - cross.T).abs().max() > 0.1


def test_rows_are_distributions_and_the_diagonal_is_empty(rng):
    similarity = pair_similarity(unit(rng, 32), unit(rng, 32), torch.zeros(32, dtype=torch.float64), 1, 1, 0)
    for n_iters in (0, 1, 6):
        found = plan(similarity, n_iters=n_iters)
        torch.testing.assert_close(found.sum(1), torch.ones(32, dtype=torch.float64), atol=1e-12, rtol=0)
        assert found.diagonal().count_nonzero() == 0


@pytest.mark.parametrize("lam", [0.1, 0.2])
def test_columns_balance_at_convergence_and_pot_agrees(rng, lam):
    similarity = pair_similarity(unit(rng, 24), unit(rng, 24), torch.zeros(24, dtype=torch.float64), 1, 1, 0)
    found, ones = plan(similarity, lam, 500), torch.ones(24, dtype=torch.float64)
    torch.testing.assert_close(found.sum(0), ones, atol=1e-6, rtol=0)
    cost = -similarity + 1e3 * torch.eye(24, dtype=torch.float64)
    expected = ot.bregman.sinkhorn_log(ones, ones, cost, lam, numItermax=5_000, stopThr=1e-12)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_popularity_inside_the_similarity_cannot_move_a_converged_plan(rng):
    """Eq. 2 adds the same amount to every entry of a column, and the column scaling takes it out again (Departures)."""
    a, c, pi = unit(rng, 32), unit(rng, 32), torch.rand(32, generator=rng, dtype=torch.float64).mul(9).softmax(0)
    with_it, without = (plan(pair_similarity(a, c, pi, 1, 1, g), n_iters=2000) for g in (1.0, 0.0))
    torch.testing.assert_close(with_it, without, atol=1e-12, rtol=0)
    zero = [plan(pair_similarity(a, c, pi, 1, 1, g), n_iters=0) for g in (1.0, 0.0)]
    assert (zero[0] - zero[1]).abs().max() > 0.01  # without rounds nothing takes it out


def test_six_rounds_leave_next_to_nothing_of_it_in_a_batch_of_the_usual_width(rng):
    """The paper's settings, gamma_p = 0.1 and 6 rounds, on the most peaked popularity there is: one item has it all."""
    a, c, pi = unit(rng, 256, 64), unit(rng, 256, 64), torch.eye(256, dtype=torch.float64)[7]
    with_it, without = (plan(pair_similarity(a, c, pi, 1, 1, g)) for g in (0.1, 0.0))
    assert (with_it - without).abs().sum(1).mean() < 1e-5


def test_the_plan_is_blind_to_row_and_column_shifts(rng):
    similarity = pair_similarity(unit(rng, 16), unit(rng, 16), torch.zeros(16, dtype=torch.float64), 1, 1, 0)
    shift = torch.rand(2, 16, generator=rng, dtype=torch.float64)
    moved = similarity + shift[0][:, None] + shift[1]
    torch.testing.assert_close(plan(moved, n_iters=1000), plan(similarity, n_iters=1000), atol=1e-8, rtol=0)


def test_popularity_as_marginal_does_move_it(rng, network, train):
    batch = next(pairs(train, 32, rng))
    literal, marginal = (bound(network, train, popularity=p, n_iters=300).before(batch, network).targets
                         for p in ("softmax_count", "marginal"))
    columns = train.popularity[batch.items].double().sqrt()
    torch.testing.assert_close((marginal.sum(0) - 0.9).double() / 0.1, columns / columns.mean(), atol=1e-3, rtol=0)
    assert (marginal - literal).abs().sum(1).mean() > 0.01


def test_two_pairs_swap_and_one_pair_keeps_its_own(rng, network, train):
    batch = next(pairs(train, 2, rng))
    two = bound(network, train, alpha=0.6).before(batch, network).targets
    torch.testing.assert_close(two, torch.tensor([[0.6, 0.4], [0.4, 0.6]]))
    batch = next(pairs(train, 1, rng))
    batch = bound(network, train).before(batch, network)
    torch.testing.assert_close(batch.targets, torch.ones(1, 1))
    loss, _ = InfoNCE()(network, batch)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and network.user_table.weight.grad.abs().max() < 1e-6


def test_a_batch_of_one_item_gives_log_n_and_no_gradient(network, train):
    users = train.users[:16]
    batch = next(pairs(train, 16, torch.Generator().manual_seed(0)))
    batch = replace(batch, items=torch.full_like(batch.items, 3), query=replace(batch.query, users=users))
    loss, _ = InfoNCE(tau=0.2)(network, bound(network, train).before(batch, network))
    loss.mean().backward()
    assert loss.mean().item() == pytest.approx(torch.tensor(16.0).log().item(), abs=1e-5)
    assert max(table.weight.grad.abs().max() for table in (network.user_table, network.item_table)) < 1e-6


def test_alpha_one_is_infonce_gradient_included(rng, network, train):
    batch, gradients = next(pairs(train, 32, rng)), []
    for denoised in (batch, bound(network, train, alpha=1.0).before(batch, network)):
        loss, _ = InfoNCE()(network, denoised)
        loss.mean().backward()
        gradients.append((loss.detach(), network.item_table.weight.grad.clone()))
        clear_gradients(network)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("popularity", ["softmax_count", "softmax_freq", "log", "marginal"])
@pytest.mark.parametrize("duplicates", ["none", "mask", "multi_positive"])
@pytest.mark.parametrize("lam", [0.1, 0.02])
def test_targets_are_distributions_under_every_option(rng, network, train, popularity, duplicates, lam):
    objective = InfoNCE(64, duplicates=duplicates, symmetric=True)
    batch = next(objective.batches(train, rng, KNOWN, 0))
    batch = bound(network, train, popularity=popularity, lam=lam).before(batch, network)
    assert batch.targets.isfinite().all() and (batch.targets >= 0).all()
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(64))
    if duplicates == "mask":
        off_diagonal = batch.observed & ~torch.eye(64, dtype=torch.bool)
        assert off_diagonal.any() and batch.targets[off_diagonal].count_nonzero() == 0
    assert objective(network, batch)[0].isfinite().all()


def test_log_popularity_of_items_taken_once_each_says_nothing_rather_than_nan(network):
    once = Interactions.from_pairs(torch.arange(40), torch.arange(40), 40, 50)
    batch = next(pairs(once, 40, torch.Generator().manual_seed(0)))
    log, none = (bound(network, once, popularity="log", gamma_p=g).before(batch, network).targets for g in (1.0, 0.0))
    torch.testing.assert_close(log, none)


def test_a_row_whose_every_pair_is_observed_keeps_its_own(network):
    """One user took all items, so masking leaves this row nobody to share with."""
    everything = Interactions.from_pairs(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 0]), 2, 3)
    network = Tables(2, 3, dim=4)
    objective = InfoNCE(4, duplicates="mask")
    batch = next(objective.batches(everything, torch.Generator().manual_seed(0), KNOWN, 0))
    targets = bound(network, everything).before(batch, network).targets
    rows = batch.query.users == 0
    torch.testing.assert_close(targets[rows], torch.eye(4)[rows])


def test_permuting_the_pairs_permutes_the_targets(rng, network, train):
    batch, denoiser = next(pairs(train, 24, rng)), bound(network, train)
    order = torch.randperm(24, generator=rng)
    moved = replace(batch, items=batch.items[order], query=replace(batch.query, users=batch.query.users[order]))
    straight, permuted = (denoiser.before(b, network).targets for b in (batch, moved))
    torch.testing.assert_close(permuted, straight[order][:, order])


def test_the_teacher_is_the_exact_moving_average_and_learns_nothing(rng, network, train):
    denoiser = bound(network, train, momentum=0.7)
    expected = network.item_table.weight.detach().clone()
    objective, optimizer = InfoNCE(32), torch.optim.SGD(network.parameters(), lr=5.0)
    for batch in objective.batches(train, rng, KNOWN, 0):
        objective(network, denoiser.before(batch, network))[0].mean().backward()
        optimizer.step()
        clear_gradients(network)
        denoiser.after_step(network)
        expected = 0.7 * expected + 0.3 * network.item_table.weight.detach()
    torch.testing.assert_close(denoiser.teacher.item_table.weight.data, expected)
    assert denoiser.teacher.item_table.weight.grad is None
    assert (denoiser.teacher.item_table.weight - network.item_table.weight).abs().max() > 1e-3


def test_ramped_momentum_starts_low(network, train):
    denoiser = bound(network, train, ramp=True)
    before = denoiser.teacher.item_table.weight.clone()
    with torch.no_grad():
        network.item_table.weight.add_(1.0)
    denoiser.after_step(network)
    torch.testing.assert_close(denoiser.teacher.item_table.weight.data, before + 0.9)


def test_warm_up_epochs_are_plain_infonce(rng, network, train):
    denoiser, batch = bound(network, train, warmup_epochs=1), next(pairs(train, 8, rng))
    assert denoiser.before(batch, network).targets is None
    denoiser.after_epoch()
    assert denoiser.before(batch, network).targets is not None


def test_the_report_measures_that_popularity_is_a_dead_knob(rng, network, train):
    effects = []
    for n_iters in (0, 6, 50):
        denoiser = bound(network, train, gamma_p=1.0, n_iters=n_iters)
        denoiser.before(next(pairs(train, 64, rng.manual_seed(0))), network)
        effects.append(denoiser.report()["popularity_effect"])
    assert effects[0] > 0.05 and effects[1] < 0.3 * effects[0] and effects[2] < 1e-3 * effects[0]
    assert denoiser.report() == {}
