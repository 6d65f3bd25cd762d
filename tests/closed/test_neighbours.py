"""Item neighbourhoods: hand values, the dense computation, and what the class claims about itself."""

import numpy as np
import pytest
import torch

from recot.closed import neighbours
from recot.closed.neighbours import ItemKNN
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query, Split


def fit(train, **settings):
    return ItemKNN(**settings).fit(Split(train, valid=None, test=()))


def every_user(train):
    return Query(torch.arange(train.n_users), train.by_user)


def by_definition(train, k, shrink):
    """(n_items, n_items) from the formula, an entry at a time and a sort per column."""
    x = np.zeros((train.n_users, train.n_items))
    x[train.users, train.items] = train.weights
    kept = np.zeros((train.n_items, train.n_items), np.float32)
    for j in range(train.n_items):
        bottom = [np.sqrt((x[:, i] ** 2).sum()) * np.sqrt((x[:, j] ** 2).sum()) + shrink for i in range(train.n_items)]
        found = [(x[:, i] @ x[:, j] / bottom[i], i) for i in range(train.n_items) if i != j and x[:, i] @ x[:, j] > 0]
        for similarity, i in sorted(found, key=lambda pair: (-pair[0], pair[1]))[:k]:
            kept[i, j] = similarity
    return kept


@pytest.fixture
def three_users():
    """Item 0 of users 0, 1, 2; item 1 of users 0, 1; item 2 of user 2."""
    return Interactions.from_pairs(torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 0, 1, 0, 2]), 3, 3)


def test_three_users_by_hand(three_users):
    dense = fit(three_users, k=2).similarity.toarray()
    first, second = 2 / 6**0.5, 1 / 3**0.5
    np.testing.assert_allclose(dense, [[0, first, second], [first, 0, 0], [second, 0, 0]], rtol=1e-6)
    shrunk = fit(three_users, k=2, shrink=10).similarity.toarray()
    np.testing.assert_allclose(shrunk[0], [0, 2 / (6**0.5 + 10), 1 / (3**0.5 + 10)], rtol=1e-6)
    assert fit(three_users, k=1).similarity.toarray()[:, 0] == pytest.approx([0, first, 0])


def test_two_users_by_hand_and_neighbours_are_kept_of_the_target():
    """u1 = {a, b}, u2 = {b}; then items a, c close to b and to nothing else, with one neighbour kept each."""
    two = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 2)
    assert fit(two).similarity.toarray()[0, 1] == pytest.approx(0.70711, abs=5e-6)
    assert fit(two, shrink=1).similarity.toarray()[0, 1] == pytest.approx(0.41421, abs=5e-6)
    star = Interactions.from_pairs(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 2, 0]), 3, 3)
    kept = fit(star, k=1).similarity.toarray() > 0
    assert kept.sum(0).tolist() == [1, 1, 1] and kept[1].tolist() == [True, False, True]  # b speaks for both


@pytest.mark.parametrize("shrink", [0.0, 10.0])
@pytest.mark.parametrize("k", [1, 5, 45, 1000])
def test_it_equals_the_dense_computation(train, rng, k, shrink):
    for data in (train, train.reweighted(torch.rand(len(train), generator=rng))):
        expected = by_definition(data, k, shrink)
        model = fit(data, k=k, shrink=shrink)
        np.testing.assert_allclose(model.similarity.toarray(), expected, rtol=1e-6)
        scores = model.score(every_user(data))
        torch.testing.assert_close(scores, data.by_user.dense(45) @ torch.from_numpy(expected))


@pytest.mark.parametrize("entries", [1, 7 * 45, 44 * 45])
def test_the_size_of_the_blocks_does_not_matter(train, monkeypatch, entries):
    expected = fit(train, k=5).similarity.toarray()
    monkeypatch.setattr(neighbours, "ENTRIES", entries)
    np.testing.assert_array_equal(fit(train, k=5).similarity.toarray(), expected)


def test_no_product_has_more_entries_than_it_claims(train, monkeypatch):
    monkeypatch.setattr(neighbours, "ENTRIES", 4 * 45)
    nearest, sizes = ItemKNN.nearest, []
    monkeypatch.setattr(ItemKNN, "nearest", lambda model, products, *rest: (
        sizes.append(np.prod(products.shape)), nearest(model, products, *rest))[1])
    fit(train, k=5)
    assert max(sizes) == 4 * 45 and sum(sizes) == 45 * 45


def test_ties_go_to_the_lower_item_number():
    """All items have the same users, so every similarity is 1."""
    users, items = torch.ones(4, 6).nonzero(as_tuple=True)
    dense = fit(Interactions.from_pairs(users, items, 4, 6), k=2).similarity.toarray()
    assert [column.nonzero()[0].tolist() for column in dense.T] == [[1, 2], [0, 2], *[[0, 1]] * 4]


def test_shrinkage_prefers_what_many_users_stand_behind():
    """Item 1 shares both its users with item 0, item 2 shares 8 of its 10: a perfect cosine of few against many."""
    pairs = [(u, 0) for u in range(10)] + [(u, 1) for u in (0, 1)] + [(u, 2) for u in range(2, 12)]
    train = Interactions.from_pairs(*torch.tensor(pairs).T, 12, 3)
    rare, frequent = 2 / 20**0.5, 8 / 10
    assert fit(train, k=1).similarity.toarray()[:, 1] == pytest.approx([rare, 0, 0])
    ratio = {shrink: np.divide(*fit(train, k=2, shrink=shrink).similarity.toarray()[[1, 2], 0]) for shrink in (0, 10)}
    assert ratio[0] == pytest.approx(rare / frequent)
    assert ratio[10] == pytest.approx((2 / (20**0.5 + 10)) / (8 / 20)) and ratio[10] < 0.7 * ratio[0]


def test_it_asks_the_history_and_never_the_user(train):
    model, query = fit(train, k=5), every_user(train)
    unseen = Query(torch.full_like(query.users, -1), query.history)
    assert model.inductive and model.score(unseen).equal(model.score(query))
    invented = model.score(Query(torch.tensor([-1, -1]), Ragged.from_lists([[3, 11], []])))
    np.testing.assert_allclose(invented[0], model.similarity.toarray()[[3, 11]].sum(0), rtol=1e-6)
    assert not invented[1].any()


def test_an_item_of_weight_zero_or_without_users_is_nobodys_neighbour(train):
    silent = train.reweighted((train.items != 7).float())
    dense = fit(silent, k=45).similarity.toarray()
    assert np.isfinite(dense).all() and not dense[[7, 42, 43, 44]].any() and not dense[:, [7, 42, 43, 44]].any()
