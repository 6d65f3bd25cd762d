"""A model of each kind over a user's own files, split by what they say or by date, with users and items that nobody
trains on: it runs, its record counts them, and it is brought back.
"""

import json

import numpy as np
import pytest

from recot.recommend import answer, arguments
from recot.record import experiment
from recot.request.compose import composed
from recot.request.errors import RequestError
from recot.restore import restore

KINDS = {"pairs": "bprmf", "a graph": "lightgcn", "rows": "multvae", "rows with users": "cdae", "sequences": "sasrec",
         "closed": "ease", "neighbours": "itemknn", "order": "markov"}
DAY = 86_400


def rows(n_users=60, n_items=48, each=11, groups=4):
    """User, item and second of pairs within groups of users and items, each user on days that follow each other."""
    rng = np.random.default_rng(0)
    found = []
    for user in range(n_users):
        own = np.arange(user % groups, n_items, groups)
        chosen = np.concatenate([rng.permutation(own)[:each - 2], rng.permutation(n_items)[:2]])
        found += [(f"u{user}", f"i{item}", (place * 97 + user) * DAY)
                  for place, item in enumerate(dict.fromkeys(chosen))]
    return found


STRANGERS = [("new", "i0", 9_999 * DAY), ("new", "i1", 9_999 * DAY), ("u0", "i_new", 9_999 * DAY)]


def written(file, lines):
    file.write_text("user,item,at\n" + "".join(f"{user},{item},{at}\n" for user, item, at in lines))
    return str(file)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words of a command for each protocol."""
    folder = tmp_path_factory.mktemp("files")
    whole = rows()
    held = np.random.default_rng(1).random(len(whole)) < 0.2
    train, test = ([row for row, out in zip(whole, held, strict=True) if out == part] for part in (False, True))
    log = written(folder / "log.csv", whole + STRANGERS)
    files = [f"data.path={written(folder / 'train.csv', train)}",
             f"data.test={written(folder / 'test.csv', test + STRANGERS)}"]
    return {"given": files, "time": [f"data.path={log}", "protocol.split.test=0.2"]}


def ran(tmp_path, protocol, words, *more):
    said = ("data=csv", "data.time=at", f"protocol={protocol}", *words[protocol], *more)
    config, choices = composed(*said)
    config["paths"] = {"runs": str(tmp_path / "runs"), "cache": str(tmp_path / "cache")}
    config["data"]["cache"] = str(tmp_path / "cache")
    return experiment.run(config, choices, "python -m recot.run " + " ".join(said))


@pytest.mark.parametrize("protocol", ["given", "time"])
@pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)
def test_a_model_of_each_kind_runs_and_is_brought_back(tmp_path, words, protocol, model):
    small = [f"model={model}"]
    if model in ("bprmf", "lightgcn", "multvae", "cdae", "sasrec"):
        small += ["trainer=smoke", "trainer.max_epochs=2", "loss.batch_size=64"]
    record = ran(tmp_path, protocol, words, *small)
    assert record["status"] == "done" and record["sizes"]["items"] == 48 and record["sizes"]["test_left_out"] >= 1
    finished = restore(tmp_path / "runs" / record["key"], [f"data.cache={tmp_path}/cache"])
    assert "i_new" not in finished.dataset.item_ids
    graded = finished.lists(5, tested=True)
    assert graded["user"].nunique() == record["sizes"]["test_users"] and "new" not in set(graded["user"])


def test_a_user_whom_a_model_has_no_vector_for_gets_no_list(tmp_path, words, caplog):
    record = ran(tmp_path, "given", words, "model=bprmf", "trainer=smoke", "trainer.max_epochs=1")
    finished = restore(tmp_path / "runs" / record["key"], [f"data.cache={tmp_path}/cache"])
    assert "new" not in set(finished.lists(3)["user"])
    assert "1 of 61 users have no training pair and get no list: " in caplog.text
    with pytest.raises(RequestError, match="user new has no training pair, and .* leave that user out, or train"):
        finished.lists(3, finished.users(["new"]))


def test_a_user_who_only_was_tested_is_served_from_the_history_where_a_model_reads_it(tmp_path, words):
    record = ran(tmp_path, "given", words, "model=itemknn")
    finished = restore(tmp_path / "runs" / record["key"], [f"data.cache={tmp_path}/cache"])
    lists = finished.lists(3, finished.users(["new"]))
    assert len(lists) == 3 and not {"i0", "i1"} & {*lists["item"]}


def test_histories_are_read_in_the_unit_of_the_data(tmp_path):
    late = [(user, item, (20_000 * DAY + at) * 1000) for user, item, at in rows()]
    said = {"time": [f"data.path={written(tmp_path / 'log.csv', late)}", "data.time_unit=ms"]}
    record = ran(tmp_path, "time", said, "model=markov")
    finished = restore(tmp_path / "runs" / record["key"], [f"data.cache={tmp_path}/cache"])
    assert 20_000 * DAY <= int(finished.dataset.interactions.times.min()) < 40_000 * DAY
    new = written(tmp_path / "new.csv", [("ann", "i1", late[0][2]), ("ann", "i5", late[0][2] + 1000)])
    assert len(finished.served(new, 3)) == 3


@pytest.mark.parametrize("protocol", ["given", "time"])
def test_a_refit_trains_on_what_validated_and_asks_the_same(tmp_path, words, protocol):
    first = ran(tmp_path, protocol, words, "model=ease")
    again = ran(tmp_path, protocol, words, "model=ease", "protocol.refit=true")
    assert first["sizes"] == again["sizes"] and first["split"] == again["split"] and first["valid"] == again["valid"]
    assert first["test"] != again["test"] and again["sizes"]["test_left_out"] >= 1
    finished = restore(tmp_path / "runs" / again["key"], [f"data.cache={tmp_path}/cache"])
    assert len(finished.split.train) == first["sizes"]["train"] + first["sizes"]["valid_targets"]
    assert len(finished.split.test[0].targets.values) == first["sizes"]["test_targets"]


def test_places_of_several_files_are_kept_and_believed(tmp_path, words, capsys):
    lines = rows()
    pieces = [written(tmp_path / f"{name}.csv", part) for name, part in (("a", lines[:300]), ("b", lines[300:]))]
    said = {"time": [f"data.path=[{','.join(pieces)}]"]}
    record = ran(tmp_path, "time", said, "model=popularity")
    assert record["places"]["data.path"] == pieces and "path" not in record["config"]["data"]
    moved = ran(tmp_path, "time", {"time": [f"data.path=[{','.join(pieces[::-1])}]"]}, "model=popularity")
    assert moved["key"] == record["key"] and not moved["fresh"]
    answer(arguments().parse_args([str(tmp_path / "runs" / record["key"]), "--k", "1"]))
    assert capsys.readouterr().out.count("\n") == 61
    (tmp_path / "b.csv").unlink()
    with pytest.raises(FileNotFoundError, match="correct data.path"):
        restore(tmp_path / "runs" / record["key"])


def test_other_parts_of_the_same_pairs_are_another_run(tmp_path, words):
    first = ran(tmp_path, "given", words, "model=popularity")
    path, test = (word.partition("=")[2] for word in words["given"])
    other = ran(tmp_path, "given", {"given": [f"data.path={test}", f"data.test={path}"]}, "model=popularity")
    assert first["key"] != other["key"] and first["split"] != other["split"]
    assert "test" not in first["config"]["data"] and json.dumps(first["places"]).count("test.csv") == 1


@pytest.mark.parametrize(("protocol", "more"), [
    ("strong", ("protocol.split.valid=0.2", "protocol.split.test=0.2")), ("sequence", ()), ("topk", ()),
    ("denoise", ())])
def test_the_other_protocols_take_a_log_of_ones_own(tmp_path, words, protocol, more):
    record = ran(tmp_path, protocol, {protocol: words["time"][:1]}, "model=itemknn", *more)
    assert record["status"] == "done" and record["test"] and record["sizes"]["test_users"] > 10
    assert len(restore(tmp_path / "runs" / record["key"], [f"data.cache={tmp_path}/cache"]).lists(2))


@pytest.mark.parametrize("times", ["data.time=at", "data.time=null"])
def test_domains_are_those_of_a_column_of_a_log_of_ones_own(tmp_path, times):
    lines = [(user, f"{'ab'[int(item[1:]) // 24]}{item}", at) for user, item, at in rows()]
    text = "".join(f"{user},{item},{at},{'Films' if item[0] == 'a' else 'Books'}\n" for user, item, at in lines)
    (tmp_path / "log.csv").write_text("user,item,at,kind\n" + text)
    said = {"domains": [f"data.path={tmp_path}/log.csv", "data.domain=kind", "protocol.split.candidates=4", times]}
    record = ran(tmp_path, "domains", said, "model=itemknn")
    assert {"test", "books", "films", "books_full", "films_full"} <= {*record}
    finished = restore(tmp_path / "runs" / record["key"], [f"data.cache={tmp_path}/cache"])
    assert {item[0] for item in finished.lists(2, domain="Films")["item"]} == {"a"}


