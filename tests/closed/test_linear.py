"""Linear autoencoders: hand values, the equations written out, and what is optimal about the weights."""

import numpy as np
import pytest
import torch
from closed_forms import dense, fit
from scipy import sparse

from recot.closed import linear
from recot.closed.linear import EASE
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


def test_ease_of_two_users_by_hand():
    """X = [[1, 1], [1, 0]] and a ridge of one: the second item from the first 1/3, the first from the second 1/2."""
    model = fit(EASE(ridge=1.0), Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), 2, 2))
    np.testing.assert_allclose(model.weights, [[0, 1 / 3], [1 / 2, 0]], rtol=1e-6)


@pytest.mark.parametrize("ridge", [1e-4, 0.5, 500.0])  # the first one in float64, the others in float32
def test_each_column_of_ease_is_a_ridge_regression_on_all_other_items(train, weighted, ridge):
    for data in (train, weighted):
        x, found = dense(data), fit(EASE(ridge), data).weights
        for j in range(45):
            others = np.delete(x, j, 1)
            expected = np.linalg.solve(others.T @ others + ridge * np.eye(44), others.T @ x[:, j])
            np.testing.assert_allclose(np.delete(found[:, j], j), expected, atol=2e-5)
            assert found[j, j] == 0


def test_ease_of_a_huge_ridge_counts_common_users(train):
    x, found = dense(train), fit(EASE(1e7), train).weights
    common = x.T @ x
    np.fill_diagonal(common, 0)
    np.testing.assert_allclose(1e7 * found, common, rtol=1e-4, atol=2e-4)


def test_ease_that_is_not_positive_definite_is_refused():
    """Two items with the same four users, whose Gram matrix no ridge that float64 loses can mend."""
    users, items = torch.ones(4, 2).nonzero(as_tuple=True)
    with pytest.raises(ValueError, match="give a larger model.ridge"):
        fit(EASE(1e-300), Interactions.from_pairs(users, items, 4, 2))
    with pytest.raises(ValueError, match="model.ridge = 0 would divide by zero"):
        EASE(0)


@pytest.mark.parametrize("entries", [1, 7 * 45, 45 * 45])
def test_the_size_of_the_blocks_does_not_matter(train, monkeypatch, entries):
    expected = fit(EASE(5.0), train).weights
    monkeypatch.setattr(linear, "ENTRIES", entries)
    np.testing.assert_array_equal(fit(EASE(5.0), train).weights, expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_inverse_takes_the_place_of_the_matrix(train, kind):
    x = dense(train)
    a = linear.gram(sparse.csr_array(x), kind)
    np.testing.assert_array_equal(a, x.T @ x)
    a += np.eye(45, dtype=kind)
    place = a.ctypes.data
    linear.invert(a)
    assert a.ctypes.data == place and a.dtype == kind
    np.testing.assert_allclose(a, np.linalg.inv(x.T @ x + np.eye(45)), atol=1e-5)


@pytest.mark.parametrize("make", [lambda: EASE(5.0)])
def test_it_asks_the_history_and_never_the_user(train, make):
    model, query = fit(make(), train), Query(torch.arange(60), train.by_user)
    assert model.score(Query(torch.full((60,), -1), query.history)).equal(model.score(query))
    every = model.score(Query(torch.full((4,), -1), Ragged.from_lists([[3], [11], [], list(range(45))])))
    both = model.score(Query(torch.tensor([-1]), Ragged.from_lists([[3, 11]])))[0]
    torch.testing.assert_close(both, every[0] + every[1])
    one_by_one = model.score(Query(torch.full((45,), -1), Ragged.from_lists([[item] for item in range(45)])))
    torch.testing.assert_close(every[3], one_by_one.sum(0), atol=1e-5, rtol=1e-5)
    assert not every[2].any() and not one_by_one[:, 42:].any() and not one_by_one[42:].any()
