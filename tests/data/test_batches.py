"""Samplers."""

import logging

import pytest
import torch

from recot.data.batches import observed_in_batch, pairs, prefixes, rows, sequences, uniform_negatives, windows
from recot.data.interactions import Interactions


def interactions(rng, n_users=30, n_items=40, share=0.2):
    users, items = (torch.rand(n_users, n_items, generator=rng) < share).nonzero(as_tuple=True)
    return Interactions.from_pairs(users, items, n_users, n_items)


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


def ordered():
    """Users 0 and 2 with sequences 4 1 3 and 5 0, user 3 with one item; user 1 with none."""
    return Interactions.from_pairs(torch.tensor([0, 0, 0, 2, 2, 3]), torch.tensor([3, 4, 1, 0, 5, 2]), 4, 7,
                                   times=torch.tensor([2, 0, 1, 9, 8, 0]))


def test_sequences_pair_every_item_with_the_one_that_comes_next(rng):
    batches = list(sequences(ordered(), 1, rng))
    found = {int(batch.query.users): (batch.query.history.values.tolist(), batch.items.tolist()) for batch in batches}
    assert found == {0: ([4, 1], [1, 3]), 2: ([5], [0])}


def test_negatives_of_sequences_belong_to_their_users(rng):
    train = ordered()
    for batch in sequences(train, 5, rng, negatives=50):
        users = batch.query.users[batch.query.history.rows]
        assert batch.negatives.shape == (3, 50) and not train.contains(users[:, None], batch.negatives).any()


def test_weights_of_sequences_are_those_of_what_comes_next(rng):
    train = ordered().reweighted(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))  # of 4 1 3, 5 0, 2
    weight = {(0, 1): 0.2, (0, 3): 0.3, (2, 0): 0.5}
    batch = next(sequences(train, 5, rng))
    users = batch.query.users[batch.query.history.rows].tolist()
    assert batch.weights.tolist() == pytest.approx([weight[pair] for pair in zip(users, batch.items.tolist(),
                                                                                 strict=True)])


def test_the_latest_part_of_sequences_keeps_what_belongs_together(rng):
    batch = next(sequences(ordered().reweighted(torch.linspace(0, 1, 6)), 5, rng)).latest(1)
    found = dict(zip(batch.query.users.tolist(), zip(batch.query.history.values.tolist(), batch.items.tolist(),
                                                     batch.weights.tolist(), strict=True), strict=True))
    assert found == {0: (1, 3, pytest.approx(0.4)), 2: (5, 0, pytest.approx(0.8))}
    assert batch.query.history.lengths.tolist() == [1, 1] and len(batch.negatives) == 2


def test_prefixes_are_everything_before_each_item_but_the_first(rng):
    train = ordered().reweighted(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))  # of 4 1 3, 5 0, 2
    found = [(int(user), known, int(item), round(float(weight), 1)) for batch in prefixes(train, 2, rng)
             for user, known, item, weight in zip(batch.query.users, batch.query.history.to_lists(), batch.items,
                                                  batch.weights, strict=True)]
    assert sorted(found) == [(0, [4], 1, 0.2), (0, [4, 1], 3, 0.3), (2, [5], 0, 0.5)]


def shared():
    """Three users, of whom 0 and 1 come to item 9, 0 and 2 to item 8, and only 1 to item 7."""
    rows = [[1, 9, 8], [2, 3, 9, 7], [4, 5, 6, 8]]
    users = torch.tensor([user for user, row in enumerate(rows) for _ in row])
    return Interactions.from_pairs(users, torch.tensor(sum(rows, [])), 3, 10, times=torch.arange(11))


def test_the_partner_of_a_prefix_was_followed_by_the_same_item_and_is_itself_only_where_nothing_else_was(rng):
    whole = {(0, 9): [1], (1, 9): [2, 3], (0, 8): [1, 9], (2, 8): [4, 5, 6]}
    partner = {(0, 9): (1, 9), (1, 9): (0, 9), (0, 8): (2, 8), (2, 8): (0, 8)}
    seen = 0
    for batch in prefixes(shared(), 4, rng):
        for user, item, own, other in zip(batch.query.users.tolist(), batch.items.tolist(),
                                          batch.query.history.to_lists(), batch.partners.to_lists(), strict=True):
            assert other == (whole[partner[user, item]] if (user, item) in partner else own)
            seen += 1
    assert seen == 8


def test_partners_are_uniform_over_the_others(rng):
    users = torch.arange(4).repeat_interleave(2)
    items = torch.tensor([0, 9, 1, 9, 2, 9, 3, 9])
    train = Interactions.from_pairs(users, items, 4, 10, times=torch.arange(8))
    found = torch.zeros(4, 4)
    for _ in range(600):
        for batch in prefixes(train, 4, rng):
            found[batch.query.users, batch.partners.values] += 1
    assert found.diagonal().sum() == 0 and found[~torch.eye(4, dtype=torch.bool)].min() > 150  # 200 each, +-12


def test_one_prefix_of_each_user_is_any_of_theirs(rng):
    train, lengths = shared(), torch.zeros(3, 4)
    for _ in range(300):
        users = torch.cat([batch.query.users for batch in prefixes(train, 2, rng, one=True)])
        assert users.sort().values.tolist() == [0, 1, 2]
    for _ in range(600):
        batch = next(prefixes(train, 3, rng, one=True))
        lengths[batch.query.users, batch.query.history.lengths] += 1
    assert (lengths[0] > 0).tolist() == [False, True, True, False]
    assert lengths[1, 1:].min() > 140 and lengths[2, 1:].min() > 140  # 200 each, +-12


def slid(train, length, targets, rng, batch_size=4):
    """What is known and asked in each window of an epoch, and the weights, by user in order of the last item."""
    found = []
    for batch in windows(train, batch_size, rng, length=length, targets=targets, negatives=2):
        known = batch.query.history
        for row, user in enumerate(batch.query.users.tolist()):
            weights = [1.0] * targets if batch.weights is None else batch.weights[row].tolist()
            found.append((user, known.slice(row, row + 1).values.tolist(), batch.targets[row].tolist(), weights))
    return found


def in_order(*rows):
    """Interactions of users who take the items of their rows one after the other."""
    users = torch.tensor([user for user, row in enumerate(rows) for _ in row])
    items = torch.tensor([item for row in rows for item in row])
    return Interactions.from_pairs(users, items, len(rows), int(items.max()) + 1, times=torch.arange(len(items)))


def test_windows_slide_by_one_over_all_items_of_a_user(rng):
    found = sorted(slid(in_order([], list(range(1, 10))), 5, 2, rng))
    assert [(user, known, asked) for user, known, asked, _ in found] == [
        (1, [1, 2, 3, 4, 5], [6, 7]), (1, [2, 3, 4, 5, 6], [7, 8]), (1, [3, 4, 5, 6, 7], [8, 9])]


def test_a_user_with_less_than_a_window_has_one_and_its_last_items_are_asked_for(rng):
    found = sorted(slid(in_order([7, 1, 5, 3], [], [2, 6]), 5, 2, rng))
    assert found == [(0, [7, 1], [5, 3], [1, 1]), (2, [], [2, 6], [1, 1])]


def test_of_a_user_with_less_items_than_are_asked_for_each_counts_more_and_the_missing_ones_nothing(rng):
    found = sorted(slid(in_order([7, 1, 5, 3], [4], [2, 6]), 5, 3, rng))
    assert found[0] == (0, [7], [1, 5, 3], [1, 1, 1])
    assert found[1][:2] == (1, []) and found[1][3] == [0, 0, 3] and found[1][2][2] == 4
    assert found[2][:2] == (2, []) and found[2][3] == [0, 1.5, 1.5] and found[2][2][1:] == [2, 6]


@pytest.mark.parametrize(("length", "targets"), [(1, 1), (3, 2), (5, 1), (9, 4)])
def test_an_epoch_is_every_window_once_in_another_order_each_time(rng, length, targets):
    train, expected = interactions(rng), []
    for user in range(train.n_users):
        own = train.by_user.slice(user, user + 1).values.tolist()
        for end in range(min(len(own), length + targets), len(own) + 1) if own else ():
            part = own[max(end - length - targets, 0) : end]
            expected.append((user, part[:-targets], part[-targets:]))
    epochs = [[(user, known, [item for item, weight in zip(asked, weights, strict=True) if weight])
               for user, known, asked, weights in slid(train, length, targets, rng, 16)] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(expected) and epochs[0] != epochs[1]


def test_negatives_of_windows_belong_to_their_users(rng):
    train = interactions(rng, share=0.6)
    batches = list(windows(train, 50, rng, length=3, targets=2, negatives=4))
    assert {batch.negatives.shape[1] for batch in batches} == {4} and {len(b.targets) for b in batches[:-1]} == {50}
    assert not any(train.contains(b.query.users[:, None], b.negatives).any() for b in batches)
    assert any(not b.negatives[0].equal(b.negatives[1]) for b in batches)


def test_weights_of_windows_are_those_of_their_targets(rng):
    train = in_order([3, 4, 1, 0, 2]).reweighted(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    found = sorted(slid(train, 2, 2, rng))
    assert [asked for _, _, asked, _ in found] == [[1, 0], [0, 2]]
    assert [weights for *_, weights in found] == [pytest.approx([0.3, 0.4]), pytest.approx([0.4, 0.5])]
