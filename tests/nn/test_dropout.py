"""Dropout by masks of our own: how much is dropped, that nothing is shifted by it, and when it rests."""

import pytest
import torch

from recot.nn.dropout import STEPS, Dropout, mask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7, 0.999])
def test_a_share_p_is_zero_and_the_rest_is_scaled_up(p):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(1000, 401))  # 401 000 numbers, no multiple of four in a row
    kept = dropped != 0
    assert dropped[kept].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-2 if p == 0.999 else 1e-4)
    assert (~kept).double().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / 401_000) ** 0.5 + 1 / STEPS)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=4 * (p / (1 - p) / 401_000) ** 0.5)


def test_neighbours_drop_independently():
    torch.manual_seed(1)
    kept = (mask(torch.empty(400_000), STEPS // 2) > 0).double() - 0.5
    for lag in (1, 2, 3, 4, 5, 8):  # four come out of one number
        assert abs(kept[lag:] @ kept[:-lag]) < 0.25 * 4 * 400_000 ** 0.5
    for lane in range(4):
        assert abs(kept[lane::4].sum()) < 0.5 * 4 * 100_000 ** 0.5


def test_gradients_go_where_values_went():
    x = torch.randn(7, 3, requires_grad=True)
    dropped = Dropout(0.4)(x)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, (dropped != 0) / 0.6, rtol=1e-4, atol=0.0)


def test_it_rests_in_evaluation_and_at_zero():
    x = torch.randn(5)
    assert Dropout(0.9).eval()(x) is x and Dropout(0.0)(x) is x
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)


def test_the_global_seed_decides():
    x, drawn = torch.ones(50), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(Dropout(0.5)(x))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_what_is_no_probability_or_leaves_nothing_is_refused(p):
    with pytest.raises(ValueError, match="give 0 or more, below 1"):
        Dropout(p)
