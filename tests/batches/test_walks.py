"""Walks on the bipartite graph, and what is drawn against them."""

import pytest
import torch

from recot.batches.walks import adjacency, visits, walk, walks
from recot.data.interactions import Interactions


@pytest.fixture
def train():
    """Users 0, 1, 3 and items 0, 1, 3 in a path 0-0-1-1-3-3; user 2 and items 2 and 4 have no pair."""
    users, items = torch.tensor([0, 1, 1, 3, 3]), torch.tensor([0, 0, 1, 1, 3])
    return Interactions.from_pairs(users, items, 4, 5)


def test_the_neighbours_of_a_user_are_items_and_of_an_item_users(train):
    expected = [[4], [4, 5], [], [5, 7], [0, 1], [1, 3], [], [3], []]
    assert adjacency(train).to_lists() == expected


def test_every_step_of_a_walk_is_a_pair_and_each_neighbour_is_as_likely(train, rng):
    graph = adjacency(train)
    found = walk(graph, torch.tensor([1]).expand(4000), 6, rng)
    users, items = found[:, ::2], found[:, 1::2] - train.n_users
    assert train.contains(users, items).all() and train.contains(users[:, 1:], items[:, :-1]).all()
    assert (found[:, 1] == 4).double().mean().item() == pytest.approx(0.5, abs=0.03)
    after = found[found[:, 1] == 5][:, 2]
    assert (after == 3).double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_expected_visits_are_the_mean_of_many_walks(train, rng):
    graph = adjacency(train)
    starts = graph.lengths.nonzero().squeeze(1).repeat(3000)
    counted = torch.bincount(walk(graph, starts, 7, rng).flatten(), minlength=9) / 3000
    torch.testing.assert_close(visits(graph, 7), counted.double(), atol=0.15, rtol=0)
    assert visits(graph, 7).sum().item() == pytest.approx(7 * 6) and not visits(graph, 7)[[2, 6, 8]].any()


def test_an_epoch_starts_as_often_at_each_node_that_has_a_pair_and_draws_linked_nodes(train, rng):
    batches = list(walks(train, 4, rng, per_node=6, length=5, negatives=50, power=0.75))
    assert [len(batch.nodes) for batch in batches] == [4] * 9
    starts = torch.cat([batch.nodes[:, 0] for batch in batches])
    assert torch.bincount(starts, minlength=9).tolist() == [6, 6, 0, 6, 6, 6, 0, 6, 0]
    drawn = torch.cat([batch.negatives.flatten() for batch in batches])
    expected = visits(adjacency(train), 5).pow(0.75)
    torch.testing.assert_close(torch.bincount(drawn, minlength=9) / len(drawn), (expected / expected.sum()).float(),
                               atol=0.04, rtol=0)


def test_walks_are_new_in_every_epoch_and_the_same_for_the_same_seed(train):
    def epoch(rng):
        return torch.cat([batch.nodes for batch in walks(train, 4, rng, per_node=2, length=9, negatives=1, power=1.0)])

    first, again = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    once = epoch(first)
    assert epoch(again).equal(once) and not epoch(again).equal(once)
