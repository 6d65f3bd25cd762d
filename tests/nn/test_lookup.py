"""Propagation at the rows of a batch: the bits of propagation at all rows."""

import gc
import weakref

import pytest
import torch

from recot.nn.graph import Graph, propagate
from recot.nn.lookup import Rows

N_USERS, N_ITEMS, D = 23, 31, 8
USERS, ITEMS = torch.tensor([3, 7, 3, 22]), torch.tensor([[0, 5], [30, 5], [8, 9], [5, 1]])
"""Rows of a batch; some are looked up twice, and user 22 and item 30 have no edge."""


@pytest.fixture
def edges(rng):
    return (torch.rand(N_USERS - 1, N_ITEMS - 1, generator=rng) < 0.3).nonzero(as_tuple=True)


def drawn(rng):
    return [torch.randn(size, D, generator=rng).requires_grad_() for size in (N_USERS, N_ITEMS)]


LOOK_UPS = {
    "a batch": [(0, USERS), (1, ITEMS)], "another order": [(1, ITEMS), (0, USERS)],
    "one side": [(0, USERS)], "the other side": [(1, ITEMS)], "nothing but one": [(1, torch.tensor([2]))],
    "a side twice": [(0, USERS), (1, ITEMS), (1, ITEMS[:, 0])], "both twice": 2 * [(0, USERS), (1, ITEMS)],
    "three times": [(0, USERS), *([(1, ITEMS)] * 3)],
    "against all items": [(0, USERS), (1, None)], "all and some": [(0, None), (1, ITEMS), (1, None), (0, USERS)]}


@pytest.mark.parametrize("look_ups", LOOK_UPS.values(), ids=LOOK_UPS)
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_vectors_and_gradients_are_those_of_all_rows_to_the_last_bit(edges, rng, look_ups, n_layers, drop):
    operators = Graph.of(*edges, N_USERS, N_ITEMS).operators(drop)
    layer0 = drawn(rng)
    rows, whole = Rows(*layer0, operators, n_layers), propagate(*layer0, operators, n_layers)
    found = []
    for vectors in ([rows(side, ids) for side, ids in look_ups],
                    [whole[side] if ids is None else whole[side][ids] for side, ids in look_ups]):
        rng.manual_seed(1)
        loss = sum((z * torch.randn(z.shape, generator=rng)).sigmoid().sum() for z in vectors)
        found.append((vectors, torch.autograd.grad(loss, layer0)))
    for ours, theirs in zip(found[0][0], found[1][0], strict=True):
        assert ours.equal(theirs)
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        assert ours.equal(theirs) and ours.any()


def test_a_second_backward_pass_begins_anew_and_a_look_up_without_gradient_counts_for_nothing(edges, rng):
    operators, layer0 = Graph.of(*edges, N_USERS, N_ITEMS).operators(), drawn(rng)
    rows = Rows(*layer0, operators, 2)
    rows(1, torch.tensor([4]))
    loss = rows(0, USERS).square().sum() + rows(1, ITEMS).square().sum()
    first, second = (torch.autograd.grad(loss, layer0, retain_graph=True) for _ in range(2))
    assert all(one.equal(other) for one, other in zip(first, second, strict=True))


def test_nothing_is_left_of_a_step_without_the_collector_of_cycles(edges, rng):
    operators, layer0 = Graph.of(*edges, N_USERS, N_ITEMS).operators(), drawn(rng)
    gc.disable()
    try:
        rows = Rows(*layer0, operators, 2)
        kept = weakref.ref(rows.shared)
        (rows(0, USERS).sum() + rows(1, ITEMS).sum()).backward()
        del rows
        assert kept() is None
    finally:
        gc.enable()
