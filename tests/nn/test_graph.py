"""Propagation on the graph of users and items."""

import copy

import pytest
import torch
from card import Card, held

from recot.nn.graph import Graph, product, propagate


def dense(users, items, n_users, n_items):
    """The normalised adjacency of the whole graph, (n_users + n_items, n_users + n_items) float64."""
    a = torch.zeros(n_users + n_items, n_users + n_items, dtype=torch.float64)
    a[users, n_users + items] = a[n_users + items, users] = 1.0
    scale = a.sum(1).rsqrt().nan_to_num(posinf=0.0)
    return scale[:, None] * a * scale


@pytest.fixture
def edges(rng):
    """Seven users and nine items, with one of each that nobody joins; in no order."""
    users, items = (torch.rand(6, 8, generator=rng) < 0.4).nonzero(as_tuple=True)
    place = torch.randperm(len(users), generator=rng)
    return users[place], items[place], 7, 9


def test_one_edge_swaps_its_ends_so_that_one_layer_is_their_mean():
    u, i = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 1.0]])
    operators = Graph.of(torch.tensor([0]), torch.tensor([0]), 1, 1).operators()
    for found in propagate(u, i, operators, 1):
        assert found.tolist() == [[2.0, 3.0]]


def test_the_root_of_the_degrees_is_a_fixed_point(edges):
    graph = Graph.of(*edges)
    u, i = (torch.bincount(ids, minlength=size).float().sqrt()[:, None] for ids, size in zip(
        edges[:2], edges[2:], strict=True))
    to_users, to_items = graph.operators()
    torch.testing.assert_close(to_users @ i, u)
    torch.testing.assert_close(to_items @ u, i)


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_propagation_and_its_gradient_are_those_of_dense_powers(edges, rng, n_layers):
    operator = dense(*edges)
    u, i = (torch.randn(size, 3, generator=rng).requires_grad_() for size in edges[2:])
    weight = torch.randn(16, 3, generator=rng)
    ours = torch.cat(propagate(u, i, Graph.of(*edges).operators(), n_layers))
    layers = [torch.cat([u, i]).double()]
    for _ in range(n_layers):
        layers.append(operator @ layers[-1])
    plain = torch.stack(layers).mean(0)
    torch.testing.assert_close(ours.double(), plain, atol=1e-6, rtol=1e-5)
    for mine, expected in zip(torch.autograd.grad((ours * weight).sum(), (u, i)), torch.autograd.grad(
            (plain * weight).sum(), (u, i)), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-5)


def test_nodes_without_edges_keep_their_share_of_layer_zero(edges, rng):
    u, i = (torch.randn(size, 3, generator=rng) for size in edges[2:])
    users, items = propagate(u, i, Graph.of(*edges).operators(), 3)
    torch.testing.assert_close(users[6], u[6] / 4)
    torch.testing.assert_close(items[8], i[8] / 4)


def test_dropped_edges_are_the_same_in_both_directions_and_the_others_are_scaled_up(edges):
    graph = Graph.of(*edges)
    torch.manual_seed(0)
    to_users, to_items = (operator.to_dense() for operator in graph.operators(0.5))
    whole = graph.operators()[0].to_dense()
    torch.testing.assert_close(to_users, to_items.T)
    kept = to_users != 0
    assert 0 < kept.sum() < (whole != 0).sum()
    torch.testing.assert_close(to_users[kept], 2 * whole[kept])


def test_a_copy_shares_the_graph_which_never_changes(edges):
    graph = Graph.of(*edges)
    assert graph.whole is graph.whole and copy.deepcopy(graph) is graph


class OnACard:
    """A sparse matrix of a card: its parts, and a product that says that it was taken."""

    def __init__(self, matrix):
        self.col_indices, self.crow_indices, self.values = (
            lambda part=part: held(part()) for part in (matrix.col_indices, matrix.crow_indices, matrix.values))

    def __matmul__(self, dense):
        return "sparse"


@pytest.mark.parametrize("deterministic", [True, False])
def test_on_a_card_a_product_adds_in_one_order_where_that_is_asked_for(edges, deterministic):
    """The sparse product of CUDA adds in another order every time, and torch lets it, whatever was asked for."""
    matrix, dense = Graph.of(*edges).operators()[0], torch.randn(9, 4)
    torch.use_deterministic_algorithms(deterministic)
    try:
        with Card():
            found = product(OnACard(matrix), held(dense))
            found = found.cpu() if deterministic else found
    finally:
        torch.use_deterministic_algorithms(False)
    if deterministic:
        torch.testing.assert_close(found, matrix.to_dense() @ dense)
    else:
        assert found == "sparse"
