"""What each operator leaves alone and what it changes, on random histories."""

import math
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recot.batches import augment
from recot.batches.augment import Augmentation, similar_by_users, similar_by_vectors
from recot.data.interactions import Interactions, Ragged
from recot.nn import similarity

HISTORIES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=60), min_size=1, max_size=6)
RATIOS = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
TOKEN, SIMILAR = 10, torch.arange(10).roll(1)
UNHURRIED = settings(deadline=None, max_examples=200)


def changed(name, lists, ratio, seed=0):
    given = {"mask": {"token": TOKEN}, "substitute": {"similar": SIMILAR}, "insert": {"similar": SIMILAR}}.get(name, {})
    rng = torch.Generator().manual_seed(seed)
    return getattr(augment, name)(Ragged.from_lists(lists), ratio, rng, **given).to_lists()


def share(ratio, row, least=0):
    return max(math.floor(ratio * len(row) + 1e-9), least)


@given(HISTORIES, RATIOS, st.integers(0, 99))
@UNHURRIED
def test_crop_keeps_a_piece(lists, ratio, seed):
    for row, kept in zip(lists, changed("crop", lists, ratio, seed), strict=True):
        assert len(kept) == share(ratio, row, 1)
        assert any(row[start:start + len(kept)] == kept for start in range(len(row)))


@given(HISTORIES, RATIOS, st.integers(0, 99))
@UNHURRIED
def test_mask_replaces_exactly_so_many(lists, ratio, seed):
    for row, found in zip(lists, changed("mask", lists, ratio, seed), strict=True):
        assert sum(a != b for a, b in zip(row, found, strict=True)) == found.count(TOKEN) == share(ratio, row)


@given(HISTORIES, RATIOS, st.integers(0, 99))
@UNHURRIED
def test_reorder_shuffles_a_piece_and_nothing_else(lists, ratio, seed):
    for row, found in zip(lists, changed("reorder", lists, ratio, seed), strict=True):
        different = [place for place, (a, b) in enumerate(zip(row, found, strict=True)) if a != b]
        assert sorted(row) == sorted(found)
        assert not different or different[-1] - different[0] < share(ratio, row)


@given(HISTORIES, RATIOS, st.integers(0, 99))
@UNHURRIED
def test_substitute_takes_similar_items(lists, ratio, seed):
    for row, found in zip(lists, changed("substitute", lists, ratio, seed), strict=True):
        different = [(a, b) for a, b in zip(row, found, strict=True) if a != b]
        assert len(different) == share(ratio, row, 1) and all(b == SIMILAR[a] for a, b in different)


@given(HISTORIES, RATIOS, st.integers(0, 99))
@UNHURRIED
def test_insert_keeps_every_item_in_order_behind_what_resembles_it(lists, ratio, seed):
    for row, found in zip(lists, changed("insert", lists, ratio, seed), strict=True):
        assert len(found) == len(row) + share(ratio, row, 1)
        rest, own = iter(found), []
        for item in row:  # read back: an inserted item is the one similar to that behind it
            first = next(rest)
            own.append(item if first == item else next(rest))
            assert first in (item, SIMILAR[item])
        assert own == row and not list(rest)


def test_every_start_of_a_piece_is_drawn():
    rng = torch.Generator().manual_seed(0)
    found = {tuple(augment.crop(Ragged.from_lists([[0, 1, 2, 3]]), 0.5, rng).to_lists()[0]) for _ in range(100)}
    assert found == {(0, 1), (1, 2), (2, 3)}


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, {(0, 1), (1, 2)}), (0.1, {(0,), (1,), (2,), (3,)}),
                                             (1.0, {(0, 1, 2, 3)})])
def test_as_released_no_piece_ends_at_the_last_item(ratio, kept):
    """But for one item that is kept where the share would be none, and for all of the row."""
    rng = torch.Generator().manual_seed(0)
    history = Ragged.from_lists([[0, 1, 2, 3]] * 200)
    assert {tuple(row) for row in augment.crop(history, ratio, rng, reach_end=False).to_lists()} == kept
    shuffled = augment.reorder(Ragged.from_lists([[0, 1, 2, 3]] * 200), 0.5, rng, reach_end=False).to_lists()
    assert {tuple(row) for row in shuffled} == {(0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 1, 3)}


def test_the_switches_of_the_released_program_reach_the_operators():
    history = Ragged.from_lists([[0, 1, 2, 3]] * 200)
    for released, token, last in ((True, augment.PADDING, {1, 2}), (False, TOKEN, {1, 2, 3})):
        switches = {"masked": "padding", "reach_end": False} if released else {}
        kept = Augmentation(["crop"], ratios={"crop": 0.5}, **switches)
        found = kept(history, torch.Generator().manual_seed(0), TOKEN, SIMILAR).to_lists()
        assert {row[-1] for row in found} == last
        shuffled = Augmentation(["reorder"], ratios={"reorder": 0.5}, **switches)
        found = shuffled(history, torch.Generator().manual_seed(0), TOKEN, SIMILAR).to_lists()
        assert {row[-1] for row in found} == ({3} if released else {2, 3})
        hidden = Augmentation(["mask"], ratios={"mask": 0.5}, **switches)
        found = hidden(history, torch.Generator().manual_seed(0), TOKEN, SIMILAR).to_lists()
        assert all(row.count(token) == 2 for row in found)


def test_items_similar_by_users_are_those_of_a_double_loop(rng):
    users, items = (torch.rand(20, 12, generator=rng) < 0.4).nonzero(as_tuple=True)
    times = torch.randperm(len(users), generator=rng)
    train = Interactions.from_pairs(users, items, 20, 12, times=times)
    histories = [set(row[:-1]) for row in train.by_user.to_lists()]  # no history holds the last item
    value = torch.zeros(12, 12, dtype=torch.float64)
    for i in range(12):
        for j in range(12):
            having = [sum(item in history for history in histories) for item in (i, j)]
            common = sum(1 / math.log(1 + len(history)) for history in histories if {i, j} <= history)
            value[i, j] = common / math.sqrt(having[0] * having[1]) if i != j and common else 0.0
    found, alike = similar_by_users(train, torch.Generator().manual_seed(0))
    best, least = value.amax(1), value[value > 0].min()
    assert (best > 0).all() and value[torch.arange(12), found].equal(best)
    torch.testing.assert_close(alike, (best - least) / (best.max() - least))


def test_items_similar_by_users_by_hand():
    """Users {1, 2} and {1, 2, 3}, and a last item each that does not count."""
    train = Interactions.from_pairs(torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([1, 2, 5, 1, 2, 3, 6]), 2, 7,
                                    times=torch.arange(7))
    rng = torch.Generator().manual_seed(0)
    found, alike = similar_by_users(train, rng)
    assert found[1:4].tolist() == [2, 1, 1]  # of 3, items 1 and 2 are equally similar (0.51007)
    assert set(found.tolist()) <= {1, 2, 3}
    assert alike.tolist() == pytest.approx([0, 1, 1, 0, 0, 0, 0])  # 0.81579 is the largest, 0.51007 the least


@pytest.mark.parametrize("block", [2, 5, 1024])
def test_items_similar_by_vectors_are_never_the_same_and_scaled_over_all_pairs(rng, block):
    vectors = torch.randn(5, 3, generator=rng)
    found, alike = similar_by_vectors(vectors, similarity.dot, block)
    values = vectors.double() @ vectors.double().T
    others = values.clone().fill_diagonal_(-torch.inf)
    assert found.equal(others.argmax(1)) and not (found == torch.arange(5)).any()
    low, high = values.min(), others.max()
    torch.testing.assert_close(alike, (others.amax(1) - low) / (high - low), atol=1e-6, rtol=1e-5)


def test_items_that_share_no_user_are_not_compared():
    train = Interactions.from_pairs(torch.tensor([0, 1]), torch.tensor([0, 1]), 2, 2, times=torch.arange(2))
    with pytest.raises(ValueError, match="no two items share a user"):
        similar_by_users(train, torch.Generator())


def test_items_are_compared_in_float32_whatever_the_precision_of_the_step_they_are_drawn_in():
    vectors = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    plain = similar_by_vectors(vectors, similarity.dot)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = similar_by_vectors(vectors, similarity.dot)
    assert all(one.equal(other) for one, other in zip(plain, mixed, strict=True))


RATIO = {"crop": 0.2, "mask": 0.7, "reorder": 0.2, "substitute": 0.1, "insert": 0.4}


def test_short_rows_get_their_own_operators_and_rows_stay_in_place():
    augmentation = Augmentation(["crop"], ["mask"], 3, RATIO | {"mask": 1.0, "crop": 0.5})
    history = Ragged.from_lists([[0, 1], [2, 3, 4, 5], [6, 7, 8], [9, 8, 7, 6]])
    found = augmentation(history, torch.Generator().manual_seed(0), TOKEN, SIMILAR).to_lists()
    assert found[0] == [TOKEN] * 2 and found[2] == [TOKEN] * 3
    assert found[1] in ([2, 3], [3, 4], [4, 5]) and found[3] in ([9, 8], [8, 7], [7, 6])


def test_operators_are_equally_likely():
    augmentation = Augmentation(["crop", "mask"], ratios={"crop": 0.5, "mask": 1.0})
    history = Ragged.from_lists([[1, 2, 3, 4]] * 2000)
    found = augmentation(history, torch.Generator().manual_seed(0), TOKEN, SIMILAR).to_lists()
    assert 900 < sum(TOKEN in row for row in found) < 1100


@pytest.mark.parametrize(("wrong", "remedy"), [
    ({"operators": ["twist"]}, "is called 'twist'; use some of crop, mask"),
    ({"operators": []}, "operators is empty.*name some of crop"),
    ({"threshold": 3}, "short is empty.*up to threshold = 3.*name some operators, or give threshold 0"),
    ({"ratios": {"crop": 0.2}}, r"'mask' has no ratio; give augmentation.ratios.mask, in 0\.\.1"),
    ({"ratios": RATIO | {"mask": 1.5}}, "ratios.mask = 1.5.*give 0 to 1"),
    ({"ratios": RATIO | {"mask": 1.0}, "masked": "padding"}, "leave nothing; give a ratio below 1")])
def test_what_is_no_augmentation_is_refused_for_the_one_reason_that_holds(wrong, remedy):
    with pytest.raises(ValueError, match=remedy):
        Augmentation(**{"ratios": RATIO} | wrong)


def compared_by_hand(train, rng):
    """``similar_by_users`` item by item, from sets."""
    items = range(train.n_items)
    histories = [row[:-1] for row in train.by_user.to_lists()]
    users = [{user for user, row in enumerate(histories) if item in row} for item in items]
    value = {(i, j): sum(1 / math.log1p(len(histories[u])) for u in sorted(users[i] & users[j]))
             / math.sqrt(len(users[i]) * len(users[j])) for i in items for j in items if i != j and users[i] & users[j]}
    best = {i: max((v, -j) for (k, j), v in value.items() if k == i) for i in {i for i, _ in value}}
    known = sorted(best)
    drawn = torch.randint(len(known), (train.n_items,), generator=rng).tolist()
    low, high = min(value.values()), max(value.values())
    return ([-best[i][1] if i in best else known[drawn[i]] for i in items],
            [(best[i][0] - low) / max(high - low, 1e-12) if i in best else 0.0 for i in items])


@pytest.mark.parametrize("cells", [1, 30, 2**20])
@pytest.mark.parametrize("seed", range(4))
def test_items_are_compared_in_blocks_of_any_size_with_the_same_answer(cells, seed, monkeypatch):
    """Few users of equal activity make many ties; among equal ones the first counts."""
    monkeypatch.setattr("recot.batches.augment.CELLS", cells)
    rng = torch.Generator().manual_seed(seed)
    keys = (torch.rand(9, 14, generator=rng).argsort(1)[:, :4] + 14 * torch.arange(9)[:, None]).flatten()
    train = Interactions.from_pairs(keys // 14, keys % 14, 9, 14, times=torch.arange(36))
    found, alike = similar_by_users(train, torch.Generator().manual_seed(1))
    items, values = compared_by_hand(train, torch.Generator().manual_seed(1))
    assert found.tolist() == items and found.dtype == torch.int64
    torch.testing.assert_close(alike, torch.tensor(values, dtype=torch.float64), atol=1e-12, rtol=1e-12)


def test_comparing_items_holds_one_block_of_them_at_a_time(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    keys = (torch.rand(300, 500, generator=rng) < 0.3).flatten().nonzero().flatten()
    train = Interactions.from_pairs(keys // 500, keys % 500, 300, 500, times=torch.arange(len(keys)))
    peaks = []
    for cells in (2**12, 2**20):
        monkeypatch.setattr("recot.batches.augment.CELLS", cells)
        tracemalloc.start()
        similar_by_users(train, torch.Generator())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 0.5 * peaks[1]
