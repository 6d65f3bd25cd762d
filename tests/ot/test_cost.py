"""Costs of items: the formula by hand, and the list against the square."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from recot.ot import cost
from recot.ot.cost import dense, listed


def pairs(rng, n_users=30, n_items=12, share=0.3):
    users, items = (torch.rand(n_users, n_items - 1, generator=rng) < share).nonzero(as_tuple=True)
    return users, items, n_users, n_items  # nobody has the last item


def by_hand(users, items, n_users, n_items, shrink):
    x = torch.zeros(n_users, n_items, dtype=torch.float64)
    x[users, items] = 1
    norm = x.sum(0).sqrt()
    similar = (x.T @ x / (torch.outer(norm, norm) + shrink)).nan_to_num(0)
    return 1 - similar.fill_diagonal_(1)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.float16, 5e-4)])
@pytest.mark.parametrize("shrink", [0.0, 50.0])
def test_the_cost_is_one_minus_the_shrunk_cosine_and_nothing_to_itself(rng, monkeypatch, shrink, dtype, close):
    given = pairs(rng)
    monkeypatch.setattr(cost, "ENTRIES", 60)  # five items at a time
    found = dense(*given, shrink, dtype)
    torch.testing.assert_close(found.whole().double(), by_hand(*given, shrink), atol=close, rtol=0)
    assert found.similarity.dtype == dtype and torch.equal(found.whole(), found.whole().T)
    assert found.whole()[11].tolist() == [1.0] * 11 + [0.0]  # nobody has it


def test_of_two_users_one_of_whom_has_both_items():
    """{a, b} and {b}: the cosine is .70711, and .41421 shrunk by one."""
    given = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 2
    for shrink, similar in ((0.0, 0.70711), (1.0, 0.41421)):
        assert 1 - float(dense(*given, shrink, torch.float32).whole()[0, 1]) == pytest.approx(similar, abs=1e-5)


def test_small_similarities_keep_three_digits_in_16_bits(rng):
    found = dense(*pairs(rng), 2000.0, torch.float16)
    exact = 1 - by_hand(*pairs(rng.manual_seed(0)), 2000.0)
    small = (exact > 0) & (exact < 0.01)
    assert small.sum() > 50
    torch.testing.assert_close(found.similarity.double()[small], exact[small], atol=0, rtol=5e-4)


@pytest.mark.parametrize("build", [lambda given: dense(*given, 3.0, torch.float16),
                                   lambda given: listed(*given, 3.0, torch.float16, 4)], ids=["dense", "listed"])
@pytest.mark.parametrize("long", [False, True])
def test_what_is_gathered_are_the_cells_of_the_square(rng, build, long):
    found = build(pairs(rng))
    if long:
        found.index = torch.int64  # as of more than 46,340 items
    items, owners = torch.randint(12, (20,), generator=rng), torch.randint(3, (20,), generator=rng)
    columns = torch.randint(12, (3, 5), generator=rng)
    gathered = found.gather(items, columns, owners)
    assert gathered.dtype == torch.float32 and torch.equal(gathered, found.whole()[items[:, None], columns[owners]])


@pytest.mark.parametrize("topn", [1, 3, 11, 50])
def test_a_list_holds_the_most_similar_of_either_item_and_calls_all_others_unlike(rng, topn):
    given = pairs(rng, n_users=3000)  # so many that no two similarities of an item are equal
    whole, found = dense(*given, 0.0, torch.float32), listed(*given, 0.0, torch.float32, topn).whole()
    square, others = whole.whole(), whole.similarity.clone().fill_diagonal_(-1)
    assert all(len(row.unique()) == 12 for row in others[:11])
    edge = others.sort(1, descending=True).values[:, min(topn, 11) - 1]
    near = (others >= edge[:, None]) & (others > 0)
    near = near | near.T | torch.eye(12, dtype=torch.bool)
    torch.testing.assert_close(found, torch.where(near, square, 1.0))
    assert (topn >= 11) == torch.equal(found, square)


SQUARE = """
import re, torch
from recot.ot.cost import dense
users = torch.arange(2000).repeat_interleave(50)
found = dense(users, (users * 7919 + torch.arange(50).repeat(2000) * 389) % 20_000, 2000, 20_000, 0.0, torch.float16)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1], tuple(found.similarity.shape))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_twenty_thousand_items_take_less_than_two_gigabytes_with_torch_itself():
    made = subprocess.run([sys.executable, "-c", SQUARE], capture_output=True, text=True, check=True).stdout
    assert int(made.split()[0]) < 2_000_000 and "(20000, 20000)" in made


def test_an_item_is_never_less_like_itself_than_others_are_through_rounding(rng):
    users = torch.arange(3000).repeat_interleave(2)
    found = dense(users, torch.tensor([0, 1]).repeat(3000), 3000, 2, 0.0, torch.float32).whole()
    assert np.all(found.numpy() >= 0)
