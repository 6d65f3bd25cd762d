"""Histories end to end: what attention sees of them is what it would see in one padded grid."""

import pytest
import torch
import torch.nn.functional as F

from recot.batches.layout import Filled, Layout
from recot.data.interactions import Ragged

LENGTHS = [3, 1, 0, 9, 5, 4, 20, 2]


@pytest.fixture
def layout():
    return Layout(Ragged.from_lists([list(range(length)) for length in LENGTHS]), 20)


def attention(q, k, v, allowed):
    return F.scaled_dot_product_attention(q, k, v, allowed)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_that_of_every_row_alone(layout, rng, causal):
    q, k, v = (torch.randn(sum(LENGTHS), 2, 4, generator=rng, dtype=torch.float64) for _ in range(3))
    found, start = layout.attend(attention, q, k, v, causal=causal), 0
    for length in LENGTHS:
        row = [part[start:start + length].transpose(0, 1) for part in (q, k, v)]
        alone = F.scaled_dot_product_attention(*row, is_causal=causal) if length else row[0]
        torch.testing.assert_close(found[start:start + length], alone.transpose(0, 1))
        start += length


def test_one_grid_gives_what_several_give(layout, rng, monkeypatch):
    parts = [torch.randn(sum(LENGTHS), 2, 4, generator=rng, dtype=torch.float64) for _ in range(3)]
    monkeypatch.setattr(Layout, "groups", staticmethod(lambda lengths, width: [(torch.arange(len(lengths)), width)]))
    one = Layout(layout.history, 25)
    assert len(one.grids) == 1 < len(layout.grids)
    torch.testing.assert_close(one.attend(attention, *parts), layout.attend(attention, *parts))


def test_grids_hold_every_row_once_and_little_padding(layout):
    assert sorted(grid.real.sum(1).tolist() for grid in layout.grids) == [[3, 1, 4, 2], [5], [9], [20]]
    assert sum(grid.real.numel() for grid in layout.grids) < 1.2 * sum(LENGTHS)


def test_nothing_is_nan_and_padding_gets_no_gradient(layout, rng):
    parts = [torch.randn(sum(LENGTHS), 1, 4, generator=rng, requires_grad=True) for _ in range(3)]
    layout.attend(attention, *parts).square().sum().backward()
    assert all(part.grad.isfinite().all() for part in parts)


def test_places_count_from_the_end_and_last_takes_the_end(layout):
    assert layout.places[:4].tolist() == [2, 1, 0, 0]
    states = torch.arange(sum(LENGTHS), dtype=torch.float32)[:, None]
    assert layout.last(states).flatten().tolist() == [2, 3, 0, 12, 17, 21, 41, 43]


def test_a_filled_order_begins_each_row_with_padding_that_everybody_is_blind_to(rng):
    layout = Filled(Ragged.from_lists([[5, 6, 7], [8]]), 4)
    assert layout.history.to_lists() == [[-1, 5, 6, 7], [-1, -1, -1, 8]]
    assert layout.real.tolist() == [False, True, True, True, False, False, False, True]
    assert layout.places.tolist() == [3, 2, 1, 0, 3, 2, 1, 0]
    [grid] = layout.grids
    looks = grid.allowed(causal=True)[:, 0]
    assert looks[0, 1:, 0].tolist() == [False] * 3 and looks[0, 0].all() and looks[1, :3].all()
    assert looks[0, 1:, 1:].equal(torch.ones(3, 3).tril().bool()) and looks[1, 3].tolist() == [False] * 3 + [True]


def test_padding_in_a_filled_order_sees_everything(rng):
    layout = Filled(Ragged.from_lists([[5, 6, 7]]), 5)
    q, k, v = (torch.randn(5, 2, 4, generator=rng, dtype=torch.float64) for _ in range(3))
    found = layout.attend(attention, q, k, v)
    everything = F.scaled_dot_product_attention(*(part.transpose(0, 1) for part in (q, k, v))).transpose(0, 1)
    torch.testing.assert_close(found[:2], everything[:2])
    alone = F.scaled_dot_product_attention(*(part[2:].transpose(0, 1) for part in (q, k, v)), is_causal=True)
    torch.testing.assert_close(found[2:], alone.transpose(0, 1))
    assert layout.laid(torch.ones(3, 3)).sum(1).tolist() == [0, 0, 3, 3, 3]


def test_a_filled_order_knows_where_its_items_are():
    layout = Filled(Ragged.from_lists([[5, 6, 7], [8]]), 4)
    assert layout.own.tolist() == [1, 2, 3, 7] and layout.items.tolist() == [5, 6, 7, 8]
    assert layout.bare.history.to_lists() == [[5, 6, 7], [8]]
    assert layout.shared().tolist() == [0, 2, 3, 4, 1, 1, 1, 5]  # two rows, and then four items


def test_an_item_that_padding_masks_is_seen_by_nobody_and_looks_back_at_what_is_real():
    layout = Filled(Ragged.from_lists([[5, -1, 7], [-1, 8]]), 4)
    assert layout.real.tolist() == [False, True, False, True, False, False, False, True]
    assert layout.items.tolist() == [5, 7, 8] and layout.own.tolist() == [1, 3, 7]
    [grid] = layout.grids
    looks = grid.allowed(causal=True)[:, 0]
    assert looks[0].tolist() == [[True] * 4, [False, True, False, False], [False, True, False, False],
                                 [False, True, False, True]]
    assert looks[1, :3].all() and looks[1, 3].tolist() == [False] * 3 + [True]  # a mask that comes first is as blind
    assert layout.bare.history.to_lists() == [[5, -1, 7], [8]] and layout.seeing.tolist() == [1, 2, 3, 7]
    assert layout.shared().tolist() == [0, 2, 3, 4, 1, 1, 1, 5]
    assert layout.laid(torch.ones(3, 1)).flatten().tolist() == [0, 1, 0, 1, 0, 0, 0, 1]
