"""Products with packed items: not one bit differs from ``@``, and nothing that may change is packed."""

import pytest
import torch

from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query
from recot.networks.factorisation import Tables
from recot.networks.lightgcn import LightGCN
from recot.nn import similarity
from recot.nn.product import Packed, Products, packable, part

N_ITEMS = 1_500
"""As many as are worth packing."""


@pytest.mark.parametrize("d", [1, 7, 64, 192, 193, 200, 256, 384, 600])
@torch.no_grad()
def test_scores_are_those_of_the_plain_product_to_the_last_bit(d, rng):
    items = torch.randn(N_ITEMS, d, generator=rng)
    products = Products(items)
    for size in (64, 64, 65, 128, 63, 1, 64):
        users = torch.randn(size, d, generator=rng)
        assert products(users).equal(users @ items.mT)


@torch.no_grad()
def test_where_sums_are_made_in_another_order_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(Packed, "__call__", lambda packed, users: users.flip(1) @ torch.ones(N_ITEMS, 8).mT)
    assert part.__wrapped__(64, N_ITEMS, 8, 1) == 0


@torch.no_grad()
def test_without_onednn_nothing_is_packed(monkeypatch, rng):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert part.__wrapped__(64, N_ITEMS, 8, 1) == 0


def test_gradients_few_users_few_items_and_other_types_take_the_plain_product():
    users, items = torch.ones(64, 8), torch.ones(N_ITEMS, 8)
    assert not packable(users, items)  # gradients are on
    with torch.no_grad():
        assert packable(users, items)
        assert not packable(users[:63], items) and not packable(users, items[:1_000])
        assert not packable(users.double(), items.double()) and not packable(users[None], items)
        with torch.autocast("cpu"):
            assert not packable(users, items)


@pytest.mark.parametrize("compare", [similarity.dot, similarity.cosine, similarity.nearest, similarity.minus_distance])
@torch.no_grad()
def test_a_similarity_to_items_that_stay_is_the_similarity(compare, rng):
    items, users = torch.randn(N_ITEMS, 16, generator=rng), torch.randn(64, 16, generator=rng)
    held = similarity.against(compare, items)
    assert all(held(z).equal(compare(z, items)) for z in (users, users[:9]))


@pytest.fixture
def networks():
    users, items = torch.arange(70).repeat_interleave(4), torch.randperm(N_ITEMS)[:280]
    train = Interactions.from_pairs(users, items, 70, N_ITEMS)
    made = [Tables(70, N_ITEMS, 8), Tables(70, N_ITEMS, 8, score="cosine"), LightGCN(70, N_ITEMS, 8)]
    for network in made:
        network.eval().bind(train)
    return made


@torch.no_grad()
def test_a_network_at_rest_scores_as_ever_and_sees_a_change_when_it_is_left(networks):
    query = Query(torch.arange(70), Ragged.from_lists([[]] * 70))
    for network in networks:
        scores = network.score(query)
        with network.resting():
            assert network.score(query).equal(scores)
            with network.resting():
                assert network.score(query.slice(0, 64)).equal(scores[:64])
            assert network.score(query).equal(scores)
        network.item_table.weight.mul_(-1)
        network.user_table.weight.mul_(2)
        assert not network.score(query).equal(scores)


@torch.no_grad()
def test_items_are_looked_up_once_while_a_network_rests(networks, monkeypatch):
    query, asked = Query(torch.arange(70), Ragged.from_lists([[]] * 70)), []
    monkeypatch.setattr(Tables, "items", lambda network, ids=None: asked.append(1) or network.item_table())
    with networks[0].resting():
        assert not asked  # nothing has been scored
        for start in range(3):
            networks[0].score(query.slice(start, start + 64))
    assert len(asked) == 1
