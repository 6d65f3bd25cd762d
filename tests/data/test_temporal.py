"""Points in time: what lies after them never trains, and the questions are those that hand computation gives."""

import logging

import numpy as np
import pytest
import torch

from recot.data.interactions import Interactions
from recot.data.questions import validate
from recot.data.temporal import temporal
from recot.record.build import ask_again, ask_questions, make
from recot.request.compose import composed
from recot.request.errors import RequestError

DAY = 86_400
ROWS = [  # user, item, day from 2024-01-01 on
    (0, 0, 0), (1, 1, 1), (0, 1, 2), (1, 0, 3), (2, 2, 4),
    (0, 2, 5), (2, 0, 5),
    (1, 2, 6), (3, 0, 6), (0, 3, 7)]
START = 1_704_067_200


def data(rows=ROWS, n_users=4, n_items=4, **columns):
    users, items, days = torch.tensor(rows).unbind(1)
    return Interactions.from_pairs(users, items, n_users, n_items, times=START + days * DAY, **columns)


def lists(split, part):
    return list(zip(part.query.users.tolist(), part.query.history.to_lists(), part.seen.to_lists(),
                    part.targets.to_lists(), strict=True))


def expected(split):
    assert split.items.tolist() == [0, 1, 2]
    assert split.train.by_user.to_lists() == [[0, 1], [1, 0], [2], []]
    assert lists(split, split.valid) == [(0, [0, 1], [0, 1], [2]), (2, [2], [2], [0])]
    assert lists(split, split.test[0]) == [(1, [1, 0], [1, 0], [2])]
    assert (split.valid.left_out, split.test[0].left_out) == (0, 2)  # user 3 is new, and so is item 3 of user 0


@pytest.mark.parametrize("points", [
    {"valid_from": "2024-01-06", "test_from": "2024-01-07"},
    {"valid_from": START + 5 * DAY, "test_from": START + 6 * DAY},
    {"valid_from": "2024-01-05T12:00:00Z", "test_from": "2024-01-07T01:00:00+01:00"},
    {"valid": 0.2, "test": 0.3}, {"valid": 0.1, "test": 0.29}, {"valid": 0.2, "test_from": "2024-01-07"}])
def test_what_is_known_and_asked_is_what_the_points_say(points, caplog):
    with caplog.at_level(logging.INFO):
        split = temporal(data(), **points)
    validate(split)
    expected(split)
    assert caplog.messages[-1] == ("2 of 3 pairs of test have a user or an item without a training pair and are left "
                                   "out; 2 of 3 users are not asked about for that")
    assert split.fingerprint == "a7e6957c967415e3"


def test_a_share_begins_with_all_pairs_of_its_time():
    rows = [(0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 2), (2, 0, 0), (2, 1, 2)]
    split = temporal(data(rows, 3, 2), valid=0.2, test=0.2)  # one of six each, and two share the last day
    assert len(split.train) == 3 and lists(split, split.valid) == [(0, [0], [0], [1])]
    assert lists(split, split.test[0]) == [(1, [1], [1], [0]), (2, [0], [0], [1])]


@pytest.mark.parametrize("seed", range(10))
def test_no_pair_after_a_point_trains_and_none_before_it_is_asked(seed):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(20 * 15)[:150]
    rows = list(zip((cells // 15).tolist(), (cells % 15).tolist(), rng.integers(0, 60, 150).tolist(), strict=True))
    when = {(user, item): START + day * DAY for user, item, day in rows}
    split = temporal(data(rows, 20, 15), valid=0.1 + 0.02 * seed, test=0.2)
    validate(split)
    items = range(15) if split.items is None else split.items.tolist()

    def moments(users, values):
        return [when[user, items[item]] for user, item in zip(users.tolist(), values.tolist(), strict=True)]

    trained = moments(split.train.users, split.train.items)
    asked = {part.name: moments(part.query.users[part.targets.rows], part.targets.values)
             for part in (split.valid, *split.test)}
    shown = moments(split.test[0].query.users[split.test[0].query.history.rows], split.test[0].query.history.values)
    assert max(trained) < min(asked["valid"]) and max(asked["valid"]) < min(asked["test"])
    assert max(shown) < min(asked["test"])
    assert len(trained) == sum(moment < min(when[pair] for pair in when if when[pair] > max(trained)) for moment in
                               when.values())


def test_pairs_known_to_be_noise_are_no_targets_and_train_only_before_the_points():
    noisy = torch.tensor([row in ((0, 1, 2), (2, 0, 5), (1, 2, 6)) for row in ROWS])
    rows = [*ROWS, (1, 3, 4), (2, 3, 7)]
    split = temporal(data(rows, noisy=torch.cat([noisy, torch.zeros(2, dtype=torch.bool)])), valid_from="2024-01-06",
                     test_from="2024-01-07")
    validate(split)
    assert split.train.noisy.sum() == 1 and lists(split, split.valid) == [(0, [0, 1], [0], [2])]
    assert lists(split, split.test[0]) == [(0, [0, 1, 2], [0, 2], [3]), (2, [2, 0], [2], [3])]


@pytest.mark.parametrize(("points", "remedy"), [
    ({"valid": 0.0}, "are shares of all pairs; give more than 0 each"),
    ({"valid": 0.5, "test": 0.5}, "less than 1 together"),
    ({"valid_from": "2024-01-07", "test_from": "2024-01-06"},
     r"valid_from = 2024-01-07T00:00:00Z comes after test_from = 2024-01-06T00:00:00Z; give the earlier date"),
    ({"valid_from": "2024-01-06", "test_from": "2025-01-06"}, "leaves no pair to test: .* between 2024-01-01T00:00:00Z "
                                                             "and 2024-01-08T00:00:00Z, and the points at"),
    ({"valid_from": "2023-01-06", "test_from": "2024-01-06"}, "leaves no pair to train"),
    ({"valid_from": "2024-01-06", "test_from": "2024-01-06"}, "leaves no pair to valid"),
    ({"valid": 0.1, "test_from": "2023-01-06"}, "leaves no pair to train"),
    ({"test_from": "soon"}, "test_from = 'soon' is no date of ISO 8601 and no number of seconds")])
def test_points_that_are_none_or_leave_nothing_are_refused(points, remedy):
    with pytest.raises(ValueError, match=remedy):
        temporal(data(), **points)


def test_one_time_for_all_leaves_nothing_to_train_on():
    with pytest.raises(ValueError, match="leaves no pair to train"):
        temporal(data([(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)], 2, 2))


def test_data_without_times_are_refused():
    with pytest.raises(ValueError, match=r"these data have no times; name their column \(data\.time"):
        temporal(Interactions.from_pairs(torch.arange(3), torch.arange(3), 3, 3))


def test_a_model_that_is_refitted_reads_no_order():
    with pytest.raises(RequestError, match="use protocol.refit=false"):
        composed("protocol=time", "model=sasrec", "protocol.refit=true")


def test_a_refit_asks_the_same_questions_although_items_are_left_out(tmp_path):
    text = "user,item,at\n" + "".join(f"u{user},i{item},{START + day * DAY}\n" for user, item, day in ROWS)
    (tmp_path / "log.csv").write_text(text)
    config = composed("data=csv", f"data.path={tmp_path}/log.csv", "data.time=at", "protocol=time", "model=itemknn",
                      "protocol.refit=true", "protocol.split.valid=0.2", "protocol.split.test=0.3",
                      f"paths.cache={tmp_path}")[0]
    dataset = make(config["data"]).load()
    split, again = ask_questions(config, dataset), ask_again(config, dataset)
    expected(split)
    assert lists(again, again.test[0]) == [(1, [0, 1], [0, 1], [2])] and len(again.train) == 7


@pytest.mark.parametrize("word", ["2024-01-06", "'2024-01-06T00:00:00'", "2024-01-06T00:00:00Z", "1704499200"])
def test_a_date_is_typed_as_it_is_written(word):
    split = composed("protocol=time", f"protocol.split.valid_from={word}")[0]["protocol"]["split"]
    assert make(split).keywords["valid_from"] in (word.strip("'"), int(word) if word.isdigit() else None)
