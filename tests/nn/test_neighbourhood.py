"""Weighted sums over neighbours against dense matrices."""

import pytest
import torch

from recot.data.interactions import Ragged
from recot.nn.neighbourhood import Neighbourhood

ROWS = [[1, 3], [0], [], [4, 0, 1], [3]]  # node 1 hears 0 and not 3, which hears it


@pytest.fixture
def graph():
    return Neighbourhood.of(Ragged.from_lists(ROWS))


def dense(graph, weights):
    matrix = torch.zeros(len(graph.heard), len(graph.heard), dtype=weights.dtype)
    return matrix.index_put((graph.heard.rows, graph.heard.values), weights)


def test_sums_are_a_product_with_a_matrix_and_so_are_their_gradients(graph, rng):
    weights, vectors = torch.rand(7, generator=rng).requires_grad_(), torch.randn(5, 3, generator=rng).requires_grad_()
    upstream = torch.randn(5, 3, generator=rng)
    mine, plain = graph.sums(weights, vectors), dense(graph, weights) @ vectors
    torch.testing.assert_close(mine, plain)
    for found, expected in zip(torch.autograd.grad((mine * upstream).sum(), (weights, vectors)),
                               torch.autograd.grad((plain * upstream).sum(), (weights, vectors)), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_softmax_is_over_what_a_node_hears(graph, rng):
    scores = torch.rand(7, generator=rng)
    whole = dense(graph, scores).masked_fill(dense(graph, torch.ones(7)) == 0, -torch.inf).softmax(1)
    torch.testing.assert_close(dense(graph, graph.softmax(scores)), whole.nan_to_num(0.0))


@pytest.mark.parametrize("k", [2, 9, 40])
def test_scores_in_0_to_1_give_weights_at_most_a_factor_e_apart(k, rng):
    star = Neighbourhood.of(Ragged.from_lists([list(range(k))] + [[]] * (k - 1)))
    weights, e = star.softmax((torch.randn(k, generator=rng) * 9).sigmoid()), torch.e
    assert weights.min() >= 1 / (1 + (k - 1) * e) - 1e-6 and weights.max() <= e / (e + k - 1) + 1e-6
    assert weights.max() / weights.min() <= e * (1 + 1e-5) and weights.sum().item() == pytest.approx(1, abs=1e-5)


def test_users_and_items_hear_each_other():
    graph = Neighbourhood.bipartite(torch.tensor([1, 0, 1]), torch.tensor([0, 2, 2]), 2, 3)
    assert graph.heard.to_lists() == [[4], [2, 4], [1], [], [0, 1]]
    assert torch.equal(dense(graph, torch.ones(6)), dense(graph, torch.ones(6)).T)


def test_a_sample_has_some_neighbours_of_each_node_and_all_where_there_are_few(graph):
    rng, seen = torch.Generator().manual_seed(0), set()
    for _ in range(60):
        rows = graph.sampled(2, rng).heard.to_lists()
        assert [len(row) for row in rows] == [2, 1, 0, 2, 1]
        assert all(set(row) <= set(whole) and len(set(row)) == len(row) for row, whole in zip(rows, ROWS, strict=True))
        seen.add(frozenset(rows[3]))
    assert seen == {frozenset(pair) for pair in ((4, 0), (4, 1), (0, 1))}
    assert sorted(map(sorted, graph.sampled(9, rng).heard.to_lists())) == sorted(map(sorted, ROWS))
