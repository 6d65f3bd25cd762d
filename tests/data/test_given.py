"""Data that bring their own test pairs: what is known, what is asked, who is left out, and what is refused."""

import logging
import os

import pytest
import torch

from recot.data.given import given
from recot.data.interactions import Interactions
from recot.data.prepare import Csv
from recot.data.questions import validate
from recot.data.split import joined
from recot.record.build import ask_again, ask_questions, make
from recot.request.compose import composed
from recot.request.errors import RequestError

PAIRS = [  # user, item, part: user 3 and item 5 have no training pair
    (0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 2),
    (1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 5, 1), (1, 0, 2), (1, 4, 2),
    (2, 4, 0), (2, 5, 2),
    (3, 0, 1), (3, 1, 2)]


def data(rows=PAIRS, n_users=4, n_items=6, **columns):
    users, items, parts = torch.tensor(rows).unbind(1)
    return Interactions.from_pairs(users, items, n_users, n_items, parts=parts.to(torch.int8), **columns)


def raw(split, rows):
    """Rows of items by their numbers in the data."""
    return [[item if split.items is None else int(split.items[item]) for item in row] for row in rows.to_lists()]


def lists(split, part):
    return list(zip(part.query.users.tolist(), raw(split, part.query.history), raw(split, part.seen),
                    raw(split, part.targets), strict=True))


def test_what_is_known_and_asked_is_what_the_parts_say(caplog):
    with caplog.at_level(logging.INFO):
        split = given(data())
    validate(split)
    assert split.items.tolist() == [0, 1, 2, 3, 4] and split.train.n_users == 4
    assert split.train.by_user.to_lists() == [[0, 1], [1, 2, 3], [4], []]
    assert lists(split, split.valid) == [(0, [0, 1], [0, 1], [2])]
    assert lists(split, split.test[0]) == [(0, [0, 1, 2], [0, 1, 2], [3]), (1, [1, 2, 3], [1, 2, 3], [0, 4])]
    assert (split.valid.left_out, split.test[0].left_out) == (2, 2)  # users 1 and 3; users 2 and 3
    assert caplog.messages == [
        "2 of 3 pairs of valid have a user or an item without a training pair and are left out; 2 of 3 users are not "
        "asked about for that",
        "2 of 5 pairs of test have a user or an item without a training pair and are left out; 2 of 4 users are not "
        "asked about for that"]
    assert split.fingerprint == "6c997351e7f60103"


def test_validation_pairs_are_dealt_out_of_the_training_pairs_where_there_are_none():
    rows = [(user, item, 0) for user, size in enumerate((1, 2, 9, 10, 25)) for item in range(size)]
    rows += [(user, 29, 2) for user in range(5)] + [(0, 3, 2)]
    split = given(data(rows, 5, 30))
    validate(split)
    assert split.valid.targets.lengths.tolist() == [1, 1, 1, 2]  # floor of a tenth, at least one of two or more
    assert split.valid.query.users.tolist() == [1, 2, 3, 4]
    assert lists(split, split.test[0]) == [(0, [0], [0], [3])] and split.test[0].left_out == 4  # nobody trained on 29
    whole = [sorted(known + held) for known, held in zip(raw(split, split.valid.query.history),
                                                         raw(split, split.valid.targets), strict=True)]
    assert whole == [list(range(size)) for size in (2, 9, 10, 25)]
    assert split.fingerprint == "54824e86194ff86a"


def test_the_history_at_test_time_holds_what_was_dealt_out():
    rows = [(user, item, 2 * (item == 9)) for user in range(4) for item in range(9 + (user > 0))] + [(0, 9, 0)]
    split = given(data(rows, 4, 10), valid=0.3)
    assert split.valid.targets.lengths.tolist() == [3, 2, 2, 2]
    assert lists(split, split.test[0]) == [(user, [*range(9)], [*range(9)], [9]) for user in (1, 2, 3)]


def test_the_dealing_depends_on_the_set_of_pairs_and_the_seed_alone():
    rows = [(user, item, int(2 * (item > 7))) for user in range(5) for item in range(10)] + [(5, 8, 0), (5, 9, 0)]
    times = torch.arange(len(rows))
    first = given(data(rows, 6, 10))
    assert first.fingerprint == given(data(rows[::-1], 6, 10)).fingerprint
    assert first.fingerprint != given(data(rows, 6, 10), split_seed=1).fingerprint
    timed = given(data(rows, 6, 10, times=times.flip(0)))
    assert [sorted(row) for row in timed.valid.targets.to_lists()] == first.valid.targets.to_lists()


def test_pairs_known_to_be_noise_are_no_targets_and_stay_in_the_ranking():
    noisy = torch.zeros(len(PAIRS), dtype=torch.bool)
    noisy[[1, 5, 9]] = True  # (0, 1) and (1, 2) train, (1, 4) is tested
    split = given(data(noisy=noisy))
    validate(split)
    assert lists(split, split.test[0])[1] == (1, [1, 2, 3], [1, 3], [0])
    assert lists(split, split.valid) == [(0, [0, 1], [0], [2])]
    assert split.train.noisy.tolist() == [False, True, False, True, False, False]


def test_a_refit_trains_on_both_and_asks_the_same():
    split = given(data())
    again = joined(split)
    assert again.train.by_user.to_lists() == [[0, 1, 2], [1, 2, 3], [4], []]
    assert lists(again, again.test[0]) == lists(split, split.test[0]) and not len(again.valid)


@pytest.mark.parametrize(("rows", "valid", "remedy"), [
    ([(0, 0, 0), (0, 1, 2)], 0.1, "none of the 0 pairs of valid has a user and an item that trained"),
    ([(0, 0, 0), (0, 1, 0), (1, 0, 2)], 0.1, "none of the 1 pairs of test has .*see whether ids are written alike"),
    (PAIRS, 0.0, "valid = 0.0 is a share of each user's training pairs; give more than 0"),
    (PAIRS, 1.0, "valid = 1.0 is a share")])
def test_what_leaves_nothing_to_ask_is_refused(rows, valid, remedy):
    with pytest.raises(ValueError, match=remedy):
        given(data(rows), valid=valid)


def test_data_without_parts_are_refused():
    with pytest.raises(ValueError, match=r"these come in one; name a file with data\.test, or use protocol=topk"):
        given(Interactions.from_pairs(torch.arange(3), torch.arange(3), 3, 3))


# -- as it is typed ----------------------------------------------------------------------------------------------------

def typed(tmp_path, *words, **texts):
    """The config of a command over files of these names."""
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text("user,item,at\n" + text)
    files = [f"data.{'path' if name == 'train' else name}={tmp_path}/{name}.csv" for name in texts]
    return composed("data=csv", "protocol=given", "model=itemknn", f"paths.cache={tmp_path}/cache", *files, *words)[0]


TRAIN = "a,x,5\na,y,6\na,z,7\nb,x,1\nb,y,2\nc,z,3\nc,x,4\n"


def questions(config):
    dataset = make(config["data"]).load()
    return dataset, ask_questions(config, dataset)


def test_files_of_ones_own_are_what_is_asked(tmp_path):
    dataset, split = questions(typed(tmp_path, train=TRAIN, valid="b,z,9\n", test="c,y,9\nd,x,9\na,new,9\n"))
    assert [dataset.user_ids[user] for user in split.test[0].query.users.tolist()] == ["c"]
    assert split.test[0].left_out == 2
    names = dataset.of(split.items).item_ids.tolist()
    assert names == ["x", "y", "z"]
    assert [[names[item] for item in part.targets.values.tolist()] for part in (split.valid, split.test[0])] == [
        ["z"], ["y"]]


def test_a_refit_keeps_the_items_of_the_first_fit(tmp_path):
    config = typed(tmp_path, "protocol.refit=true", train=TRAIN, valid="b,z,9\n", test="c,y,9\nd,x,9\na,new,9\n")
    dataset, split = questions(config)
    again = ask_again(config, dataset)
    assert again.train.n_items == split.train.n_items == 3 and torch.equal(again.items, split.items)
    assert len(again.train) == len(split.train) + 1 and len(again.test[0]) == 1


def test_pairs_of_two_parts_are_refused_with_the_files_and_an_example(tmp_path):
    config = typed(tmp_path, train=TRAIN, valid="b,z,9\n", test="c,y,9\na,y,9\nb,x,9\n")
    with pytest.raises(ValueError, match=r"2 pairs of csv stand in two of its parts, for example user 'a' with item "
                                         r"'y' in train\.csv and in test\.csv; .* take such rows out of test\.csv"):
        questions(config)


@pytest.mark.parametrize(("words", "remedy"), [
    (["data=csv", "data.path=a.csv", "data.test=b.csv"],
     "data.test says what is tested, and protocol=topk would deal all pairs anew; use protocol=given, or name"),
    (["data=gowalla_public", "protocol=denoise"], "use protocol=given, or leave that out with data.parts=null"),
    (["data=csv", "data.path=a.csv", "protocol=given"], "these have none; name them with data.test"),
    (["data=gowalla", "protocol=given"], "these have none; name them with data.parts"),
    (["protocol=given"], "data=planted has none; use protocol=topk, or files of your own"),
    (["data=gowalla_public", "model=sasrec", "protocol.refit=true"], "use protocol.refit=false")])
def test_a_protocol_and_data_that_do_not_fit_are_refused_before_anything_is_read(words, remedy):
    with pytest.raises(RequestError, match=remedy):
        composed(*words)


def test_no_file_and_validation_pairs_without_test_pairs_are_refused():
    for path in ("", []):
        with pytest.raises(ValueError, match="names no file; give it like data.path=my.csv"):
            Csv(path)
    with pytest.raises(ValueError, match="nothing is tested; give data.test as well"):
        Csv("a.csv", valid="b.csv")


@pytest.mark.skipif("RECOT_DATA" not in os.environ, reason="needs the raw files")
def test_gowalla_is_split_as_in_public(tmp_path):
    config = composed("data=gowalla_public", f"paths.cache={tmp_path}")[0]
    dataset, split = questions(config)
    assert (dataset.interactions.parts == 0).sum() == 810_128 and (dataset.interactions.parts == 2).sum() == 217_242
    assert split.items is None and (split.train.n_users, split.train.n_items) == (29_858, 40_981)
    assert len(split.train) + len(split.valid.targets.values) == 810_128
    assert len(split.test[0].targets.values) == 217_242 and split.test[0].left_out == 0
    assert len(split.test[0].seen.values) == 810_128 and len(split.test[0]) == 29_858
    assert split.fingerprint == "42d624df08c5f1f0"
