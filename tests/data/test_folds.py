"""Folds of training pairs: each pair in one, the same number of each user in all, and nothing but the pairs counts."""

import pytest
import torch
from observed import interactions

from recot.data.folds import dealt
from recot.data.interactions import Interactions


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_the_folds_of_a_user_differ_by_at_most_one_pair_and_those_of_all_by_little(rng, folds):
    pairs = interactions(rng, n_users=200)
    fold = dealt(pairs, folds, 0)
    counts = torch.zeros(200, folds, dtype=torch.int64).index_put_(
        (pairs.users, fold), torch.tensor(1), accumulate=True)  # (n_users, folds)
    assert counts.sum() == len(pairs) and int((counts.amax(1) - counts.amin(1)).max()) == 1
    assert (counts.sum(0) / len(pairs) * folds - 1).abs().max() < 0.1


def test_the_order_of_the_pairs_does_not_count_and_the_seed_does(rng):
    pairs = interactions(rng)
    turned = pairs.select(torch.arange(len(pairs)).flip(0)[torch.argsort(pairs.users.flip(0), stable=True)])
    fold = dealt(pairs, 5, 3)
    of = dict(zip((pairs.users * 40 + pairs.items).tolist(), fold.tolist(), strict=True))
    again = dealt(turned, 5, 3)
    assert not turned.items.equal(pairs.items)
    assert all(of[key] == one for key, one in zip((turned.users * 40 + turned.items).tolist(), again.tolist(),
                                                  strict=True))
    assert 0.6 < (dealt(pairs, 5, 4) != fold).double().mean() < 0.95  # four of five by chance


def test_pairs_of_users_who_train_only_to_be_asked_about_are_in_no_fold():
    users, items = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 2, 0, 1])
    pairs = Interactions.from_pairs(users, items, 2, 3, folded=users == 1)
    fold = dealt(pairs, 3, 0)
    assert sorted(fold[:3].tolist()) == [0, 1, 2] and fold[3:].tolist() == [-1, -1]


@pytest.mark.parametrize("folds", [1, 0])
def test_fewer_than_two_folds_are_refused(rng, folds):
    with pytest.raises(ValueError, match=f"{folds} folds leave nothing to train on; give 2 or more"):
        dealt(interactions(rng), folds, 0)
