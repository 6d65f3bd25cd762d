"""The random split, the guard against leaks, and splits whose training pairs change."""

import gzip
import logging
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from recot.data.interactions import Interactions, Ragged, is_in
from recot.data.noise import add, flip
from recot.data.planted import Planted
from recot.data.questions import EvalSet, Query, Split, validate
from recot.data.split import floors, in_time_order, joined, last, ratio, with_train
from recot.denoise.iterative import joined as relabelled_pairs

ROOT = Path(__file__).parents[2]
UNHURRIED = settings(deadline=None)     # a busy machine must not fail a test
ACTIVITIES = st.lists(st.integers(0, 14), min_size=1, max_size=8)


def users_with(activities: list[int], n_items: int | None = None) -> Interactions:
    """User u takes ``activities[u]`` items, and no two users the same ones."""
    n_items = max(activities) + len(activities) if n_items is None else n_items
    pairs = [(u, (u + j) % n_items) for u, k in enumerate(activities) for j in range(k)]
    users, items = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return Interactions.from_pairs(users, items, len(activities), n_items)


def pairs_of(rows: Ragged, users: torch.Tensor) -> list[tuple[int, int]]:
    return list(zip(users[rows.rows].tolist(), rows.values.tolist(), strict=True))


def pairs(interactions: Interactions) -> list[tuple[int, int]]:
    return list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def targets(part: EvalSet) -> list[tuple[int, int]]:
    return pairs_of(part.targets, part.query.users)


@given(ACTIVITIES, st.integers(0, 5))
@UNHURRIED
def test_every_pair_lands_in_exactly_one_part(activities, seed):
    whole = users_with(activities)
    split = ratio(whole, split_seed=seed)
    assert sorted(pairs(split.train) + targets(split.valid) + targets(split.test[0])) == pairs(whole)


@given(ACTIVITIES, st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.2, 0.3), (0.1, 0.1, 0.8), (0.2, 0.7, 0.1)]))
@UNHURRIED
def test_users_with_three_pairs_have_some_in_every_part_and_others_only_train(activities, shares):
    split = ratio(users_with(activities), *shares)
    asked = [u for u, k in enumerate(activities) if k >= 3]
    assert split.valid.query.users.tolist() == split.test[0].query.users.tolist() == asked
    assert (split.train.activity > 0).tolist() == [k > 0 for k in activities]
    if asked:
        validate(split)


@pytest.mark.parametrize("share", ["0.1", "0.29", "0.07", "0.3"])
def test_no_pair_is_lost_to_floating_point(share):
    activities = list(range(10, 201, 10))
    rest = float(1 - Fraction(share) - Fraction("0.1"))
    split = ratio(users_with(activities), train=rest, valid=0.1, test=float(share))
    assert split.test[0].targets.lengths.tolist() == [max(1, int(k * Fraction(share))) for k in activities]
    assert split.valid.targets.lengths.tolist() == [k // 10 for k in activities]


def test_thirds_are_shares_too():
    assert ratio(users_with([9]), 1 / 3, 1 / 3, 1 / 3).train.activity.tolist() == [3]


@given(st.randoms(), st.integers(0, 3))
@UNHURRIED
def test_the_split_depends_on_the_set_of_pairs_and_not_on_their_order_or_times(random, seed):
    whole = users_with([5, 12, 0, 7])
    order = torch.tensor(random.sample(range(len(whole)), len(whole)))
    shuffled = Interactions.from_pairs(whole.users[order], whole.items[order], whole.n_users, whole.n_items,
                                       times=torch.arange(len(whole)))
    one, other = ratio(whole, split_seed=seed), ratio(shuffled, split_seed=seed)
    assert pairs(one.train) == sorted(pairs(other.train))
    assert targets(one.valid) == sorted(targets(other.valid)) and targets(one.test[0]) == sorted(targets(other.test[0]))


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    whole = users_with([20] * 10)
    assert ratio(whole).fingerprint == ratio(whole).fingerprint != ratio(whole, split_seed=1).fingerprint


def test_every_pair_is_held_out_about_equally_often():
    whole = users_with([10])
    held = [ratio(whole, split_seed=seed).test[0].targets.values.item() for seed in range(500)]
    assert all(25 <= held.count(item) <= 80 for item in range(10))       # 50 expected, deviation 6.7


def test_history_is_training_oldest_first_and_validation_items_are_masked_in_the_test():
    whole = users_with([10, 10])
    late_first = Interactions.from_pairs(whole.users, whole.items, 2, whole.n_items, times=-whole.items)
    split = ratio(late_first)
    train, valid, test = split.train, split.valid, split.test[0]
    for part in (valid, test):
        assert torch.equal(part.query.history.values, train.items)
        assert all(row == sorted(row, reverse=True) for row in (train.items[:8].tolist(), train.items[8:].tolist()))
    assert sorted(pairs_of(valid.seen, valid.query.users)) == sorted(pairs(train))
    assert sorted(pairs_of(test.seen, test.query.users)) == sorted(pairs(train) + targets(valid))


@given(st.integers(0, 20))
@UNHURRIED
def test_pairs_marked_as_noise_only_train_and_do_not_count(seed):
    whole = users_with([10, 30, 2, 12])
    noisy = torch.rand(len(whole), generator=torch.Generator().manual_seed(seed)) < 0.4
    split = ratio(replace(whole, noisy=noisy))
    clean = torch.bincount(whole.users[~noisy], minlength=4)
    assert int(split.train.noisy.sum()) == int(noisy.sum())
    expected = {u: max(1, k // 10) for u, k in enumerate(clean.tolist()) if k >= 3}
    tested = split.test[0]
    assert dict(zip(tested.query.users.tolist(), tested.targets.lengths.tolist(), strict=True)) == expected


def test_users_who_only_train_are_counted_in_the_log(caplog):
    with caplog.at_level(logging.INFO, logger="recot.data.split"):
        ratio(users_with([0, 1, 2, 3]))
    assert "2 of 4 users have fewer than 3 pairs" in caplog.text


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (0.9, 0.0, 0.1), (1.2, -0.1, -0.1), (float("nan"), 0.1, 0.1)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="make them positive with sum 1, for example 0.8, 0.1 and 0.1"):
        ratio(users_with([10]), *shares)


@given(ACTIVITIES, st.integers(0, 5))
@UNHURRIED
def test_floors_hold_out_what_the_shares_say_and_nobody_is_given_more(activities, seed):
    whole = users_with(activities)
    split = floors(whole, split_seed=seed)
    (test,), valid = split.test, split.valid
    assert sorted(pairs(split.train) + targets(valid) + targets(test)) == sorted(pairs(whole))
    for user, k in enumerate(activities):
        counts = [sum(u == user for u, _ in part) for part in (targets(test), targets(valid))]
        assert counts == [3 * k // 10, k // 2 - 3 * k // 10]
    assert bool((test.targets.lengths > 0).all()) and bool((valid.targets.lengths > 0).all())


def test_floors_that_do_not_fit_into_binary_lose_no_pair():
    split = floors(users_with([100] * 3), valid=0.28, test=0.29)
    assert split.test[0].targets.lengths.tolist() == [29] * 3 and split.valid.targets.lengths.tolist() == [28] * 3


def test_known_noise_is_never_held_out():
    whole = users_with([20, 30])
    noisy = torch.arange(50) % 2 == 0
    marked = Interactions.from_pairs(whole.users, whole.items, 2, whole.n_items, noisy=noisy)
    split = floors(marked)
    held = set(targets(split.test[0]) + targets(split.valid))
    assert held and not held & set(pairs(marked.select(marked.noisy)))


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(ValueError, match="make them positive with sum 1"):
        floors(users_with([10]), valid=0.5, test=0.5)


def test_validation_pairs_join_the_training_pairs_and_only_test_questions_remain():
    split = floors(users_with([20, 3, 1, 0, 11]))
    whole = joined(split)
    validate(replace(whole, valid=split.test[0], test=()))
    assert sorted(pairs(whole.train)) == sorted(pairs(split.train) + targets(split.valid))
    assert not len(whole.valid) and targets(whole.test[0]) == targets(split.test[0])
    users = whole.test[0].query.users
    assert pairs_of(whole.test[0].query.history, users) == [pair for pair in pairs(whole.train)
                                                            if pair[0] in users.tolist()]
    assert torch.equal(whole.test[0].seen.values, whole.test[0].query.history.values)


def test_joined_pairs_are_no_known_noise():
    base = users_with([20, 30])
    marked = Interactions.from_pairs(base.users, base.items, 2, base.n_items, noisy=torch.arange(50) % 5 == 0)
    split = floors(marked)
    whole = joined(split)
    assert set(pairs(whole.train.select(whole.train.noisy))) == set(pairs(split.train.select(split.train.noisy)))


def test_validation_users_that_do_not_train_cannot_be_joined():
    split = floors(users_with([20, 30]))
    unseen = replace(split.valid, query=replace(split.valid.query, users=torch.tensor([-1, 1])))
    with pytest.raises(ValueError, match="wants validation users that also train; split within users"):
        joined(replace(split, valid=unseen))


def test_the_protocol_file_gives_the_split():
    config = OmegaConf.load(ROOT / "conf/protocol/topk.yaml")
    whole = users_with([10, 20])
    assert instantiate(config.split)(whole).fingerprint == ratio(whole).fingerprint
    assert config.monitor in config.metrics


@pytest.mark.skipif("RECOT_DATA" not in os.environ, reason="RECOT_DATA names no folder with the real data")
def test_gowalla_is_split_into_the_known_counts():
    rows: dict[int, list[int]] = {}
    for name in ("train", "valid", "test"):
        with gzip.open(Path(os.environ["RECOT_DATA"]) / "gowalla" / f"{name}.txt.gz", "rt") as lines:
            for line in lines:
                user, *items = map(int, line.split())
                rows.setdefault(user, []).extend(items)
    taken = Ragged.from_lists([rows[user] for user in range(29_858)])
    split = ratio(Interactions.from_pairs(taken.rows, taken.values, 29_858, 40_981))
    assert (len(split.train), len(split.valid.targets.values), len(split.test[0].targets.values)) == (
        845_292, 91_039, 91_039)
    assert len(split.valid) == len(split.test[0]) == 29_858
    validate(split)


@pytest.fixture
def split() -> Split:
    return ratio(users_with([10, 12, 5], n_items=20))


def changed(split: Split, which: str, field: str, row: int, item: int) -> Split:
    """The split with ``item`` put before row ``row`` of one field of "valid" or "test"."""
    part = split.valid if which == "valid" else split.test[0]
    rows = part.query.history if field == "history" else getattr(part, field)
    place = int(rows.offsets[row])
    offsets = rows.offsets + (torch.arange(len(rows) + 1) > row)
    grown = Ragged(offsets, torch.cat([rows.values[:place], torch.tensor([item]), rows.values[place:]]))
    if field == "history":
        part = replace(part, query=replace(part.query, history=grown))
    else:
        part = replace(part, **{field: grown})
    return replace(split, valid=part) if which == "valid" else replace(split, test=(part,))


def test_an_honest_split_passes_with_and_without_its_test_answers(split):
    validate(split)
    validate(split.for_training())


@pytest.mark.parametrize("which", ["valid", "test"])
def test_a_target_that_is_a_training_pair_is_refused(split, which):
    item = int(split.train.by_user.take(torch.tensor([1])).values[0])
    with pytest.raises(ValueError, match=rf"1 of 4 targets of {which} are training pairs .* \(user 1, item {item}\); "
                                         "take them out of train or out of the targets"):
        validate(changed(split, which, "targets", 1, item))


def test_a_test_target_that_is_a_validation_target_is_refused(split):
    item = int(split.valid.targets.values[0])
    leaked = changed(split, "test", "targets", 0, item)
    leaked = replace(leaked, test=(replace(leaked.test[0], seen=split.valid.seen),))
    with pytest.raises(ValueError, match=rf"validation targets of the same user .* \(user 0, item {item}\); "
                                         "hold every pair out once"):
        validate(leaked)


@pytest.mark.parametrize("which", ["valid", "test"])
def test_a_target_that_is_never_ranked_is_refused(split, which):
    part = split.valid if which == "valid" else split.test[0]
    with pytest.raises(ValueError, match=f"targets of {which} are in the seen .*; take them out of seen"):
        validate(changed(split, which, "seen", 2, int(part.targets.values[-1])))


def test_a_target_in_the_history_of_an_unseen_user_is_refused(split):
    test = split.test[0]
    unseen = replace(split, test=(replace(test, query=Query(torch.full((3,), -1), test.query.history)),))
    validate(unseen)
    with pytest.raises(ValueError, match="are in the history .* a model must not be told the answer; shorten it"):
        validate(changed(unseen, "test", "history", 2, int(test.targets.values[-1])))


def test_unseen_users_may_share_answers(split):
    unseen = replace(split.valid, query=Query(torch.full((3,), -1), split.valid.query.history))
    validate(replace(split, valid=unseen, test=(replace(unseen, name="test"),)))


def test_a_target_given_twice_is_refused(split):
    item = int(split.valid.targets.values[0])
    with pytest.raises(ValueError, match="1 of 4 targets of valid occur twice .*; keep one of each"):
        validate(changed(split, "valid", "targets", 0, item))


def test_a_training_pair_given_twice_is_refused(split):
    twice = torch.tensor([0, *range(len(split.train))])
    with pytest.raises(ValueError, match="1 training pairs occur twice, .*; build train with Interactions.from_pairs"):
        validate(replace(split, train=split.train.select(twice)))


@pytest.mark.parametrize("field", ["targets", "seen", "history"])
@pytest.mark.parametrize("item", [-1, 20])
def test_items_out_of_range_are_refused(split, field, item):
    with pytest.raises(ValueError, match=rf"{field} lie outside 0..19, for example {item}; number .* anew"):
        validate(changed(split, "test", field, 1, item))


@pytest.mark.parametrize("user", [-2, 3])
def test_users_out_of_range_are_refused(split, user):
    query = Query(torch.tensor([0, 1, user]), split.valid.query.history)
    with pytest.raises(ValueError, match=rf"valid.query.users lie outside -1..2, for example {user}; number .* anew"):
        validate(replace(split, valid=replace(split.valid, query=query)))


def test_training_ids_out_of_range_are_refused(split):
    with pytest.raises(ValueError, match="train.items lie outside 0..4"):
        validate(replace(split, train=replace(split.train, n_items=5)))


def test_a_question_without_targets_is_refused(split):
    empty = Ragged.from_lists([[], split.valid.targets.values[1:2].tolist(), split.valid.targets.values[2:].tolist()])
    with pytest.raises(ValueError, match="1 of 3 questions of valid have no target, for example user 0; leave users"):
        validate(replace(split, valid=replace(split.valid, targets=empty)))


def test_a_set_without_questions_is_refused():
    with pytest.raises(ValueError, match="at least one question; fewer than 3 pairs per user leave none"):
        validate(ratio(users_with([2, 1])))


def test_a_set_with_a_row_missing_is_refused(split):
    with pytest.raises(ValueError, match=r"valid has \[3, 3, 2, 3\] rows .*; give every question one row of each"):
        validate(replace(split, valid=replace(split.valid, targets=split.valid.targets.slice(0, 2))))


def test_targets_must_be_among_the_candidates(split):
    one_each = split.valid.targets.padded(1)
    good = replace(split.valid, candidates=torch.cat([torch.full((3, 1), 3), one_each], 1))
    validate(replace(split, valid=good))
    with pytest.raises(ValueError, match="not among the candidates .*; add every target to its row of candidates"):
        validate(replace(split, valid=replace(good, candidates=(good.candidates + 1) % 20)))


@given(st.lists(st.integers(-3, 9), max_size=9), st.sets(st.integers(0, 9)))
@UNHURRIED
def test_is_in_answers_as_a_set(wanted, keys):
    found = is_in(torch.tensor(wanted, dtype=torch.int64), torch.tensor(sorted(keys), dtype=torch.int64))
    assert found.tolist() == [w in keys for w in wanted]


def test_new_training_pairs_replace_the_old_ones_and_validation_items_stay(split):
    other = split.train.select(torch.arange(len(split.train)) % 2 == 0)
    new = with_train(split, other, seen="all")
    users = new.test[0].query.users
    assert sorted(pairs_of(new.valid.seen, users)) == pairs_of(new.valid.query.history, users) == pairs(other)
    assert sorted(pairs_of(new.test[0].seen, users)) == sorted(pairs(other) + targets(split.valid))
    assert torch.equal(new.test[0].targets.values, split.test[0].targets.values)
    again = with_train(new, split.train, seen="all")
    assert again.fingerprint == with_train(split, split.train, seen="all").fingerprint
    clean = with_train(split, other)
    assert all(torch.equal(after.seen.values, before.seen.values) for before, after in zip(
        (split.valid, *split.test), (clean.valid, *clean.test), strict=True))
    assert torch.equal(clean.valid.query.history.values, new.valid.query.history.values)


@pytest.mark.parametrize("deal", [ratio, floors, last])
def test_marked_noise_is_ranked_and_clean_pairs_are_not(deal):
    planted = Planted(60, 60, 3, mean_activity=9.0, noise=0.3).load().interactions
    split = deal(planted)
    noise = set(pairs(split.train.select(split.train.noisy)))
    for part in (split.valid, *split.test, *joined(split).test):
        left_out = set(pairs_of(part.seen, part.query.users))
        users = set(part.query.users.tolist())
        assert not left_out & noise and left_out >= {pair for pair in pairs(split.train.clean()) if pair[0] in users}


def test_what_a_history_holds_besides_training_stays_newest(split):
    late = int(split.valid.targets.values[0])
    longer = split.test[0].query.history.values.tolist()[:8] + [late]
    query = Query(torch.tensor([0, -1]), Ragged.from_lists([longer, [4, 2, 3]]))
    test = EvalSet(query, Ragged.from_lists([[19], [18]]), Ragged.from_lists([[], []]), None, "test")
    new = with_train(replace(split, test=(test,)), split.train.select(torch.tensor([0, 1])))
    assert new.test[0].query.history.values.tolist() == [*split.train.items[:2].tolist(), late, 4, 2, 3]


def test_the_last_item_is_tested_and_the_one_before_it_validates():
    items, times = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 1]), torch.tensor([7, 6, 5, 4, 3, 2, 1, 0, 0])
    users = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2])
    split = last(Interactions.from_pairs(users, items, 3, 8, times=times))
    assert [row.tolist() for row in split.train.by_user.values.split(split.train.activity.tolist())] == [[4, 3, 2], [7],
                                                                                                     [1]]
    assert targets(split.valid) == [(0, 1), (1, 6)] and targets(split.test[0]) == [(0, 0), (1, 5)]
    assert pairs_of(split.valid.query.history, split.valid.query.users) == [(0, 4), (0, 3), (0, 2), (1, 7)]
    assert pairs_of(split.test[0].query.history, torch.tensor([0, 1])) == [(0, 4), (0, 3), (0, 2), (0, 1), (1, 7),
                                                                           (1, 6)]
    assert pairs_of(split.test[0].seen, torch.tensor([0, 1])) == pairs_of(split.test[0].query.history,
                                                                          torch.tensor([0, 1]))
    validate(split)


def test_known_noise_is_never_the_last_item():
    users, items, times = torch.zeros(5, dtype=torch.int64), torch.arange(5), torch.arange(5)
    noisy = torch.tensor([False, False, False, True, True])
    split = last(Interactions.from_pairs(users, items, 1, 5, times=times, noisy=noisy))
    assert targets(split.test[0]) == [(0, 2)] and targets(split.valid) == [(0, 1)]
    assert split.train.items.tolist() == [0, 3, 4]


def test_without_times_nothing_is_last():
    with pytest.raises(ValueError, match="no times"):
        last(users_with([3, 4]))


def five_users():
    users = torch.arange(5).repeat_interleave(4)
    return Interactions.from_pairs(users, torch.arange(20) % 9, 5, 9, times=torch.arange(20))


def test_a_portion_of_the_users_trains_and_all_are_asked_about():
    whole, part = last(five_users()), last(five_users(), portion=0.7)
    assert part.train.users.unique().tolist() == [0, 1, 2]  # floor(0.7 * 5)
    for full, cut in ((whole.valid, part.valid), (whole.test[0], part.test[0])):
        assert cut.query.users.equal(full.query.users) and cut.query.history.values.equal(full.query.history.values)
    assert part.fingerprint != whole.fingerprint


def test_a_random_portion_follows_its_seed_and_is_nested():
    chosen = [{*last(five_users(), portion=portion, order="random", split_seed=seed).train.users.tolist()}
              for seed in range(6) for portion in (0.4, 0.8)]
    assert all(small < large and (len(small), len(large)) == (2, 4)
               for small, large in zip(chosen[::2], chosen[1::2], strict=True))
    assert len({frozenset(users) for users in chosen[::2]}) > 1


@pytest.mark.parametrize("portion", [0.0, 0.1, 1.1])
def test_a_portion_of_nobody_or_of_more_than_all_is_refused(portion):
    with pytest.raises(ValueError, match="give more than 0 and at most 1"):
        last(five_users(), portion=portion)


def one_day(n_users=400, n_items=50, k=8, seed=0) -> Interactions:
    """Random baskets, each of one day: nothing can be known of the order of its items."""
    rng = torch.Generator().manual_seed(seed)
    items = torch.rand(n_users, n_items, generator=rng).argsort(1)[:, :k].flatten()
    users = torch.arange(n_users).repeat_interleave(k)
    return Interactions.from_pairs(users, items, n_users, n_items, times=torch.zeros_like(users))


def relabelled(pairs: Interactions) -> Interactions:
    """As IR leaves them: two of each user's pairs rejected, and two unobserved ones added at the latest time."""
    rng = torch.Generator().manual_seed(1)
    items = torch.randint(10_000, (2 * pairs.n_users,), generator=rng) + pairs.n_items
    return relabelled_pairs(replace(pairs, n_items=pairs.n_items + 10_000), pairs.by_user.place >= 2,
                            torch.arange(pairs.n_users).repeat_interleave(2), items)


@pytest.mark.parametrize("ordered", [
    lambda pairs: last(pairs).train, lambda pairs: relabelled(last(pairs).train),
    lambda pairs: add(last(pairs), 0.5).train, lambda pairs: flip(last(pairs), 0.5, mode="swap").train,
    lambda pairs: ratio(in_time_order(pairs, 0)).train, lambda pairs: floors(in_time_order(pairs, 0)).train,
    lambda pairs: last(pairs, portion=0.5, order="random").train,
], ids=["last", "relabelled", "noise added", "noise swapped", "ratio", "floors", "a portion"])
def test_the_order_of_equal_times_says_nothing_about_the_items(ordered):
    train = ordered(one_day())
    rising = (train.items[1:] > train.items[:-1])[train.users[1:] == train.users[:-1]].double()
    assert abs(float(rising.mean()) - 0.5) < 4 * 0.5 / len(rising) ** 0.5


def test_the_last_of_equal_times_is_any_of_them():
    split = last(one_day())
    for part, known in ((split.test[0], 7), (split.valid, 6)):
        below = (part.query.history.values < part.targets.values[part.query.history.rows]).double()
        assert abs(float(below.mean()) - 0.5) < 0.05 and part.query.history.lengths.eq(known).all()


def test_the_order_of_equal_times_follows_the_seed_and_the_set_of_pairs_alone():
    pairs = one_day()
    shuffled = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(5))
    again = Interactions.from_pairs(pairs.users[shuffled], pairs.items[shuffled], pairs.n_users, pairs.n_items,
                                    times=pairs.times)
    assert last(again).fingerprint == last(pairs).fingerprint != last(pairs, split_seed=1).fingerprint
    fresh = Interactions.from_pairs(pairs.users, pairs.items, pairs.n_users, pairs.n_items, times=pairs.times, ties=3)
    assert torch.equal(fresh.items, pairs.untied(3).items) and torch.equal(fresh.keys, pairs.keys)


def test_times_that_differ_are_kept_in_their_order_whatever_the_seed(caplog):
    with caplog.at_level("INFO"):
        assert len({last(five_users(), split_seed=seed).fingerprint for seed in range(3)}) == 1
    assert caplog.messages == []


def test_the_share_of_equal_times_is_said_once(caplog):
    users, times = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2]), torch.tensor([1, 2, 3, 3, 5, 5, 6, 7])
    pairs = Interactions.from_pairs(users, torch.arange(8), 3, 8, times=times)
    with caplog.at_level("INFO"):
        last(in_time_order(pairs, 0))
    assert caplog.messages[0] == (
        "50.0 % of the pairs share their time with another pair of their user, as do the last two of 33.3 % of the "
        "users; such pairs are in random order (split_seed)")
    assert not any("share their time" in message for message in caplog.messages[1:])
