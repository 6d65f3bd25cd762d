"""How well known noise is ranked: hand values, a count over all pairs, and what a run says about planted noise."""

import numpy as np
import pytest
import torch
from commands import execute

from recot.data.interactions import Interactions
from recot.evaluation.known_noise import noise_auc, score_pairs
from recot.evaluation.recommender import Recommender
from recot.record import console
from recot.record.store import Runs


class Table(Recommender):
    """Scores are known: the number of the user times 100 plus that of the item. Remembers how it was asked."""

    def __init__(self, n_items):
        self.n_items, self.asked = n_items, []

    def score(self, query):
        self.asked.append(query)
        return query.users[:, None].float() * 100 + torch.arange(self.n_items)


def counted(scores, noisy):
    """Chance that a noisy pair is below another, by comparing each with each."""
    bad, good = scores[noisy, None], scores[~noisy]
    return ((bad < good) + 0.5 * (bad == good)).mean()


@pytest.fixture
def known():
    """400 pairs of 30 users with many ties; some users have noisy pairs only, or none."""
    random = np.random.default_rng(0)
    users = np.sort(random.integers(0, 30, 400))
    noisy = random.random(400) < np.repeat([0.0, 1.0, 0.3], 10)[users]
    return random.integers(0, 12, 400) - 2.0 * noisy, noisy, users


def test_five_pairs_by_hand():
    """Of 2 x 3 comparisons, 1 is below 2, 2 and 3, and 3 is below none and equal to one: 3.5 of 6."""
    scores, noisy = [1.0, 3.0, 2.0, 2.0, 3.0], [True, True, False, False, False]
    assert noise_auc(scores, noisy, [0] * 5) == pytest.approx({"auc": 3.5 / 6, "auc_user": 3.5 / 6})


def test_the_mean_within_users_ignores_users_with_one_kind_and_differences_between_users():
    """User 0 is perfect, user 1 is half right, user 2 has no noise; pooled, user 1's low scores spoil the order."""
    scores = [11.0, 12.0, 1.0, 2.0, 1.0, 0.0]
    noisy, users = [True, False, True, False, False, False], [0, 0, 1, 1, 1, 2]
    found = noise_auc(scores, noisy, users)
    assert found["auc_user"] == pytest.approx((1 + 0.75) / 2)
    assert found["auc"] == pytest.approx((1 + 2.5) / 8)


def test_perfect_reversed_and_constant_scores():
    noisy, users = np.array([True, False] * 4), np.repeat([0, 1], 4)
    for scores, expected in ((~noisy, 1.0), (noisy, 0.0), (np.zeros(8), 0.5)):
        assert noise_auc(scores.astype(float), noisy, users) == {"auc": expected, "auc_user": expected}


def test_it_equals_a_count_over_all_pairs(known):
    scores, noisy, users = known
    of_user = [(scores[users == user], noisy[users == user]) for user in np.unique(users)]
    both = [counted(*pairs) for pairs in of_user if pairs[1].any() and not pairs[1].all()]
    assert 5 < len(both) < 15
    assert noise_auc(*known) == pytest.approx({"auc": counted(scores, noisy), "auc_user": np.mean(both)})


def test_the_order_of_scores_alone_matters_and_not_that_of_the_pairs(known):
    scores, noisy, users = known
    mixed = np.random.default_rng(1).permutation(400)
    expected = noise_auc(*known)
    assert noise_auc(np.exp(scores / 3) - 7, noisy, users) == pytest.approx(expected)
    assert noise_auc(scores[mixed], noisy[mixed], users[mixed]) == pytest.approx(expected)
    assert noise_auc(-scores, noisy, users) == pytest.approx({name: 1 - value for name, value in expected.items()})


def test_within_users_a_constant_per_user_changes_nothing(known):
    scores, noisy, users = known
    shifted = noise_auc(scores + 50 * (users % 7), noisy, users)
    assert shifted["auc_user"] == pytest.approx(noise_auc(*known)["auc_user"])
    assert abs(shifted["auc"] - noise_auc(*known)["auc"]) > 0.01


def test_where_no_user_has_both_kinds_there_is_no_mean_within_users():
    found = noise_auc([0.0, 1.0], [True, False], [0, 1])
    assert found["auc"] == 1 and np.isnan(found["auc_user"])


@pytest.mark.parametrize("noisy", [[], [True, True], [False, False]])
def test_one_kind_alone_is_refused_with_what_would_work(noisy):
    with pytest.raises(ValueError, match="needs both kinds; use data=planted or noise=add"):
        noise_auc([0.5] * len(noisy), noisy, [0] * len(noisy))


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        noise_auc([0.5, float("nan")], [True, False], [0, 0])


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_every_pair_gets_the_score_of_its_user_and_item_in_the_order_of_the_pairs(rng, chunk):
    """Users 4 and 9 took nothing and are not asked; the others are asked with all they took, ``chunk`` at a time."""
    taken = torch.rand(10, 50, generator=rng) < 0.3
    taken[[4, 9]] = False
    users, items = taken.nonzero(as_tuple=True)
    times = torch.randint(0, 99, users.shape, generator=rng)  # so that a user's items are not in rising order
    train, table = Interactions.from_pairs(users, items, 10, 50, times=times), Table(50)
    found = score_pairs(table, train, chunk)
    assert found.dtype == torch.float64 and found.equal((train.users * 100 + train.items).double())
    assert torch.cat([query.users for query in table.asked]).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert max(map(len, table.asked)) <= chunk
    for query in table.asked:
        assert query.history.values.equal(train.by_user.take(query.users).values)


def test_no_pairs_have_no_scores():
    nothing = torch.zeros(0, dtype=torch.int64)
    assert score_pairs(Table(5), Interactions.from_pairs(nothing, nothing, 3, 5)).shape == (0,)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("model", ["bprmf", "itemknn"])
def test_a_run_on_planted_data_tells_the_planted_noise_better_than_chance(runs, model, capsys):
    words = ("trainer.max_epochs=40", "data.n_users=400", "data.mean_activity=20")  # TINY is too little to learn from
    record = execute(runs, f"model={model}", *words)
    found = Runs(runs).get(record["key"])["noise_auc"]
    assert set(found) == {"auc", "auc_user"} and all(0.8 < value <= 1 for value in found.values())
    console.show(record, str(runs))
    line = f"known noise ranked lowest: AUC {found['auc']:.2f} (within users {found['auc_user']:.2f})"
    assert line in capsys.readouterr().out


def test_a_run_without_known_noise_says_nothing_about_it(runs, capsys):
    record = execute(runs, "model=popularity", "data.noise=0")
    assert "noise_auc" not in record
    console.show(record, str(runs))
    assert "known noise" not in capsys.readouterr().out


def test_a_stored_nan_is_shown(runs, capsys):
    record = execute(runs, "model=popularity")
    console.show(record | {"noise_auc": {"auc": 1.0, "auc_user": "nan"}}, str(runs))
    assert "AUC 1.00 (within users nan)" in capsys.readouterr().out
