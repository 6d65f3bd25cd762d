"""Random walks: the values of the papers' formulas by hand, the dense computation, and laws."""

import numpy as np
import pytest
import torch
from closed_forms import fit

from recot.closed import items, walks
from recot.closed.walks import P3alpha, RP3beta
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import Query


def pairs(*taken):
    users = torch.tensor([user for user, row in enumerate(taken) for _ in row])
    return Interactions.from_pairs(users, torch.tensor([item for row in taken for item in row]), len(taken),
                                   1 + max(max(row) for row in taken))


def by_definition(train, k, alpha, beta, normalize):
    """(n_items, n_items) from the formula, dense and with one sort per row and per column."""
    x = np.zeros((train.n_users, train.n_items))
    x[train.users, train.items] = train.weights
    with np.errstate(invalid="ignore", divide="ignore"):
        onward = np.where(x > 0, (x / x.sum(1, keepdims=True)) ** alpha, 0)
        back = np.where(x.T > 0, (x.T / x.T.sum(1, keepdims=True)) ** alpha, 0)
        w = np.where(x.sum(0) > 0, back @ onward / x.sum(0) ** beta, 0)
    np.fill_diagonal(w, 0)

    def top(rows):
        return np.array([[value if place in sorted(range(len(row)), key=lambda j: (-row[j], j))[:k] else 0
                          for place, value in enumerate(row)] for row in rows])
    w = top(w)
    if normalize:
        w = w / np.maximum(w.sum(1, keepdims=True), 1e-300)
    return top(w.T).T


def test_two_users_by_hand():
    """u1 = {a, b}, u2 = {b}: from a only to u1 and on with 1/2; from b to u1 with 1/2 and on with 1/2."""
    train = pairs([0, 1], [1])
    np.testing.assert_allclose(fit(P3alpha(alpha=1, normalize=False), train).similarity.toarray(),
                               [[0, 0.5], [0.25, 0]])
    np.testing.assert_allclose(fit(RP3beta(alpha=1, beta=1, normalize=False), train).similarity.toarray(),
                               [[0, 0.25], [0.25, 0]])
    np.testing.assert_allclose(fit(P3alpha(alpha=1), train).similarity.toarray(), [[0, 1], [1, 0]])


def test_three_users_by_hand():
    """u1 = {a, b, c}, u2 = {a, b}, u3 = {a}: W_ab = (1/3 + 1/2) / 3, W_ac = 1/9, W_bc = 1/6, W_ca = W_cb = 1/3."""
    train = pairs([0, 1, 2], [0, 1], [0])
    w = np.array([[0, 5 / 18, 1 / 9], [5 / 12, 0, 1 / 6], [1 / 3, 1 / 3, 0]])
    np.testing.assert_allclose(fit(P3alpha(normalize=False), train).similarity.toarray(), w, rtol=1e-6)
    np.testing.assert_allclose(fit(P3alpha(), train).similarity.toarray(), w / w.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(fit(RP3beta(beta=0.5, normalize=False), train).similarity.toarray(),
                               w / np.sqrt([3, 2, 1]), rtol=1e-6)
    # With one entry a row, a and c speak for each other's like, and b for a; c, with a tie, takes the lower number.
    np.testing.assert_allclose(fit(P3alpha(k=1, normalize=False), train).similarity.toarray(),
                               [[0, 5 / 18, 0], [5 / 12, 0, 0], [0, 0, 0]], rtol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 0.6), (1.7, 1.3)])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_it_equals_the_dense_computation(train, rng, k, alpha, beta, normalize):
    for data in (train, train.reweighted(0.1 + 0.9 * torch.rand(len(train), generator=rng))):
        model = fit(RP3beta(k, alpha, beta, normalize), data)
        np.testing.assert_allclose(model.similarity.toarray(), by_definition(data, k, alpha, beta, normalize),
                                   rtol=1e-5)


def test_without_a_popularity_one_is_the_other(train):
    walked = [fit(model, train).similarity.toarray() for model in (P3alpha(7, 1.2), RP3beta(7, 1.2, 0.0))]
    np.testing.assert_array_equal(*walked)


def test_untruncated_at_powers_of_one_the_weights_are_symmetric(train):
    w = fit(RP3beta(1000, 1.0, 1.0, normalize=False), train).similarity.toarray()
    np.testing.assert_allclose(w, w.T, rtol=1e-6)
    assert w.any()


def test_at_a_power_of_zero_walks_count_common_users_and_absent_pairs_stay_absent(train):
    x = train.by_user.dense(45).numpy()
    common = x.T @ x
    np.fill_diagonal(common, 0)
    np.testing.assert_allclose(fit(P3alpha(1000, 0.0, normalize=False), train).similarity.toarray(), common)


def test_an_untruncated_walk_is_a_probability(train):
    """From an item with users, the walk ends somewhere; what is missing to one came back."""
    x = train.by_user.dense(45).double().numpy()
    p = (x / np.maximum(x.sum(1, keepdims=True), 1)) ** 1
    back = x.T / np.maximum(x.T.sum(1, keepdims=True), 1)
    w = fit(P3alpha(1000, normalize=False), train).similarity.toarray()
    np.testing.assert_allclose(w.sum(1)[:42] + np.diag(back @ p)[:42], 1, rtol=1e-6)


def test_no_column_and_no_row_keeps_more_than_k(train):
    w = fit(RP3beta(3), train).similarity.toarray()
    assert (w > 0).sum(0).max() == 3 and (w > 0).sum(1).max() <= 3


@pytest.mark.parametrize("entries", [1, 7 * 45, 44 * 45])
def test_the_size_of_the_blocks_does_not_matter(train, monkeypatch, entries):
    expected = fit(RP3beta(5), train).similarity.toarray()
    for module in (items, walks):
        monkeypatch.setattr(module, "ENTRIES", entries)
    np.testing.assert_array_equal(fit(RP3beta(5), train).similarity.toarray(), expected)


def test_no_block_has_more_entries_than_it_claims(train, monkeypatch):
    monkeypatch.setattr(walks, "ENTRIES", 4 * 45)
    reached, sizes = RP3beta.reached, []
    monkeypatch.setattr(RP3beta, "reached", lambda model, found, start: (
        sizes.append(np.prod(found.shape)), reached(model, found, start))[1])
    fit(RP3beta(5), train)
    assert max(sizes) == 4 * 45 and sum(sizes) == 45 * 45


def test_it_asks_the_history_and_never_the_user(train):
    model, query = fit(RP3beta(5), train), Query(torch.arange(60), train.by_user)
    assert model.score(Query(torch.full((60,), -1), query.history)).equal(model.score(query))
    invented = model.score(Query(torch.tensor([-1, -1, -1]), Ragged.from_lists([[3, 11], [], list(range(45))])))
    w = model.similarity.toarray()
    np.testing.assert_allclose(invented, [w[[3, 11]].sum(0), np.zeros(45), w.sum(0)], rtol=1e-5)


def test_a_pair_of_weight_zero_is_none(train):
    silent = train.reweighted((train.items != 7).float())
    gone = Interactions.from_pairs(train.users[train.items != 7], train.items[train.items != 7], 60, 45)
    for alpha in (0.0, 1.0):
        found = [fit(P3alpha(9, alpha), data).similarity.toarray() for data in (silent, gone)]
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("words", "message"), [
    ({"k": 0}, "model.k = 0 leaves an item without neighbours"), ({"alpha": -1.0}, "model.alpha = -1.0 prefers"),
    ({"beta": -0.1}, "model.beta = -0.1 rewards popularity twice")])
def test_values_out_of_range_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        RP3beta(**words)
