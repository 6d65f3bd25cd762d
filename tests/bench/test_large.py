"""The costs of large catalogues are measured on pairs as Interactions want them, for each method of the page."""

from pathlib import Path

import pytest
import torch

from recot.bench import large
from recot.data.interactions import Interactions

SIZE = large.Size(users=60, items=40, pairs=600, width=8, asked=20, steps=2)
PAGE = (Path(__file__).parents[2] / "LARGE.md").read_text(encoding="utf-8")


def test_drawn_pairs_are_distinct_and_in_order():
    found = large.drawn(SIZE)
    again = Interactions.from_pairs(found.users, found.items, SIZE.users, SIZE.items)
    assert torch.equal(found.users, again.users) and torch.equal(found.items, again.items)
    assert len(found) > SIZE.pairs // 2 and found.popularity[0] > 3 * found.popularity[-1]


def test_the_last_item_of_each_user_is_asked_for_and_the_others_are_not_ranked():
    train = large.drawn(SIZE)
    asked = large.questions(train, SIZE.asked)
    rows = train.by_user.take(asked.query.users).to_lists()
    assert len(rows) == SIZE.asked
    assert asked.targets.to_lists() == [row[-1:] for row in rows]
    assert asked.seen.to_lists() == [row[:-1] for row in rows]


@pytest.mark.parametrize("name", large.methods(SIZE))
def test_each_method_is_measured_and_on_the_page(name):
    cost = large.methods(SIZE)[name](large.drawn(SIZE), SIZE)
    assert cost.start + cost.step > 0 and (cost.epoch > 0) == (cost.step > 0)
    assert f"| {name} | " in PAGE


def test_a_row_has_a_cell_for_each_column():
    assert large.line("ease", SIZE, large.Cost(123.4, 0.0, 1.25, 0.012)) == (
        "| ease | 60 | 40 | 600 | 8 | 123 |  | 1.2 | 0.012 |  |")
