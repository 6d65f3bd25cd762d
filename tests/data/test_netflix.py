"""Ratings of Netflix, as the prize hands them out and as a public sample has them."""

import os

import pytest

from recot.data.netflix import film_blocks, rated_lists
from recot.record.build import make
from recot.request.compose import composed

BLOCKS = b"7:\n10,5,2005-01-02\n11,3,2005-01-02\n8:\n9:\n10,4,2004-02-29\n"


@pytest.mark.parametrize("text", [BLOCKS, BLOCKS.replace(b"\n", b"\r\n"), BLOCKS.rstrip()])
def test_every_rating_belongs_to_the_film_above_it(text, tmp_path):
    frame = film_blocks(tmp_path / "films.txt", text)
    assert frame[["user", "item", "rating"]].values.tolist() == [[10, 7, 5], [11, 7, 3], [10, 9, 4]]


@pytest.mark.parametrize(("text", "said"), [
    (b"10,5,2005-01-02\n7:\n", "line 1: .* is neither"), (b"7:\n10,5,2005-01-02\n10;5\n", "line 3: b'10;5' is neither"),
    (b"7:\n10,9,2005-01-02\n", "line 2: .* is neither"), (b"7:\n10,five,2005-01-02\n", "line 2")])
def test_a_line_of_another_form_is_named(text, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        film_blocks(tmp_path / "films.txt", text)


def test_a_line_of_the_sample_is_a_user(tmp_path):
    frame = rated_lists(tmp_path / "lists", b"3:5 4:1\n\n7:2\n")
    assert frame.values.tolist() == [[0, 3, 5], [0, 4, 1], [2, 7, 2]]
    with pytest.raises(ValueError, match="line 2: b'3-5' is no list of item:rating"):
        rated_lists(tmp_path / "lists", b"3:5\n3-5\n")


@pytest.mark.skipif(not os.environ.get("RECOT_DATA"), reason="needs real data in RECOT_DATA")
def test_the_sample_has_the_counts_that_independent_code_found(tmp_path):
    dataset = make(composed("data=netflix_sample", f"paths.cache={tmp_path}")[0]["data"]).load()
    assert (len(dataset.user_ids), len(dataset.item_ids), len(dataset.interactions)) == (8118, 11346, 243059)
