"""What remains of the raw interactions, against slow definitions."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recot.data import filters
from recot.data.interactions import Interactions

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40)


def slow_core(pairs, core):
    """One pair at a time, the first that is too light."""
    pairs = list(pairs)
    while True:
        light = next((pair for pair in pairs if any(sum(p[side] == pair[side] for p in pairs) < core
                                                    for side in (0, 1))), None)
        if light is None:
            return pairs
        pairs.remove(light)


@given(PAIRS.map(lambda pairs: sorted(set(pairs))), st.integers(0, 4))
def test_the_core_is_what_dropping_one_by_one_leaves(pairs, core):
    users, items = np.array(pairs).T
    kept = filters.in_core(users, items, core)
    assert [pair for pair, keep in zip(pairs, kept, strict=True) if keep] == slow_core(pairs, core)


@given(PAIRS, st.randoms(use_true_random=False), st.booleans())
def test_the_earliest_of_equal_pairs_is_kept(pairs, random, timed):
    keys = np.array([10 * user + item for user, item in pairs])
    times = np.array([random.randint(-3, 3) for _ in pairs])
    chosen = filters.one_per_pair(keys, times if timed else None)
    first = {}
    for place, key in enumerate(keys):
        if key not in first or (timed and times[place] < times[first[key]]):
            first[key] = place
    assert sorted(chosen) == sorted(first.values())


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**62), max_size=40))
def test_equal_keys_keep_their_order(keys):
    keys = np.array(keys, dtype=np.int64)
    assert filters.stable_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@given(PAIRS.map(set).map(sorted), st.randoms(use_true_random=False), st.sampled_from([3, 2**40, 2**62]))
def test_pairs_are_ordered_as_interactions_order_them(pairs, random, far):
    random.shuffle(pairs)
    users, items = np.array(pairs).T
    times = np.array([random.choice([-far, 0, 1, far]) for _ in pairs])
    for known in (times, None):
        order = filters.in_order(users, items, known)
        found = Interactions.from_pairs(torch.from_numpy(users), torch.from_numpy(items), 7, 7,
                                        times=None if known is None else torch.from_numpy(times))
        assert users[order].tolist() == found.users.tolist() and items[order].tolist() == found.items.tolist()
        assert known is None or times[order].tolist() == found.times.tolist()


@pytest.mark.parametrize("values", [[30, 9, 30, 12, 40], [30, 9, 30, 2**40, 0], ["b", "10", "9", "b", "\u00e9", "B"]])
def test_however_a_column_is_held_its_values_are_numbered_alike(values):
    column, wanted = pd.Series(values), sorted(set(values))
    unused = pd.CategoricalDtype([*reversed(wanted), values[0] * 2])
    for held in (column, column.astype("category"), column.astype(unused)):
        codes, ids = filters.numbered(held)
        assert ids.tolist() == wanted and codes.tolist() == [wanted.index(value) for value in values]
        assert codes.dtype == np.int64


@pytest.mark.parametrize(("values", "rising"), [
    ([30, 9, 30, 2**40, 0], [0, 9, 30, 2**40]),
    (["b", "10", "9", "b", "001", "1", "\u00e9", "B"], ["001", "1", "10", "9", "B", "b", "\u00e9"]),
])
def test_ids_are_numbered_in_rising_order(values, rising):
    codes, ids = filters.numbered(pd.Series(values))
    assert list(ids) == rising
    assert [ids[code] for code in codes] == values
    assert all(isinstance(value, (str, np.int64)) for value in ids)
    part = codes[1:3]
    codes, ids = filters.renumbered(part, ids)
    assert [ids[code] for code in codes] == values[1:3]
    assert len(ids) == 2


def test_files_with_integer_and_with_string_ids_join_without_loss():
    frames = [pd.DataFrame({"user": [1, 2], "item": [5, 6]}), pd.DataFrame({"user": ["001", "2"], "item": [5, 7]})]
    joined = filters.joined(frames)
    assert list(joined["user"]) == ["1", "2", "001", "2"]
    assert list(joined["item"]) == [5, 6, 5, 7]


def test_a_sample_holds_all_rows_of_its_users_whatever_their_order():
    frame = pd.DataFrame({"user": list("abcdefghij") * 3, "item": range(30)})
    kept = filters.sampled(frame, 0.3, seed=1)
    assert len(set(kept["user"])) == 3 and len(kept) == 9
    shuffled = filters.sampled(frame.sample(frac=1, random_state=0), 0.3, seed=1)
    assert sorted(shuffled["item"]) == sorted(kept["item"])
    assert set(filters.sampled(frame, 0.3, seed=2)["user"]) != set(kept["user"])
    assert len(set(filters.sampled(frame, 0.001, seed=1)["user"])) == 1
