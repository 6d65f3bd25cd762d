"""Users whom a run has never seen, from a file of theirs: what is served, what is left out, and what is refused."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from commands import command, execute

from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.request.errors import RequestError
from recot.restore import restore

STRONG = ("protocol=strong", "protocol.split.valid=10", "protocol.split.test=15", "metrics=[recall_capped@20]",
          "data.noise=0")
"""Without known noise, which is part of a history and stays in a graded ranking."""

SERVING = {
    "a closed form": ("model=ease",), "neighbours": ("model=itemknn",), "an autoencoder": ("model=multvae",),
    "transport": ("model=sinkhorncf",), "a flow": ("model=sinkhorncf_official",),
    "factors folded in": ("model=mf", "model.fold_in=als"), "a sequence": ("model=sasrec", "model.dim=8")}


def folder_of(runs, *words):
    return runs / execute(runs, *STRONG, *words)["key"]


def served_by(runs, *words):
    return restore(folder_of(runs, *words))


@pytest.fixture
def file(tmp_path):
    """What writes a file of histories: user -> items, a later line a later time."""
    def write(name="new.csv", **rows):
        lines = [f"{user},{item},{time}" for user, items in rows.items() for time, item in enumerate(items)]
        (tmp_path / name).write_text("\n".join(["user,item,time", *lines]) + "\n")
        return tmp_path / name
    return write


@pytest.mark.parametrize("words", SERVING.values(), ids=SERVING)
def test_a_history_that_is_typed_gets_the_list_of_the_question_with_that_history(runs, words, file):
    """The file has the histories of the test questions, in the ids of the data; the lists are those that were graded.
    """
    finished = served_by(runs, *words)
    questions = finished.split.test[0]
    ids = finished.dataset.item_ids
    histories = questions.query.history.values.split(questions.query.history.sizes.tolist())
    rows = {f"u{number:03}": ids[history.numpy()].tolist() for number, history in enumerate(histories)}
    found = finished.served(file(**rows), 10)
    graded = finished.lists(10, tested=True)
    np.testing.assert_allclose(found["score"], graded["score"], rtol=1e-5, atol=1e-6)
    near = np.isclose(graded["score"][1:], graded["score"][:-1], rtol=1e-4, atol=1e-6)  # in either order
    sure = ~(np.r_[near, False] | np.r_[False, near] | (graded["place"] == 10))
    assert found["item"][sure].equals(graded["item"][sure]) and sure.mean() > 0.2
    assert found["user"].unique().tolist() == [*rows]


def test_items_that_are_not_known_are_counted_named_and_skipped_and_so_are_users_with_no_other(runs, file, caplog):
    finished = served_by(runs, "model=ease")
    one, two = finished.dataset.item_ids[:2].tolist()
    with caplog.at_level(logging.WARNING):
        found = finished.served(file(ann=[one, 999_999, two], bob=[888_888]), 4)
    assert "2 of 4 rows" in caplog.text and "999999, 888888" in caplog.text
    assert "1 of 2 users" in caplog.text and "bob" in caplog.text
    alone = finished.served(file("again.csv", ann=[one, two]), 4)
    assert found.equals(alone) and {*found["user"]} == {"ann"}


def test_a_file_with_no_item_that_is_known_is_refused_with_what_ids_look_like(runs, file, tmp_path):
    folder = folder_of(runs, "model=ease")
    finished = restore(folder)
    with pytest.raises(RequestError, match=r"holds no item that the run knows; its ids are like \d+, \d+, \d+"):
        finished.served(file(ann=[999_999]), 4)
    ended = command(tmp_path, "recot.recommend", str(folder), "--histories", "new.csv")
    assert ended.returncode == 2 and ended.stderr.splitlines()[-1].startswith("refused: --histories new.csv: new.csv "
                                                                              "holds no item")


def test_a_pair_that_stands_twice_counts_once(runs, file):
    for words in (("model=ease",), ("model=multvae",), ("model=sasrec", "model.dim=8")):
        finished = served_by(runs, *words)
        one, two, three = finished.dataset.item_ids[:3].tolist()
        twice = finished.served(file("twice.csv", ann=[one, two, three, two, one]), 5)
        assert twice.equals(finished.served(file("once.csv", ann=[one, two, three]), 5))


def test_one_who_had_everything_is_shown_nothing_and_one_who_had_almost_everything_the_rest(runs, file):
    finished = served_by(runs, "model=multvae")
    ids = finished.dataset.item_ids.tolist()
    found = finished.served(file(all=ids, most=ids[2:]), 10)
    assert {*found["user"]} == {"most"} and {*found["item"]} == {*ids[:2]} and found["score"].map(np.isfinite).all()


def test_a_list_of_more_than_the_catalogue_has_all_that_is_left(runs, file):
    finished = served_by(runs, "model=ease")
    ids = finished.dataset.item_ids.tolist()
    found = finished.served(file(ann=ids[:3]), 10 * len(ids))
    assert sorted(found["item"]) == ids[3:]


def test_a_model_of_sequences_reads_a_history_by_its_times_and_wants_them(runs, file, tmp_path):
    finished = served_by(runs, "model=sasrec", "model.dim=8")
    items = finished.dataset.item_ids[:6].tolist()
    forth, back = (finished.served(file(ann=order), 5)["score"].tolist() for order in (items, items[::-1]))
    assert forth != back
    (tmp_path / "plain.csv").write_text("user,item\nann," + str(items[0]) + "\n")
    with pytest.raises(RequestError, match="time"):
        finished.served(tmp_path / "plain.csv", 5)


@pytest.mark.parametrize(("words", "said"), [
    (("model=bprmf", "protocol=topk", "metrics=[recall@10]"), "Tables has a vector for each user who trained"),
    (("model=mf", "model.fold_in=transductive"), "MF has a vector for each user who trained")])
def test_a_model_that_looks_users_up_refuses_with_models_that_would_answer(runs, words, said, file):
    words = (*(word for word in STRONG if "protocol=topk" not in words), *words)
    finished = restore(runs / execute(runs, *words)["key"])
    with pytest.raises(RequestError, match=f"{said}.*such as model=vae"):
        finished.served(file(ann=[1]), 5)


def test_what_was_computed_in_16_bits_is_served_without_nan(runs, file):
    finished = served_by(runs, "model=sinkhorncf", "trainer.precision=bf16-mixed", "loss.cost={dtype: float16}")
    assert finished.served(file(ann=finished.dataset.item_ids[:3].tolist()), 20)["score"].map(np.isfinite).all()


@pytest.mark.parametrize("eps", [1e-30, 1e-6])
def test_an_entropy_that_no_kernel_survives_trains_to_finite_answers(runs, eps):
    record = execute(runs, *STRONG, "model=sinkhorncf", f"loss.eps={eps}", "loss.k=100000")
    losses = pd.read_csv(runs / record["key"] / "epochs.csv")["loss"]
    assert record["status"] == "done" and len(losses) and losses.map(np.isfinite).all()


def test_an_item_that_nobody_trained_on_is_no_item_of_the_split(runs):
    finished = served_by(runs, "model=ease")
    whole = finished.split
    assert bool((whole.train.popularity > 0).all())
    questions = Query(torch.tensor([-1]), Ragged.from_lists([[]]))
    assert finished.model.score(questions).shape == (1, whole.train.n_items)


def test_lists_of_strangers_are_a_file_as_others(runs, file, tmp_path):
    folder = folder_of(runs, "model=ease")
    finished = restore(folder)
    histories = file(ann=finished.dataset.item_ids[:3].tolist())
    out = tmp_path / "lists.parquet"
    ended = command(tmp_path, "recot.recommend", str(folder), "--histories", histories.name, "--k", "4",
                    "--out", str(out))
    assert ended.returncode == 0, ended.stderr
    written, told = pd.read_parquet(out), finished.served(histories, 4)  # fitted once each, so to rounding
    assert written["user"].equals(told["user"]) and written["place"].equals(told["place"])
    np.testing.assert_allclose(written["score"], told["score"], rtol=1e-5)
