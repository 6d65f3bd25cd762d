"""Planted data hold the structure they claim: communities that can be learned, an order, and marked noise."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from recot.data.planted import Planted
from recot.data.questions import EvalSet, validate
from recot.data.split import ratio

ROOT = Path(__file__).parents[2]
UNHURRIED = settings(deadline=None, max_examples=20)     # a busy machine must not fail a test
SEEDS = (0, 1, 2)


def recall_at_20(scores: Tensor, part: EvalSet) -> float:
    ranked = scores.clone()
    ranked[part.seen.rows, part.seen.values] = -torch.inf
    top = torch.zeros_like(ranked).scatter_(1, ranked.topk(20).indices, 1.0)
    hits = torch.zeros(len(part)).index_add_(0, part.targets.rows, top[part.targets.rows, part.targets.values])
    return (hits / part.targets.lengths).mean().item()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_truth_and_item_neighbours_both_reach_twice_the_recall_of_popularity(seed):
    planted = Planted(data_seed=seed)
    split = ratio(planted.load().interactions)
    test, train = split.test[0], split.train
    users = test.query.users
    popularity = recall_at_20(train.popularity.float().expand(len(test), -1), test)
    truth = (planted.user_communities[users][:, None] == planted.item_communities) * planted.item_weights
    taken = train.by_user.dense(train.n_items)                                                   # (users, items)
    norm = taken.norm(dim=0).clamp(min=1)
    neighbours = ((taken.T @ taken) / norm / norm[:, None]).fill_diagonal_(0)
    assert popularity > 1.2 * 20 / train.n_items                             # popularity is worth something
    assert recall_at_20(truth, test) > 3 * popularity
    assert recall_at_20(taken[users] @ neighbours, test) > 3 * popularity


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_pairs_stay_in_their_community_and_noise_does_not(seed):
    planted = Planted(data_seed=seed)
    x = planted.load().interactions
    inside = planted.user_communities[x.users] == planted.item_communities[x.items]
    assert bool(inside[~x.noisy].all())
    assert inside[x.noisy].float().mean() < 0.25             # 1 of 6 communities, less what is taken


@given(st.floats(0, 0.5), st.integers(0, 50))
@UNHURRIED
def test_the_share_of_noise_is_as_stated(noise, seed):
    planted = Planted(n_users=60, n_items=120, n_communities=3, mean_activity=8, noise=noise, data_seed=seed)
    x = planted.load().interactions
    assert int(x.noisy.sum()) == pytest.approx(noise * len(x), abs=1)
    assert x.activity.min() >= 5


def test_held_out_targets_are_clean_and_the_split_is_sound():
    x = Planted().load().interactions
    split = ratio(x)
    validate(split)
    assert int(split.train.noisy.sum()) == int(x.noisy.sum()) > 0
    assert len(split.valid) == len(split.test[0]) == 400


def test_times_rise_within_every_user():
    x = Planted().load().interactions
    same_user = x.users[1:] == x.users[:-1]
    assert bool((x.times[1:] > x.times[:-1])[same_user].all())


def test_the_next_item_lies_a_little_above_the_last_one():
    planted = Planted(noise=0.0)
    x = planted.load().interactions
    hits = {"nearest above": 0, "most popular": 0}
    for user in range(400):
        *past, last = x.by_user.take(torch.tensor([user])).values.tolist()
        free = planted.item_communities == planted.user_communities[user]
        free[past] = False
        distance = (torch.arange(300) - past[-1]) % 300
        hits["nearest above"] += last in distance.masked_fill(~free, 999).topk(5, largest=False).indices
        hits["most popular"] += last in (planted.item_weights * free).topk(5).indices
    assert hits["nearest above"] > 2 * hits["most popular"] > 0


def test_walks_start_anywhere_and_go_round_the_end():
    x = Planted(noise=0.0).load().interactions
    first, last = x.by_user.values[x.by_user.offsets[:-1]], x.by_user.values[x.by_user.offsets[1:] - 1]
    same_user = x.users[1:] == x.users[:-1]
    falls = torch.bincount(x.users[1:][(x.items[1:] < x.items[:-1]) & same_user], minlength=x.n_users)
    assert torch.equal(falls, (first > last).long())
    assert 0.85 < falls.float().mean() < 1                       # no fall when the start is the lowest of about 20


def test_noise_is_spread_over_the_whole_of_a_history():
    x = Planted().load().interactions
    place = (torch.arange(len(x)) - x.by_user.offsets[x.users]) / x.activity[x.users]
    assert place[x.noisy].mean() == pytest.approx(0.48, abs=0.05)


def test_popularity_within_a_community_follows_the_weights():
    planted = Planted(n_users=2000, popularity_exponent=1.0, noise=0.0)
    x = planted.load().interactions
    members = (planted.item_communities == 0).nonzero().flatten()
    by_weight = members[planted.item_weights[members].argsort(descending=True)]
    counts = x.popularity[by_weight].float()
    assert counts[:10].mean() > 1.5 * counts[10:30].mean() > 1.5 * counts[30:].mean()


def test_loading_twice_gives_the_same_pairs_and_another_seed_others():
    one, again, other = Planted(), Planted(), Planted(data_seed=1)
    first = one.load().interactions
    for same in (one.load().interactions, again.load().interactions):
        assert torch.equal(first.keys, same.keys) and torch.equal(first.noisy, same.noisy)
        assert torch.equal(first.times, same.times)
    assert not torch.equal(first.keys, other.load().interactions.keys)


def test_ids_are_their_own_raw_ids_and_nothing_is_dropped():
    dataset = Planted().load()
    assert dataset.user_ids.tolist() == list(range(400)) and dataset.item_ids.tolist() == list(range(300))
    assert dataset.dropped == {}


def test_the_digest_changes_with_every_setting():
    base = {"n_users": 400, "n_items": 300, "n_communities": 6, "mean_activity": 20.0, "popularity_exponent": 0.6,
            "noise": 0.1, "data_seed": 0}
    other = {"n_users": 401, "n_items": 301, "n_communities": 5, "mean_activity": 19.0, "popularity_exponent": 0.7,
             "noise": 0.2, "data_seed": 1}
    digests = {Planted(**base).digest(), *(Planted(**{**base, name: other[name]}).digest() for name in base)}
    assert len(digests) == 1 + len(base)
    assert Planted().digest() == Planted(mean_activity=20).digest() in digests


def test_communities_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="use a mean of at least 5 and at most half a community"):
        Planted(n_items=100)


@pytest.mark.parametrize("noise", [-0.1, 0.6, float("nan")])
def test_shares_of_noise_out_of_range_are_refused(noise):
    with pytest.raises(ValueError, match="use a number from 0 to 0.5"):
        Planted(noise=noise)


def test_the_data_file_gives_the_data():
    from_file = instantiate(OmegaConf.load(ROOT / "conf/data/planted.yaml"))
    assert from_file.digest() == Planted().digest()
