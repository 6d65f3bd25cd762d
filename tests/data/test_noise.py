"""Noise lands in training only, in the stated number, and grows with the ratio without being drawn anew."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from recot.closed.popularity import Popularity
from recot.data.interactions import Interactions, Ragged
from recot.data.noise import add, flip, insert, none, unobserved_items, unobserved_pairs
from recot.data.planted import Planted
from recot.data.questions import EvalSet, Query, Split, validate
from recot.data.split import floors, joined, last, ratio
from recot.evaluation.evaluate import evaluate

ROOT = Path(__file__).parents[2]
UNHURRIED = settings(deadline=None, max_examples=40)     # a busy machine must not fail a test
N_ITEMS = 40


def random_split(seed: int = 0, n_users: int = 12, density: float = 0.3, times: bool = False) -> Split:
    rng = torch.Generator().manual_seed(seed)
    users, items = (torch.rand(n_users, N_ITEMS, generator=rng) < density).nonzero(as_tuple=True)
    when = torch.randint(10**6, (len(users),), generator=rng) if times else None
    return ratio(Interactions.from_pairs(users, items, n_users, N_ITEMS, times=when))


def pairs(train: Interactions, marked: bool | None = None) -> set[tuple[int, int]]:
    keep = torch.ones(len(train), dtype=torch.bool) if marked is None else train.noisy == marked
    return set(zip(train.users[keep].tolist(), train.items[keep].tolist(), strict=True))


def targets(split: Split) -> list[tuple[list[int], list[int]]]:
    return [(part.targets.offsets.tolist(), part.targets.values.tolist()) for part in (split.valid, *split.test)]


def masked(part: EvalSet) -> set[tuple[int, int]]:
    return set(zip(part.query.users[part.seen.rows].tolist(), part.seen.values.tolist(), strict=True))


def test_none_changes_nothing():
    split = random_split()
    assert none(split) is split


@given(st.integers(0, 30), st.floats(0, 1.2), st.sampled_from(["user", "pair"]))
@UNHURRIED
def test_added_pairs_are_unobserved_marked_and_exactly_as_many_as_asked_for(seed, share, per):
    split = random_split(seed)
    noisy = add(split, share, noise_seed=seed, per=per)
    held_out = {pair for part in (split.valid, *split.test) for pair in
                zip(part.query.users[part.targets.rows].tolist(), part.targets.values.tolist(), strict=True)}
    added = pairs(noisy.train, marked=True)
    assert len(added) == len(noisy.train) - len(split.train) == round(share * len(split.train))
    assert pairs(noisy.train, marked=False) == pairs(split.train)
    assert not added & (pairs(split.train) | held_out)
    assert targets(noisy) == targets(split)
    validate(noisy)


@given(st.sampled_from(["add user", "add pair", "swap", "delete", "inject"]), st.integers(0, 5))
@UNHURRIED
def test_the_noise_of_a_small_ratio_is_part_of_the_noise_of_a_larger_one(kind, seed):
    split = random_split(seed, times=True)

    def change(share):
        verb, *per = kind.split()
        noisy = add(split, share, seed, *per) if verb == "add" else flip(split, share, seed, mode=kind)
        rows = set(zip(noisy.train.users.tolist(), noisy.train.items.tolist(), noisy.train.times.tolist(), strict=True))
        old = set(zip(split.train.users.tolist(), split.train.items.tolist(), split.train.times.tolist(), strict=True))
        return rows - old, old - rows

    changes = [change(share) for share in (0.05, 0.1, 0.2, 0.6)]
    for small, large in zip(changes, changes[1:], strict=False):
        assert small[0] <= large[0] and small[1] <= large[1]
        assert len(small[0]) + len(small[1]) < len(large[0]) + len(large[1])


def test_a_small_ratio_is_part_of_a_larger_one_when_the_stream_is_drawn_in_many_pieces():
    users = torch.arange(50).repeat_interleave(4)
    train = Interactions.from_pairs(users, torch.arange(4).repeat(50), 50, 500, times=torch.arange(200))
    asked = torch.arange(1)
    part = EvalSet(Query(asked, train.by_user.take(asked)), Ragged.from_lists([[9]]), train.by_user.take(asked), None,
                   "valid")
    noisy = [add(Split(train, part, ()), share).train for share in (0.1, 30, 90)]          # 20, 6000 and 18,000 pairs
    rows = [set(zip(n.users.tolist(), n.items.tolist(), n.times.tolist(), strict=True)) for n in noisy]
    assert rows[0] < rows[1] < rows[2]


@pytest.mark.parametrize("change", [add, flip])
def test_the_same_seed_gives_the_same_noise_and_another_seed_another(change):
    split = random_split()
    assert change(split, 0.2).fingerprint == change(split, 0.2).fingerprint != change(split, 0.2, 1).fingerprint


CHANGES = [partial(add, ratio=0.3), partial(add, ratio=0.3, per="pair"), *(
    partial(flip, ratio=0.3, mode=mode) for mode in ("inject", "swap", "delete")), partial(insert, ratios=[0.3])]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_items_are_ranked_with_and_without_noise(change):
    split = random_split()
    noisy = change(split)
    for before, after in zip((split.valid, *split.test), (noisy.valid, *noisy.test), strict=False):
        assert masked(before) == masked(after)
        assert torch.equal(before.targets.values, after.targets.values)
    validate(noisy)


DEALT = {"ratio": ratio, "floors": floors, "last": last, "last of a portion": partial(last, portion=0.5),
         "refitted": lambda pairs: joined(ratio(pairs))}


@pytest.mark.parametrize("deal", DEALT.values(), ids=DEALT)
@pytest.mark.parametrize("marked", [0.0, 0.2], ids=["clean data", "data with marked noise"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_same_items_are_ranked_under_every_protocol(deal, marked, change):
    split = deal(Planted(60, 60, 3, mean_activity=9.0, noise=marked).load().interactions)
    noisy = change(split)
    for before, after in zip((split.valid, *split.test), (noisy.valid, *noisy.test), strict=False):
        assert torch.equal(before.seen.values, after.seen.values)
        assert torch.equal(before.seen.offsets, after.seen.offsets)
    assert not torch.equal(noisy.test[-1].query.history.values, split.test[0].query.history.values)


def test_noise_does_not_raise_what_popularity_reaches():
    users, items = (torch.rand(200, 40, generator=torch.Generator().manual_seed(0)) < 0.25).nonzero(as_tuple=True)
    split = ratio(Interactions.from_pairs(users, items, 200, 40))
    reached = {seen: [float(evaluate(Popularity().fit(noisy.for_training()), noisy.test[0], ["recall@10"])["recall@10"]
                            .mean()) for noisy in (add(split, much, seen=seen) for much in (0.0, 1.0, 2.0))]
               for seen in ("clean", "all")}
    assert reached["clean"][0] == reached["all"][0]
    assert max(reached["clean"]) < 1.1 * reached["clean"][0]
    assert reached["all"][2] > 1.5 * reached["all"][0]


@pytest.mark.parametrize("change", [add, flip, partial(flip, mode="swap")])
def test_which_pairs_are_left_out_is_one_of_two(change):
    with pytest.raises(ValueError, match="got 'none'; use 'clean' or 'all'"):
        change(random_split(), 0.1, seen="none")


def test_histories_and_masked_rows_hold_the_noisy_training_set():
    split = random_split()
    noisy = add(split, 0.2, seen="all")
    for part in (noisy.valid, *noisy.test):
        known = set(zip(part.query.users[part.query.history.rows].tolist(), part.query.history.values.tolist(),
                        strict=True))
        asked = set(part.query.users.tolist())
        assert known == {(u, i) for u, i in pairs(noisy.train) if u in asked}
    added = pairs(noisy.train) - pairs(split.train)
    for before, after in zip((split.valid, *split.test), (noisy.valid, *noisy.test), strict=True):
        assert masked(after) == masked(before) | {(u, i) for u, i in added if u in set(after.query.users.tolist())}


def test_earlier_marks_stay():
    split = random_split()
    planted = torch.arange(len(split.train)) % 5 == 0
    marked = replace(split, train=replace(split.train, noisy=planted))
    before = pairs(marked.train, marked=True)
    assert before < pairs(add(marked, 0.1).train, marked=True)
    for mode in ("swap", "delete"):
        assert before <= pairs(flip(marked, 0.5, mode=mode).train, marked=True)


def test_pairs_per_user_follow_activity_and_pairs_per_cell_do_not():
    users = torch.cat([torch.zeros(900, dtype=torch.int64), torch.arange(1, 101)])
    items = torch.cat([torch.arange(900), torch.zeros(100, dtype=torch.int64)])
    train = Interactions.from_pairs(users, items, 101, 10_000)
    split = ratio(train, split_seed=0)
    heavy = {per: (add(split, 0.5, per=per).train.noisy & (add(split, 0.5, per=per).train.users == 0)).sum().item()
             for per in ("user", "pair")}
    n = len(split.train)
    assert heavy["user"] == pytest.approx(0.5 * n * 720 / n, rel=0.1)
    assert heavy["pair"] < 0.05 * n


def test_items_are_drawn_uniformly():
    train = Interactions.from_pairs(torch.arange(2000), torch.zeros(2000, dtype=torch.int64), 2000, 11)
    _, items = unobserved_pairs(train, train.keys, 5000, "user", torch.Generator().manual_seed(0))
    counts = torch.bincount(items, minlength=11)
    assert counts[0] == 0 and (counts[1:] - 500).abs().max() < 110           # deviation 21


def test_a_user_with_a_full_row_is_passed_over():
    full = Interactions.from_pairs(torch.tensor([0] * 6 + [1] * 3), torch.tensor([*range(6), 0, 1, 2]), 2, 6)
    split = ratio(full, split_seed=1)
    n = len(split.train)
    noisy = add(split, 3 / n)
    assert noisy.train.users[noisy.train.noisy].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="4 unobserved pairs are asked for and the users have 3 free cells; lower"):
        add(split, 4 / n)


@pytest.mark.parametrize("per", ["user", "pair"])
def test_users_without_training_pairs_receive_nothing_and_the_others_all_there_is(per):
    train = Interactions.from_pairs(torch.tensor([1, 1, 3]), torch.tensor([0, 1, 1]), 4, 6)
    users, items = unobserved_pairs(train, train.keys, 9, per, torch.Generator().manual_seed(0))
    expected = [(1, 2), (1, 3), (1, 4), (1, 5), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)]
    assert sorted(zip(users.tolist(), items.tolist(), strict=True)) == expected


def test_added_pairs_take_times_of_their_own_user():
    split = random_split(times=True)
    noisy = add(split, 0.5).train
    times = {u: set(split.train.times[split.train.users == u].tolist()) for u in range(split.train.n_users)}
    assert all(t in times[u] for u, t in zip(noisy.users.tolist(), noisy.times.tolist(), strict=True))


def test_swapping_keeps_the_number_of_pairs_of_every_user():
    split = random_split()
    swapped = flip(split, 0.4, mode="swap")
    assert torch.equal(swapped.train.activity, split.train.activity)
    gone, new = pairs(split.train) - pairs(swapped.train), pairs(swapped.train) - pairs(split.train)
    assert len(gone) == len(new) == round(0.4 * len(split.train)) and new == pairs(swapped.train, marked=True)
    assert targets(swapped) == targets(split)
    validate(swapped)


def test_deleted_pairs_leave_training_histories_and_masks():
    split = random_split()
    fewer = flip(split, 0.3, mode="delete", seen="all")
    gone = pairs(split.train) - pairs(fewer.train)
    assert len(gone) == round(0.3 * len(split.train)) and pairs(fewer.train) < pairs(split.train)
    assert not gone & masked(fewer.test[0])
    validate(fewer)


def test_injecting_is_adding():
    split = random_split()
    assert flip(split, 0.3, 2, mode="inject").fingerprint == add(split, 0.3, 2).fingerprint


def test_no_array_of_users_times_items_is_made():
    n_users, n_items = 300_000, 4_000_000                                   # one bit per cell would be 150 GB
    users = torch.arange(n_users).repeat_interleave(2)
    train = Interactions.from_pairs(users, torch.arange(2 * n_users), n_users, n_items)
    asked = torch.arange(3)
    part = EvalSet(Query(asked, train.by_user.take(asked)), Ragged.from_lists([[9], [9], [9]]),
                   train.by_user.take(asked), None, "valid")
    split = Split(train, part, ())
    assert len(add(split, 0.1).train) == 660_000
    assert len(flip(split, 0.1, mode="swap").train) == 600_000


@given(st.integers(0, 20))
@UNHURRIED
def test_drawn_items_are_free_and_distinct_and_a_full_user_gets_none(seed):
    users = torch.tensor([0, 1, 0, 2, 1, 0, 2])
    taken = torch.tensor([0, 1, 2, 3, 4, 6, 7, 9])                          # user 0 is full, user 1 has items 0 and 3
    items, merged = unobserved_items(users, taken, 5, torch.Generator().manual_seed(seed))
    found = items >= 0
    assert found.tolist() == [user != 0 for user in users.tolist()]
    keys = (users * 5 + items)[found]
    assert merged.tolist() == sorted(taken.tolist() + keys.tolist()) and len(set(merged.tolist())) == len(merged)


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_ratios_that_are_none_are_refused(share):
    with pytest.raises(ValueError, match="use a number of at least 0, such as 0.1"):
        add(random_split(), share)


def test_more_flips_than_pairs_are_refused():
    split = random_split()
    with pytest.raises(ValueError, match="got 1.0; use a number below 1"):
        flip(split, 1.0)
    marked = replace(split, train=replace(split.train, noisy=torch.arange(len(split.train)) > 3))
    for mode in ("swap", "delete"):
        with pytest.raises(ValueError, match=r"and 4 of \d+ can be: .*; lower noise.ratio from 0.5"):
            flip(marked, 0.5, mode=mode)


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="got 'cell'; use 'user' or 'pair'"):
        add(random_split(), 0.1, per="cell")
    with pytest.raises(ValueError, match="got 'explicit'; use 'inject', 'swap' or 'delete'"):
        flip(random_split(), 0.1, mode="explicit")


@pytest.mark.parametrize(("name", "expected"), [("none", none), ("add", lambda s: add(s, 0.1)),
                                                ("flip", lambda s: flip(s, 0.1))])
def test_the_noise_files_give_the_noise_they_name(name, expected):
    split = random_split()
    given_by_file = instantiate(OmegaConf.load(ROOT / f"conf/noise/{name}.yaml"))(split)
    assert given_by_file.fingerprint == expected(split).fingerprint


def sequences(seed: int = 0, n_users: int = 12) -> Split:
    rng = torch.Generator().manual_seed(seed)
    users, items = (torch.rand(n_users, N_ITEMS, generator=rng) < 0.15).nonzero(as_tuple=True)
    return last(Interactions.from_pairs(users, items, n_users, N_ITEMS,
                                        times=torch.randint(10**6, (len(users),), generator=rng)))


def histories(part: EvalSet) -> list[list[int]]:
    return part.query.history.to_lists()


@given(st.integers(0, 50), st.booleans())
@UNHURRIED
def test_inserted_items_are_foreign_and_the_rest_stays_in_order(seed, replacement):
    split = sequences(seed)
    clean, *noisy = insert(split, [0.0, 0.3, 0.9], seed, replacement).test
    assert [part.name for part in noisy] == ["test_0", "test_0.3", "test_0.9"]
    assert histories(noisy[0]) == histories(clean) == histories(split.test[0])
    for part, share in zip(noisy[1:], (0.3, 0.9), strict=True):
        assert part.targets is clean.targets and part.seen is clean.seen
        for place, (row, known) in enumerate(zip(histories(part), histories(clean), strict=True)):
            foreign = [item for item in row if item not in known]
            drawn = int(share * (len(known) + 1) + 1e-9)
            assert [item for item in row if item in known] == known
            assert len(set(foreign)) == len(foreign) <= drawn and (replacement or len(foreign) == drawn)
            assert clean.targets.values[clean.targets.offsets[place]] not in foreign


def test_what_a_small_ratio_inserts_a_large_one_inserts_too_and_training_is_untouched():
    split = sequences()
    noisy = insert(split, [0.2, 0.8])
    assert noisy.train is split.train and noisy.valid is split.valid
    for small, large in zip(histories(noisy.test[1]), histories(noisy.test[2]), strict=True):
        rest = iter(large)
        assert all(item in rest for item in small)
    assert [histories(part) for part in insert(split, [0.2, 0.8]).test] == [histories(part) for part in noisy.test]
    assert histories(insert(split, [0.8], noise_seed=1).test[1]) != histories(noisy.test[2])


def test_an_item_may_come_right_before_the_target():
    split = sequences()
    assert any(row[-1] != known[-1] for row, known in zip(histories(insert(split, [0.9]).test[1]),
                                                          histories(split.test[0]), strict=True))


@pytest.mark.parametrize("wrong", [{"ratios": [-0.1]}, {"ratios": [0.1, 0.1]},
                                   {"ratios": [1.5], "replacement": False}])
def test_insertions_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"noise\.ratios"):
        insert(sequences(), **wrong)
