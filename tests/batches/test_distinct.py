"""Batches of users, and the users of batches of pairs."""

import pytest
import torch
from observed import interactions

from recot.batches.distinct import distinct, shuffled
from recot.batches.pairs import pairs
from recot.data.interactions import Interactions


@pytest.fixture
def train(rng):
    return interactions(rng, 30, 40)


def test_a_pass_is_every_user_with_a_pair_once_in_another_order_each_time(rng):
    train = Interactions.from_pairs(torch.tensor([0, 2, 2, 3, 5]), torch.tensor([0, 0, 1, 0, 0]), 7, 2)
    passes = [torch.cat([*shuffled(train, 3, None, rng)]) for _ in range(20)]
    assert all(users.sort().values.tolist() == [0, 2, 3, 5] for users in passes)
    assert len({tuple(users.tolist()) for users in passes}) > 5


@pytest.mark.parametrize(("steps", "sizes"), [(None, [12, 12, 6]), (2, [12, 12]), (3, [12, 12, 6]),
                                              (5, [12, 12, 6, 12, 12]), (7, [12, 12, 6, 12, 12, 6, 12])])
def test_an_epoch_has_as_many_steps_as_are_asked(train, rng, steps, sizes):
    batches = [*shuffled(train, 12, steps, rng)]
    assert [len(batch) for batch in batches] == sizes
    assert all(len(set(batch.tolist())) == len(batch) for batch in batches)
    if len(batches) > 3:
        assert not torch.cat(batches[:3]).equal(torch.cat(batches[3:6]))


def test_a_batch_larger_than_all_is_all(train, rng):
    assert [len(batch) for batch in shuffled(train, 100, 3, rng)] == [30, 30, 30]


def test_the_users_of_a_batch_are_named_once_and_found_again(train, rng):
    drawn = [*pairs(train, 50, rng, negatives=2)]
    found = [*distinct(drawn, train.n_users)]
    assert [batch for batch, _, _ in found] == drawn and len(drawn) > 3
    for batch, users, place in found:
        assert users.tolist() == sorted(set(batch.query.users.tolist()))
        assert users[place].equal(batch.query.users)
