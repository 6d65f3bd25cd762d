"""Low-rank closed forms against dense algebra."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode

from recot.closed import factors
from recot.closed.factors import NCE, SVD, WRMF, matrix
from recot.data.interactions import Interactions, Ragged
from recot.data.questions import EvalSet, Query, Split


def train_of(x, weights=None):
    users, items = torch.as_tensor(np.asarray(x)).nonzero(as_tuple=True)
    found = Interactions.from_pairs(users, items, *np.asarray(x).shape)
    return found if weights is None else found.reweighted(torch.as_tensor(weights)[found.users, found.items].float())


def split_of(train):
    none = Ragged.from_lists([])
    return Split(train, EvalSet(Query(torch.zeros(0, dtype=torch.int64), none), none, none, None, "valid"), ())


def random(seed=0, m=30, n=40, share=0.2):
    return (np.random.default_rng(seed).random((m, n)) < share).astype(float)


def weights_like(x, seed=1):
    return np.random.default_rng(seed).uniform(0.2, 1, x.shape)


def all_scores(model, train):
    users = torch.arange(train.n_users)
    return model.score(Query(users, train.by_user)).double().numpy()


def fitted(model, x, weights=None):
    train = train_of(x, weights)
    return all_scores(model.fit(split_of(train)), train)


def test_svd_is_the_projection_on_the_best_directions():
    x = random() * weights_like(random())
    model = SVD(rank=7)
    found = fitted(model, x > 0, x)
    _, strength, right = np.linalg.svd(np.float32(x).astype(float))
    v = right[:7].T
    np.testing.assert_allclose(found, x @ v @ v.T, atol=1e-5)
    np.testing.assert_allclose(model.directions.T @ model.directions, np.eye(7), atol=1e-12)
    assert np.linalg.norm(x - found) == pytest.approx(np.sqrt((strength[7:] ** 2).sum()), rel=1e-5)


def test_svd_of_full_rank_gives_the_matrix_back():
    x = np.kron(np.eye(3), np.ones((4, 5)))
    np.testing.assert_allclose(fitted(SVD(rank=3), x), x, atol=1e-6)


def test_svd_folds_in_rows_of_ones_where_asked():
    x, weights = random(), weights_like(random())
    model = SVD(rank=5, fold_in="original")
    v = model.fit(split_of(train_of(x, weights))).directions
    np.testing.assert_allclose(all_scores(model, train_of(x)), x @ v @ v.T, atol=1e-5)


def nce(x, rank, beta, ridge, log_weights=True):
    """As the sheet has it, on dense arrays."""
    total = x.sum(0)
    with np.errstate(divide="ignore"):
        d = np.log(len(x)) - beta * np.log(total) + (np.log(x) if log_weights else 0.0)
    d = np.where(x > 0, np.maximum(d, 0), 0)
    _, strength, right = np.linalg.svd(d)
    q = x @ right[:rank].T * np.sqrt(strength[:rank])
    return q @ np.linalg.solve(q.T @ q + ridge * np.eye(rank), q.T @ x)


@pytest.mark.parametrize(("beta", "ridge"), [(1.0, 1000.0), (0.7, 1.0), (1.3, 10.0), (0.0, 10.0)])
def test_nce_is_the_equations_written_out(beta, ridge):
    x = random()
    np.testing.assert_allclose(fitted(NCE(6, beta, ridge), x), nce(x, 6, beta, ridge), atol=1e-5)


@pytest.mark.parametrize("weight", ["log", "regression_only"])
def test_nce_with_weights(weight):
    x, weights = random(), np.float32(weights_like(random())).astype(float)
    expected = nce(x * weights, 6, 1.0, 10.0, weight == "log")
    np.testing.assert_allclose(fitted(NCE(6, 1.0, 10.0, weight), x, weights), expected, atol=1e-5)


def test_nce_without_ridge_is_an_orthogonal_projection_and_with_a_huge_one_nothing():
    x, model = random(), NCE(6, 1.0, 1e-9)
    found = fitted(model, x)
    q = model.user_vectors.double().numpy()
    np.testing.assert_allclose(found, q @ np.linalg.lstsq(q, x, rcond=None)[0], atol=1e-4)
    assert np.abs(fitted(NCE(6, 1.0, 1e12), x)).max() < 1e-6


def test_nce_without_popularity_has_the_directions_of_svd():
    x = random()
    pure, model = SVD(6).fit(split_of(train_of(x))), NCE(6, beta=0.0).fit(split_of(train_of(x)))
    unit = model.directions / np.linalg.norm(model.directions, axis=0)
    np.testing.assert_allclose(np.abs((unit * pure.directions).sum(0)), 1, atol=1e-9)


def objective(x, u, v, alpha, ridge):
    return float(((1 + alpha * x) * (x - u @ v.T) ** 2).sum() + ridge * ((u**2).sum() + (v**2).sum()))


@pytest.mark.parametrize("rank", [3, 25])  # rows have fewer entries than the rank, and more
def test_each_half_step_of_wrmf_solves_the_normal_equations(rank):
    x = random() * weights_like(random())
    model, fixed = WRMF(rank, alpha=4.0, ridge=0.5), np.random.default_rng(3).standard_normal((40, rank))
    found = model.solved(sparse.csr_array(x), fixed)
    for row, u in zip(x, found, strict=True):
        normal = fixed.T @ (fixed * (1 + 4 * row)[:, None]) + 0.5 * np.eye(rank)
        np.testing.assert_allclose(u, np.linalg.solve(normal, fixed.T @ ((1 + 4 * row) * row)), atol=1e-9)


def test_wrmf_never_raises_its_objective():
    x = random() * weights_like(random())
    model, rows = WRMF(5, alpha=4.0, ridge=0.5), sparse.csr_array(x)
    v, values = np.random.default_rng(0).standard_normal((40, 5)), []
    for _ in range(6):
        u = model.solved(rows, v)
        values.append(objective(x, u, v, 4.0, 0.5))
        v = model.solved(rows.T.tocsr(), u)
        values.append(objective(x, u, v, 4.0, 0.5))
    assert np.all(np.diff(values) <= 1e-9) and values[-1] < 0.9 * values[0]


def test_wrmf_of_one_user_and_one_item():
    model = WRMF(1, alpha=3.0, ridge=2.0)
    assert model.solved(sparse.csr_array([[1.0]]), np.array([[0.7]])).item() == pytest.approx(4 * 0.7 / (4 * 0.49 + 2))


def test_wrmf_is_its_sweeps_written_out():
    x, model = random(), WRMF(4, 2.0, 1.0, sweeps=3, seed=5)
    v = 0.01 * np.random.default_rng(5).standard_normal((40, 4))
    for _ in range(3):
        u = np.stack([np.linalg.solve(v.T @ (v * (1 + 2 * row)[:, None]) + np.eye(4), v.T @ (3 * row)) for row in x])
        v = np.stack([np.linalg.solve(u.T @ (u * (1 + 2 * row)[:, None]) + np.eye(4), u.T @ (3 * row)) for row in x.T])
    np.testing.assert_allclose(fitted(model, x), u @ v.T, atol=1e-5)


def test_a_pair_that_weighs_ten_times_as_much_by_hand():
    """One dimension, two items at 1 and one of them taken with weight 10: the user is at 10 / 11."""
    model = WRMF(1, alpha=9.0, ridge=1e-12)
    assert model.solved(sparse.csr_array([[1.0, 0.0]]), np.ones((2, 1))).item() == pytest.approx(10 / 11)


def test_wrmf_is_that_of_implicit():
    """Both sweeps and fold-in; the weight of a pair is called alpha there, and is one more than ours."""
    x, model = random(), WRMF(4, alpha=4.0, ridge=1.0, sweeps=3, seed=5)
    oracle = AlternatingLeastSquares(factors=4, alpha=5.0, regularization=1.0, iterations=3, use_cg=False,
                                     num_threads=1)
    oracle.item_factors = (0.01 * np.random.default_rng(5).standard_normal((40, 4))).astype(np.float32)
    oracle.user_factors = np.zeros((len(x), 4), np.float32)
    oracle.fit(sparse.csr_matrix(x, dtype=np.float32), show_progress=False)
    np.testing.assert_allclose(fitted(model, x), oracle.user_factors @ oracle.item_factors.T, atol=1e-4)
    oracle.item_factors = model.fixed.astype(np.float32)
    unseen = sparse.csr_array(random(seed=9))
    np.testing.assert_allclose(model.fold_in(unseen), oracle.recalculate_user(
        np.arange(unseen.shape[0]), sparse.csr_matrix(unseen, dtype=np.float32)), atol=1e-4)


@pytest.mark.parametrize("entries", [1, 700])
def test_least_squares_in_any_batches(monkeypatch, entries):
    x = random()
    whole = fitted(WRMF(6, sweeps=2), x)
    monkeypatch.setattr(factors, "ENTRIES", entries)
    np.testing.assert_allclose(fitted(WRMF(6, sweeps=2), x), whole, atol=1e-6)


class Largest(TorchDispatchMode):
    """Notes the largest batch of matrices that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        if isinstance(found, torch.Tensor) and found.dim() == 3:
            self.numbers = max(self.numbers, found.numel())
        return found


@pytest.mark.parametrize("popular", [1, 3])
def test_a_row_with_more_entries_than_are_gathered_at_a_time_is_summed_by_pieces(monkeypatch, popular):
    x = random(m=900)
    x[:, :popular] = 1
    whole = fitted(WRMF(6, sweeps=2), x, weights_like(x))
    monkeypatch.setattr(factors, "ENTRIES", 1_000)
    with Largest() as largest:
        np.testing.assert_allclose(fitted(WRMF(6, sweeps=2), x, weights_like(x)), whole, atol=1e-6)
    assert largest.numbers <= 1_000  # 900 users x 6, where all of an item are gathered at once


@pytest.mark.parametrize("make", [lambda: SVD(5), lambda: NCE(5, ridge=10.0), lambda: WRMF(5),
                                  lambda: NCE(5, ridge=10.0, weight="regression_only")])
class TestAll:
    def test_users_and_items_without_pairs_score_zero(self, make):
        x = random()
        x[3], x[:, 7] = 0, 0
        found = fitted(make(), x)
        assert np.isfinite(found).all() and not found[3].any() and np.abs(found[:, 7]).max() < 1e-7

    def test_a_weight_of_zero_is_a_missing_pair(self, make):
        x = random()
        less, weights = x.copy(), np.ones_like(x)
        place = tuple(np.argwhere(x)[11])
        less[place], weights[place] = 0, 0
        np.testing.assert_allclose(fitted(make(), x, weights), fitted(make(), less), atol=1e-5)

    def test_weights_change_the_fit(self, make):
        x = random()
        assert np.abs(fitted(make(), x, weights_like(x)) - fitted(make(), x)).max() > 1e-3

    def test_an_unseen_user_is_served_like_one_who_trained_on_the_same_items(self, make):
        train = train_of(random())
        model = make().fit(split_of(train))
        users = torch.arange(30)
        mixed = Query(torch.where(users % 2 == 0, users, -1), train.by_user)
        torch.testing.assert_close(model.score(mixed), model.score(Query(users, train.by_user)), atol=1e-5, rtol=1e-4)

    def test_a_user_who_does_not_train_is_served_by_the_history_whatever_the_number(self, make):
        x = random()
        train = train_of(np.where(np.arange(30)[:, None] < 20, x, 0))
        model, history = make().fit(split_of(train)), train_of(x).by_user
        known, unknown = (model.score(Query(users, history))[20:]
                          for users in (torch.arange(30), torch.full((30,), -1)))
        torch.testing.assert_close(known, unknown)
        assert known.abs().max() > 1e-3

    def test_a_fit_twice_is_the_same(self, make):
        x = random()
        np.testing.assert_array_equal(fitted(make(), x), fitted(make(), x))


def test_the_matrix_holds_the_weights_or_ones():
    x, weights = random(), np.float32(weights_like(random()))
    train = train_of(x, weights)
    np.testing.assert_allclose(matrix(train).toarray(), x * weights)
    np.testing.assert_array_equal(matrix(train, ones=True).toarray(), x)


@pytest.mark.parametrize("make", [SVD, NCE])
def test_more_directions_than_there_are_is_refused(make):
    with pytest.raises(ValueError, match="model.rank = 30 has to be below the number of users and of items"):
        make(30).fit(split_of(train_of(random())))


def test_a_training_set_on_another_device_or_with_times_makes_no_difference():
    train = train_of(random())
    timed = replace(train, times=torch.arange(len(train)))
    np.testing.assert_array_equal(all_scores(SVD(4).fit(split_of(train)), train),
                                  all_scores(SVD(4).fit(split_of(timed)), timed))


def test_equal_singular_values_are_all_found():
    x = np.kron(np.eye(6), np.ones((2, 3)))
    np.testing.assert_allclose(fitted(SVD(6), x), x, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: SVD(5), lambda: NCE(5, beta=50.0)])
def test_a_matrix_of_zeros_is_refused(make):
    x = np.ones((30, 40)) if isinstance(make(), NCE) else random()
    with pytest.raises(ValueError, match="zeros has no directions; .* lower model.beta"):
        make().fit(split_of(train_of(x, np.zeros_like(x) if isinstance(make(), SVD) else None)))


@torch.no_grad()
def test_at_rest_it_gives_the_same_scores_to_the_last_bit():
    train = train_of(random(m=70, n=1_500, share=0.01))
    model, query = SVD(8).fit(split_of(train)), Query(torch.arange(70), train.by_user)
    scores = model.score(query)
    with model.resting():
        assert model.score(query).equal(scores) and model.score(query.slice(0, 9)).equal(model.score(query)[:9])
    assert model.rested is None
