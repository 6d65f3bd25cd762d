"""Ragged and Interactions against plain Python lists, sets and dicts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recot.data.interactions import Interactions, Ragged, sorted_order

N_USERS, N_ITEMS = 6, 9
UNHURRIED = settings(deadline=None)     # a busy machine must not fail a test
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=7), max_size=6)
PAIRS = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), unique=True, max_size=30)


def interactions(pairs: list[tuple[int, int]], times: list[int] | None = None) -> Interactions:
    users, items = (torch.tensor([pair[side] for pair in pairs], dtype=torch.int64) for side in (0, 1))
    return Interactions.from_pairs(users, items, N_USERS, N_ITEMS,
                                   times=None if times is None else torch.tensor(times, dtype=torch.int64))


@given(st.lists(st.integers(0, 3), max_size=20))
@UNHURRIED
def test_sorted_order_is_stable(keys):
    order = sorted_order(torch.tensor(keys, dtype=torch.int64))
    assert order.tolist() == sorted(range(len(keys)), key=keys.__getitem__)


@given(ROWS)
@UNHURRIED
def test_ragged_rows_come_back_as_they_went_in(rows):
    ragged = Ragged.from_lists(rows)
    assert ragged.to_lists() == rows and len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.rows.tolist() == [r for r, row in enumerate(rows) for _ in row]
    assert Ragged.from_pairs(ragged.rows, ragged.values, len(rows)).to_lists() == rows


@given(ROWS.filter(len), st.data())
@UNHURRIED
def test_take_and_slice_pick_rows_as_lists_do(rows, data):
    ragged = Ragged.from_lists(rows)
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    assert ragged.take(torch.tensor(index, dtype=torch.int64)).to_lists() == [rows[r] for r in index]
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert ragged.slice(start, stop).to_lists() == rows[start:stop]


@given(ROWS)
@UNHURRIED
def test_dense_is_one_exactly_where_the_row_holds_the_value(rows):
    expected = [[float(v in row) for v in range(N_ITEMS)] for row in rows]
    assert Ragged.from_lists(rows).dense(N_ITEMS).tolist() == expected


@given(ROWS, st.integers(1, 9), st.sampled_from(["left", "right"]))
@UNHURRIED
def test_padded_keeps_the_last_values_in_order(rows, width, side):
    expected = []
    for row in rows:
        kept, padding = row[-width:], [-1] * (width - len(row[-width:]))
        expected.append(padding + kept if side == "left" else kept + padding)
    assert Ragged.from_lists(rows).padded(width, side).tolist() == expected


@given(PAIRS, st.randoms())
@UNHURRIED
def test_the_order_of_the_pairs_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    one, other = interactions(pairs), interactions(shuffled)
    assert torch.equal(one.users, other.users) and torch.equal(one.items, other.items)
    assert list(zip(one.users.tolist(), one.items.tolist(), strict=True)) == sorted(pairs)


@given(PAIRS, st.data())
@UNHURRIED
def test_pairs_are_sorted_by_user_then_time_then_item(pairs, data):
    times = data.draw(st.lists(st.integers(0, 4), min_size=len(pairs), max_size=len(pairs)))
    built = interactions(pairs, times)
    got = list(zip(built.users.tolist(), built.times.tolist(), built.items.tolist(), strict=True))
    assert got == sorted((u, t, i) for (u, i), t in zip(pairs, times, strict=True))
    assert built.by_user.to_lists() == [[i for u, _, i in got if u == user] for user in range(N_USERS)]


@given(PAIRS)
@UNHURRIED
def test_contains_answers_as_a_set_for_every_cell(pairs):
    built = interactions(pairs)
    cells = built.contains(torch.arange(N_USERS)[:, None], torch.arange(N_ITEMS))             # (users, items)
    assert cells.tolist() == [[(u, i) in pairs for i in range(N_ITEMS)] for u in range(N_USERS)]
    assert built.keys.tolist() == sorted(u * N_ITEMS + i for u, i in pairs)


@given(PAIRS)
@UNHURRIED
def test_counts_are_those_of_the_pairs(pairs):
    built = interactions(pairs)
    assert built.popularity.tolist() == [sum(i == item for _, i in pairs) for item in range(N_ITEMS)]
    assert built.activity.tolist() == [sum(u == user for u, _ in pairs) for user in range(N_USERS)]
    assert built.weights.tolist() == [1.0] * len(pairs)


@given(PAIRS, st.data())
@UNHURRIED
def test_select_keeps_every_field_aligned_and_forgets_what_was_cached(pairs, data):
    built = interactions(pairs, list(range(len(pairs)))).reweighted(torch.arange(len(pairs)) / 100)
    assert len(built.keys) == len(pairs) and built.by_user.lengths.sum() == len(pairs)
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))), dtype=torch.bool)
    part = built.select(keep)
    for name in ("users", "items", "times", "weights"):
        assert torch.equal(getattr(part, name), getattr(built, name)[keep])
    assert len(part.keys) == len(part) == int(keep.sum()) == int(part.by_user.lengths.sum())
    assert (part.n_users, part.n_items) == (N_USERS, N_ITEMS)


def test_marks_follow_their_pairs():
    users, items = torch.tensor([1, 0, 1]), torch.tensor([2, 1, 0])
    built = Interactions.from_pairs(users, items, 2, 3, noisy=torch.tensor([True, False, False]))
    assert built.items.tolist() == [1, 0, 2] and built.noisy.tolist() == [False, False, True]


def test_no_pairs_at_all_are_allowed():
    built = interactions([])
    assert len(built) == 0 and len(built.by_user) == N_USERS
    assert not built.contains(torch.arange(N_USERS), torch.zeros(1, dtype=torch.int64)).any()


def test_moving_to_a_device_keeps_the_pairs():
    built = interactions([(0, 1), (2, 3)], [5, 4])
    moved = built.to("meta")
    assert moved.users.device.type == moved.times.device.type == "meta" and moved.n_items == N_ITEMS


@pytest.mark.parametrize(("user", "item", "sentence"), [(N_USERS, 0, f"user ids .* expected 0..{N_USERS - 1}"),
                                                        (0, -1, f"item ids .* expected 0..{N_ITEMS - 1}")])
def test_ids_out_of_range_are_refused(user, item, sentence):
    with pytest.raises(ValueError, match=sentence):
        interactions([(0, 0), (user, item)])


def test_a_pair_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match=r"user 1, item 2\) occurs twice; keep one of them"):
        interactions([(1, 2), (0, 0), (1, 2)])


def test_places_count_from_the_start_and_slots_end_with_each_row():
    ragged = Ragged.from_lists([[5, 6, 7], [], [8]])
    assert ragged.place.tolist() == [0, 1, 2, 0]
    assert ragged.slots(3).tolist() == [0, 1, 2, 8] and ragged.slots(4).tolist() == [1, 2, 3, 11]


@pytest.mark.parametrize("derived", [
    lambda rows: rows, lambda rows: rows.take(torch.tensor([3, 0, 3, 1])), lambda rows: rows.slice(1, 4),
    lambda rows: rows.latest(2), lambda rows: rows.to("cpu").latest(9), lambda rows: rows.slice(1, 1),
    lambda rows: rows.take(torch.tensor([3, 0, 1]), np.array([3, 0, 1])), lambda rows: rows.take(torch.tensor([2]))],
    ids=["whole", "take", "slice", "latest", "moved", "none", "take-told", "take-empty"])
def test_the_host_knows_how_long_rows_are_that_were_taken_or_cut(derived):
    """Elsewhere it would have to ask the device; see tests/test_meta_device.py."""
    rows = derived(Ragged.from_lists([[1, 2, 3], [4], [], [5, 6, 7, 8]]))
    assert rows.sizes.tolist() == rows.lengths.tolist() == [len(row) for row in rows.to_lists()]
    assert rows.bounds.tolist() == rows.offsets.tolist() and rows.sizes.dtype == np.int64
    assert int(rows.sizes.sum()) == len(rows.values)
