"""Samplers."""

import logging

import pytest
import torch
from observed import interactions

from recot.batches.negatives import observed_in_batch, uniform_negatives
from recot.batches.pairs import pairs
from recot.batches.rows import rows
from recot.data.interactions import Interactions


def test_an_epoch_is_every_pair_once_in_another_order_each_time(rng):
    train = interactions(rng)
    epochs = [list(pairs(train, 16, rng)) for _ in range(2)]
    keys = [torch.cat([b.query.users * train.n_items + b.items for b in epoch]) for epoch in epochs]
    assert all(key.sort().values.equal(train.keys) for key in keys) and not keys[0].equal(keys[1])
    assert {len(batch.items) for batch in epochs[0][:-1]} == {16}


def test_negatives_are_not_positives_and_belong_to_their_user(rng):
    train = interactions(rng, share=0.6)
    for batch in pairs(train, 50, rng, negatives=3):
        assert batch.negatives.shape == (len(batch.items), 3)
        assert not train.contains(batch.query.users[:, None], batch.negatives).any()


def test_negatives_are_uniform_over_what_the_user_has_not_taken(rng):
    train = Interactions.from_pairs(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 4, 7]), 1, 10)
    counts = torch.bincount(uniform_negatives(train, 20_000, rng).flatten(), minlength=10)
    assert counts[[0, 4, 7]].sum() == 0
    free = counts[[1, 2, 3, 5, 6, 8, 9]].double()
    assert ((free - free.mean()) ** 2 / free.mean()).sum() < 22.5  # chi-square with 6 degrees, 1 in 1000


def test_a_user_who_took_everything_is_reported_and_does_not_hang(rng, caplog):
    train = Interactions.from_pairs(torch.zeros(5, dtype=torch.int64), torch.arange(5), 2, 5)
    with caplog.at_level(logging.WARNING):
        assert uniform_negatives(train, 1, rng).shape == (5, 1)
    assert "1 users have taken (nearly) all 5 items" in caplog.text


def test_observed_in_batch_equals_looking_every_pair_up(rng):
    train = interactions(rng)
    batch = next(pairs(train, 64, rng, observed=True))
    expected = train.contains(batch.query.users[:, None], batch.items[None, :])
    assert batch.observed.equal(expected) and batch.observed.diagonal().all()
    assert observed_in_batch(train, torch.tensor([3, 3]), torch.tensor([1, 1])).shape == (2, 2)


def test_histories_are_given_on_request_only(rng):
    train = interactions(rng)
    with_history, without = (next(pairs(train, 8, rng, history=wanted)) for wanted in (True, False))
    for row, user in enumerate(with_history.query.users):
        assert with_history.query.history.take(torch.tensor([row])).values.equal(train.by_user.take(user[None]).values)
    assert len(without.query.history) == 8 and len(without.query.history.values) == 0


@pytest.mark.parametrize("weights", [None, 0.5])
def test_weights_travel_only_where_they_differ_from_one(rng, weights):
    train = interactions(rng)
    if weights:
        train = train.reweighted(torch.linspace(0, 1, len(train)))
    batch = next(pairs(train, 8, rng))
    assert (batch.weights is None) == (weights is None)
    if weights:
        place = torch.searchsorted(train.keys, batch.query.users * train.n_items + batch.items)
        torch.testing.assert_close(batch.weights, train.weights[place])


def test_an_epoch_of_rows_is_every_user_with_a_pair_once_with_all_its_pairs(rng):
    train = Interactions.from_pairs(torch.tensor([4, 0, 4, 2, 0]), torch.tensor([5, 3, 1, 0, 2]), 6, 7,
                                    times=torch.tensor([9, 8, 2, 3, 1]))
    batches = list(rows(train, 2, rng, shuffle=False))
    assert [batch.query.users.tolist() for batch in batches] == [[0, 2], [4]]
    assert batches[0].query.history.values.tolist() == [2, 3, 0] and batches[1].query.history.values.tolist() == [1, 5]
    assert batches[0].query.history.offsets.tolist() == [0, 2, 3]
    assert batches[0].weights is None and batches[0].negatives is None
    assert batches[1].targets(7).tolist() == [[0, 1, 0, 0, 0, 1, 0]]


def test_rows_come_in_another_order_each_time_if_shuffled_and_in_the_same_one_if_not(rng):
    train = interactions(rng)
    first, second = (torch.cat([batch.query.users for batch in rows(train, 7, rng)]) for _ in range(2))
    assert not first.equal(second) and first.sort().values.equal(train.activity.nonzero().flatten())
    fixed = [torch.cat([batch.query.users for batch in rows(train, 7, rng, shuffle=False)]) for _ in range(2)]
    assert fixed[0].equal(fixed[1])


def test_weights_and_negatives_of_rows_belong_to_their_pairs(rng):
    train = interactions(rng, share=0.5)
    train = train.reweighted(torch.rand(len(train), generator=rng))
    dense = torch.zeros(train.n_users, train.n_items)
    dense[train.users, train.items] = train.weights
    for batch in rows(train, 8, rng, negatives=3):
        users, history = batch.query.users, batch.query.history
        assert history.values.equal(train.by_user.take(users).values)
        assert batch.negatives.shape == (len(history.values), 3)
        torch.testing.assert_close(batch.targets(train.n_items), dense[users], atol=0, rtol=0)
        assert not train.contains(users[history.rows][:, None], batch.negatives).any()
