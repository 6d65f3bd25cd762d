"""Hand values and identities of the formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from recot import losses


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
