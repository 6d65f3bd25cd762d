"""Hand values and identities of the formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from recot.objectives import losses


def test_bpr_by_hand():
    z, positive, negative = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    loss = losses.bpr((z @ positive)[None], (z @ negative)[None, None])
    assert loss.item() == pytest.approx(0.313262, abs=1e-6)


def test_bpr_of_equal_scores_is_log_two_and_never_saturates():
    assert losses.bpr(torch.zeros(3), torch.zeros(3, 2)).tolist() == pytest.approx([math.log(2)] * 3)
    positive = torch.tensor([-200.0], requires_grad=True)
    losses.bpr(positive, torch.zeros(1, 1)).sum().backward()
    assert positive.grad.item() == pytest.approx(-1.0)


def test_infonce_equals_cross_entropy(rng):
    logits = torch.randn(6, 6, generator=rng)
    torch.testing.assert_close(losses.infonce(logits).mean(), F.cross_entropy(logits, torch.arange(6)))


def test_infonce_of_identical_pairs_is_log_n_and_of_one_pair_zero():
    assert losses.infonce(torch.ones(8, 8)).tolist() == pytest.approx([math.log(8)] * 8)
    single = torch.tensor([[3.0]], requires_grad=True)
    losses.infonce(single).sum().backward()
    assert single.grad.item() == 0


def test_soft_infonce_with_hard_targets_is_infonce_gradient_included(rng):
    hard, soft = (torch.randn(7, 7, generator=rng.manual_seed(1)).requires_grad_() for _ in range(2))
    torch.testing.assert_close(losses.infonce(hard), losses.soft_infonce(soft, torch.eye(7)))
    losses.infonce(hard).sum().backward()
    losses.soft_infonce(soft, torch.eye(7)).sum().backward()
    torch.testing.assert_close(hard.grad, soft.grad)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_soft_infonce_equals_its_formula(rng, scale):
    """Also where some probabilities underflow."""
    logits = scale * torch.randn(9, 9, generator=rng)
    targets = torch.rand(9, 9, generator=rng).softmax(-1)
    torch.testing.assert_close(losses.soft_infonce(logits, targets), -(targets * logits.log_softmax(-1)).sum(-1))


def test_the_written_gradient_of_soft_infonce_is_the_derivative(rng):
    logits = torch.randn(5, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(5, 5, generator=rng, dtype=torch.float64).softmax(-1)
    weights = torch.rand(5, generator=rng, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: losses.soft_infonce(x, targets) * weights, logits)


def test_bce_by_hand_and_log_two_at_zero():
    loss = losses.bce(torch.tensor([2.0, -1.0, 0.5, 0.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert loss.tolist() == pytest.approx([0.126928, 1.313262, 0.974077, 0.693147], abs=1e-6)


def test_bce_is_that_of_torch_with_its_gradient(rng):
    logits = (10 * torch.randn(50, 4, generator=rng, dtype=torch.float64)).requires_grad_()
    labels = torch.rand(50, 4, generator=rng, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    torch.testing.assert_close(losses.bce(logits, labels), expected, rtol=0, atol=1e-8)  # softplus has a threshold
    (wanted,) = torch.autograd.grad((expected * labels).sum(), logits)
    torch.testing.assert_close(torch.autograd.grad((losses.bce(logits, labels) * labels).sum(), logits)[0], wanted)


def test_bce_keeps_what_is_small_in_float32():
    loss = losses.bce(torch.tensor([-15.0, 15.0, -80.0, 80.0]), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert loss.tolist() == pytest.approx([3.059e-7, 3.059e-7, 0.0, 80.0], rel=1e-3, abs=1e-30)


def test_alignment_of_unit_vectors_is_two_minus_two_cos(rng):
    a, b = (F.normalize(torch.randn(5, 4, generator=rng), dim=-1) for _ in range(2))
    torch.testing.assert_close(losses.alignment(a, b), 2 - 2 * (a * b).sum(-1))


def test_uniformity_by_hand():
    assert losses.uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8.0)
    assert losses.uniformity(torch.tensor([[0.6, 0.8]]).repeat(5, 1)).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.uniformity(torch.tensor([[0.6, 0.8]])).item() == 0.0


def test_uniformity_and_its_gradient_are_those_of_pairwise_distances(rng):
    free = torch.randn(20, 6, generator=rng, dtype=torch.float64).requires_grad_()
    ours, plain = (f(F.normalize(free, dim=-1)) for f in (
        losses.uniformity, lambda z: torch.pdist(z).square().mul(-2).exp().mean().log()))
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(*(torch.autograd.grad(3 * loss, free)[0] for loss in (ours, plain)))


def test_uniformity_is_blind_to_a_common_rotation(rng):
    z = F.normalize(torch.randn(9, 3, generator=rng, dtype=torch.float64), dim=-1)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64)).Q
    torch.testing.assert_close(losses.uniformity(z @ rotation), losses.uniformity(z))


def test_equal_vectors_give_a_finite_gradient():
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    losses.uniformity(F.normalize(z, dim=-1)).backward()
    assert z.grad.isfinite().all()


def test_bootstrap_is_zero_for_the_same_direction_four_for_the_opposite_and_leaves_the_target_alone():
    predicted = torch.tensor([[2.0, 0.0], [2.0, 0.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [-3.0, 0.0]], requires_grad=True)
    loss = losses.bootstrap(predicted, target)
    assert loss.tolist() == [0.0, 4.0]
    loss.sum().backward()
    assert target.grad is None


def test_multinomial_of_equal_logits_is_the_count_times_log_n_and_a_constant_changes_nothing(rng):
    targets = torch.rand(5, 7, generator=rng).round()
    torch.testing.assert_close(losses.multinomial(torch.full((5, 7), 3.0), targets), targets.sum(1) * math.log(7))
    logits = torch.randn(5, 7, generator=rng)
    torch.testing.assert_close(losses.multinomial(logits + torch.arange(5.0)[:, None], targets),
                               losses.multinomial(logits, targets))


def test_multinomial_of_one_item_is_cross_entropy_and_of_half_an_item_is_half_of_it(rng):
    logits, items = torch.randn(5, 7, generator=rng), torch.randint(7, (5,), generator=rng)
    targets = F.one_hot(items, 7).float()
    expected = F.cross_entropy(logits, items, reduction="none")
    torch.testing.assert_close(losses.multinomial(logits, targets), expected)
    torch.testing.assert_close(losses.multinomial(logits, targets / 2), expected / 2)


def test_the_divergence_is_that_of_torch_and_zero_for_the_standard_normal(rng):
    mean, log_std = torch.randn(4, 3, generator=rng), torch.randn(4, 3, generator=rng)
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, log_std.exp()),
                                                 torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(losses.gaussian_kl(mean, log_std), expected)
    assert not losses.gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).any()
