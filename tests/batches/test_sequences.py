"""Samplers of histories in order."""

import pytest
import torch
from observed import interactions

from recot.batches.sequences import prefixes, sequences, windows
from recot.data.interactions import Interactions


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


@pytest.mark.parametrize("draw", [sequences, prefixes])
def test_an_epoch_without_a_question_is_refused(draw, rng):
    users = torch.arange(5)
    train = Interactions.from_pairs(users, users, 5, 9, times=users)
    with pytest.raises(ValueError, match="no user has two training pairs"):
        next(draw(train, 4, rng))
