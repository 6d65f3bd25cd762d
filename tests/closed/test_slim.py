"""SLIM: scikit-learn's elastic net column by column, hand values, and what is optimal about the weights."""

import numpy as np
import pytest
import torch
from closed_forms import dense, fit
from sklearn.linear_model import ElasticNet

from recot.closed import slim
from recot.closed.slim import SLIM
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


@pytest.fixture
def train(rng):
    """80 users, 45 items, of which the last three have no user."""
    taken = torch.rand(80, 45, generator=rng) < torch.linspace(0.4, 0.05, 45)[torch.randperm(45, generator=rng)]
    taken[:, 42:] = False
    return Interactions.from_pairs(*taken.nonzero(as_tuple=True), 80, 45)


def by_columns(x, alpha, l1_ratio):
    """(n_items, n_items) by scikit-learn, the own column zeroed for each fit."""
    found = np.zeros((x.shape[1], x.shape[1]))
    for j in range(x.shape[1]):
        others = x.copy()
        others[:, j] = 0
        net = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, positive=True, fit_intercept=False, tol=1e-8, max_iter=10_000)
        found[:, j] = net.fit(others, x[:, j]).coef_
    return found


def communities(n_users=300, n_items=200):
    """Items of ten groups and of different popularity, as a matrix."""
    rng = np.random.default_rng(0)
    own = rng.integers(0, 10, n_users)[:, None] == rng.integers(0, 10, n_items)
    x = rng.random((n_users, n_items)) < np.where(own, 0.6, 0.08) * rng.uniform(0.2, 1, n_items)
    return Interactions.from_pairs(*torch.from_numpy(x).nonzero(as_tuple=True), n_users, n_items)


def test_two_users_by_hand():
    """X = [[1, 1], [1, 0]]: G = [[1, 1/2], [1/2, 1/2]], so the weights are (1/2 - a r) / (G_ii + a (1 - r))."""
    two = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), 2, 2)
    found = fit(SLIM(alpha=0.2, l1_ratio=0.5), two).similarity.toarray()
    np.testing.assert_allclose(found, [[0, 0.4 / 1.1], [0.4 / 0.6, 0]], rtol=1e-6)
    assert not fit(SLIM(alpha=1.0, l1_ratio=0.5), two).similarity.toarray().any()  # 1/2 buys nothing at a price of 1/2


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.1, 0.1), (1e-2, 0.5), (1e-3, 1e-3), (1e-2, 1.0)])
def test_it_is_the_elastic_net_of_scikit_learn(train, weighted, alpha, l1_ratio):
    for data in (train, weighted):
        found = fit(SLIM(alpha, l1_ratio, k=45, tolerance=1e-6), data).similarity.toarray()
        np.testing.assert_allclose(found, by_columns(dense(data), alpha, l1_ratio), atol=1e-4)


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(1e-2, 1e-2), (1e-3, 1e-1)])
def test_it_is_the_elastic_net_of_scikit_learn_on_two_hundred_items(alpha, l1_ratio):
    data = communities()
    found = fit(SLIM(alpha, l1_ratio, k=200, tolerance=1e-5), data).similarity.toarray()
    expected = by_columns(dense(data), alpha, l1_ratio)
    assert np.abs(found - expected).max() < 1e-4 and 5 < (expected > 1e-6).sum(0).mean() < 150


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_no_weight_is_further_from_its_best_value_than_the_tolerance(tolerance):
    data = communities()
    w = fit(SLIM(1e-3, 1e-2, k=200, tolerance=tolerance), data).similarity.toarray().astype(float)
    x = dense(data)
    products = x.T @ x / len(x)
    slope = products - products @ w - 1e-5 - 1e-3 * (1 - 1e-2) * w
    best = np.maximum(0, w + slope / (np.diag(products) + 1e-3 * (1 - 1e-2))[:, None])
    np.fill_diagonal(best, 0)
    assert np.abs(best - w).max() < 2 * tolerance and not np.diag(w).any() and (w >= 0).all()


def test_each_column_keeps_its_largest_weights_and_all_where_there_are_no_more(train):
    every = fit(SLIM(1e-2, 0.1, k=45), train).similarity.toarray()
    most = (every > 0).sum(0).max()
    np.testing.assert_array_equal(fit(SLIM(1e-2, 0.1, k=int(most)), train).similarity.toarray(), every)
    few = fit(SLIM(1e-2, 0.1, k=3), train).similarity.toarray()
    for j in range(45):
        kept = np.sort(every[:, j])[::-1][:3]
        np.testing.assert_array_equal(np.sort(few[:, j])[::-1][:3], kept)
        assert (few[:, j] > 0).sum() == (kept > 0).sum()


@pytest.mark.parametrize("entries", [1, 7 * 45, 44 * 45])
@pytest.mark.parametrize("rows", [1, 17])
def test_the_size_of_the_blocks_does_not_matter(train, monkeypatch, entries, rows):
    expected = fit(SLIM(1e-2, 0.1, tolerance=1e-6), train).similarity.toarray()
    monkeypatch.setattr(slim, "ENTRIES", entries)
    monkeypatch.setattr(slim, "ROWS", rows)
    np.testing.assert_allclose(fit(SLIM(1e-2, 0.1, tolerance=1e-6), train).similarity.toarray(), expected, atol=2e-5)


def test_a_sweep_and_a_solution_on_the_support_never_cost_more():
    x = dense(communities())
    products = torch.from_numpy(x.T @ x / len(x)).float()
    pull, columns, w = products[:, :20] - 1e-4, torch.arange(20), torch.rand(200, 20)
    w[columns, columns] = 0

    def costs(w):
        return np.array([slim.worth(products.numpy() + 0.01 * np.eye(200), column, gain)
                         for column, gain in zip(w.T.double().numpy(), pull.T.numpy(), strict=True)])
    values = [costs(w)]
    for _ in range(3):
        slim.sweep(products, w, pull, columns, 0.01)
        values.append(costs(w))
        w = torch.from_numpy(np.stack([slim.settled(products.numpy(), *both, 0.01)
                                       for both in zip(w.T.numpy(), pull.T.numpy(), strict=True)])).T.contiguous()
        values.append(costs(w))
    assert (np.diff(values, axis=0) <= 1e-6).all() and (w >= 0).all() and not w[columns, columns].any()


def test_a_support_that_cannot_be_solved_for_is_left_alone():
    """Two items with the same users and no ridge."""
    w = np.array([0.3, 0.2], np.float32)
    assert slim.settled(np.ones((2, 2), np.float32), w, np.ones(2, np.float32), 0.0) is w
    assert slim.settled(np.eye(2, dtype=np.float32), 0 * w, -np.ones(2, np.float32), 1.0).tolist() == [0, 0]


def test_items_with_the_same_users_and_no_squares_to_tell_them_apart_settle():
    users, items = torch.ones(4, 3).nonzero(as_tuple=True)
    w = fit(SLIM(0.1, 1.0), Interactions.from_pairs(users, items, 4, 3)).similarity.toarray()
    np.testing.assert_allclose(w.sum(0), 0.9, rtol=1e-5)


def test_it_asks_the_history_and_never_the_user(train):
    model, query = fit(SLIM(1e-2, 0.1), train), Query(torch.arange(80), train.by_user)
    assert model.score(Query(torch.full((80,), -1), query.history)).equal(model.score(query))
    invented = model.score(Query(torch.full((3,), -1), Ragged.from_lists([[3, 11], [], list(range(45))])))
    w = model.similarity.toarray()
    np.testing.assert_allclose(invented, [w[[3, 11]].sum(0), np.zeros(45), w.sum(0)], rtol=1e-5)


def test_columns_that_do_not_settle_are_refused(monkeypatch):
    monkeypatch.setattr(slim, "SWEEPS", 1)
    with pytest.raises(ValueError, match="still move by more than model.tolerance = 1e-06 after 1 sweeps"):
        fit(SLIM(1e-3, 0.1, tolerance=1e-6), communities())


@pytest.mark.parametrize(("words", "message"), [
    ({"alpha": 0.0}, "model.alpha = 0.0 leaves weights"), ({"l1_ratio": 1.1}, "model.l1_ratio = 1.1 is a share"),
    ({"k": 0}, "model.k = 0 leaves an item"), ({"tolerance": 0.0}, "model.tolerance = 0.0 is below")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        SLIM(**words)
