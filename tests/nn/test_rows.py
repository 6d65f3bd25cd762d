"""Rows picked and joined: torch's values and gradients."""

import torch

from recot.nn.rows import joined, picked


def test_picked_rows_are_those_of_torch_and_so_are_their_gradients(rng):
    whole, ids = torch.randn(7, 3, generator=rng, dtype=torch.float64), torch.tensor([2, 6, 2, 0])
    weight = torch.randn(3, 4, generator=rng, dtype=torch.float64).T  # gradients that are not contiguous
    mine, plain = whole.clone().requires_grad_(), whole.clone().requires_grad_()
    torch.testing.assert_close(picked(mine, ids), plain[ids])
    (picked(mine, ids) * weight).sum().backward()
    (plain[ids] * weight).sum().backward()
    torch.testing.assert_close(mine.grad, plain.grad)


def test_joined_rows_are_those_of_torch_and_their_gradients_are_contiguous(rng):
    left, right = (torch.randn(5, 2, n, generator=rng).requires_grad_() for n in (3, 4))
    weight, seen = torch.randn(5, 2, 7, generator=rng), []
    for part in (left, right):
        part.register_hook(lambda grad: seen.append(grad.is_contiguous()))
    assert torch.equal(joined(left, right), torch.cat([left, right], -1))
    (joined(left, right) * weight).sum().backward()
    assert torch.equal(left.grad, weight[..., :3]) and torch.equal(right.grad, weight[..., 3:]) and seen == [True, True]
