"""Prepared data come back as they were, or not at all."""

import resource

import numpy as np
import pytest
import torch

from recot.data.dataset import Dataset, load, write
from recot.data.interactions import Interactions


def example(n_pairs, ids=None, timed=True):
    users, items = torch.arange(n_pairs) // 100, torch.arange(n_pairs) % 100
    n_users = int(users.max()) + 1
    times = torch.randint(0, 10**9, (n_pairs,), generator=torch.Generator().manual_seed(1)) if timed else None
    interactions = Interactions.from_pairs(users, items, n_users, 100, times=times)
    ids = np.arange(n_users) if ids is None else ids
    return Dataset(interactions, ids, np.arange(100) + 2**40, {"for a reason": 7})


def same(one, other):
    left, right = one.interactions, other.interactions
    assert (left.n_users, left.n_items, one.dropped) == (right.n_users, right.n_items, other.dropped)
    assert (one.user_ids.tolist(), one.item_ids.tolist()) == (other.user_ids.tolist(), other.item_ids.tolist())
    for name in ("users", "items", "weights", "times"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), atol=0, rtol=0)


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_written_is_loaded(tmp_path, timed):
    dataset = example(250, np.array(["001", "1", "\u00e9"], dtype=object), timed)
    write(dataset, tmp_path / "set")
    same(load(tmp_path / "set"), dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_row_8_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="set cannot be written .*free some space, or name another place with RECOT"):
            write(example(100_000), tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("timed", [True, False])
def test_damaged_data_are_refused(tmp_path, timed):
    file = tmp_path / "set"
    write(example(250, timed=timed), file)
    whole = file.read_bytes()
    places = [0, 25, 70, 90, *range(100, len(whole), len(whole) // 30), len(whole) - 1]
    for damaged in (b"", whole[:-5], whole + b"x", *(
            whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:] for at in places)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"prepared data in .*set are damaged \(.*\); they have to be made again"):
            load(file)


def test_there_may_be_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "set")
