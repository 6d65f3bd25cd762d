"""RMSProp: the numbers of TensorFlow 1."""

import pytest
import torch

from recot.fit import rmsprop
from recot.fit.rmsprop import RMSProp


def test_the_average_starts_at_one_and_eps_is_under_the_root():
    """p = 1 and the gradients 2 and -1, by hand: averages 1.3 and 1.27."""
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = RMSProp([parameter], 0.1, eps=0.3)
    parameter.grad = torch.tensor([2.0])
    optimizer.step()
    assert parameter.item() == pytest.approx(1 - 0.1 * 2 / 1.6**0.5)
    parameter.grad = torch.tensor([-1.0])
    optimizer.step()
    assert parameter.item() == pytest.approx(1 - 0.1 * 2 / 1.6**0.5 + 0.1 / 1.57**0.5)


def test_a_tiny_steady_gradient_moves_its_parameter_less_than_torchs_own_does():
    """Gradients of 1e-6 lie below the root of eps, 1e-5: a tenth of the learning rate a step, not all of it."""
    ours, theirs = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    first, second = RMSProp([ours], 1.0), torch.optim.RMSprop([theirs], 1.0, alpha=0.9, eps=1e-10)
    for _ in range(400):
        before = ours.item(), theirs.item()
        ours.grad, theirs.grad = torch.tensor([1e-6]), torch.tensor([1e-6])
        first.step()
        second.step()
    assert ours.item() - before[0] == pytest.approx(-0.0995, abs=1e-3)
    assert theirs.item() - before[1] == pytest.approx(-1.0, abs=1e-3)


def test_decay_is_coupled_and_a_parameter_without_gradient_stays():
    decayed, by_hand, still = (torch.nn.Parameter(torch.full((3,), 2.0)) for _ in range(3))
    optimizer, plain = RMSProp([decayed, still], 0.1, weight_decay=0.5), RMSProp([by_hand], 0.1)
    decayed.grad, by_hand.grad = torch.ones(3), torch.ones(3) + 0.5 * 2.0
    optimizer.step()
    plain.step()
    assert decayed.data.equal(by_hand.data) and still.tolist() == [2.0] * 3


def test_a_closure_is_called_with_gradients_before_the_step():
    parameter = torch.nn.Parameter(torch.ones(1))

    def closure():
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert RMSProp([parameter], 0.1).step(closure).item() == 1.0 and parameter.item() < 1.0


def test_pieces_of_a_large_parameter_move_as_the_whole_does(rng, monkeypatch):
    start, slope = torch.randn(7, 5, generator=rng), torch.randn(7, 5, generator=rng)
    moved = []
    for piece in (3, 1000):
        monkeypatch.setattr(rmsprop, "PIECE", piece)
        parameter = torch.nn.Parameter(start.clone())
        optimizer = RMSProp([parameter], 0.1, weight_decay=0.2)
        for _ in range(3):
            parameter.grad = slope.clone()
            optimizer.step()
        moved.append(parameter.detach())
    assert torch.equal(*moved) and not torch.equal(moved[0], start)
