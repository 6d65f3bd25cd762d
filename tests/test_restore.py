"""A finished run serves: the lists that were graded, and those of today."""

import csv
import io
import json
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from commands import command, edit, environment, folder_of
from hydra.errors import HydraException
from small import briefly

from recot import recommend
from recot.data import fetch
from recot.data.interactions import Ragged
from recot.data.questions import Query
from recot.record import build, experiment, store
from recot.request.compose import composed, explain
from recot.request.errors import RequestError
from recot.restore import restore

RUNS = {
    "a network": ("model=bprmf",),
    "transport": ("model=sclrec",),
    "a graph whose pairs were relabelled": ("model=lightgcn", "denoiser=iterative", "denoiser.a=0.5"),
    "an autoencoder that was refitted": ("model=cdae", "protocol=denoise", "denoiser=prorec",
                                         "denoiser.score_map=sigmoid"),
    "sequences": ("model=sasrec", "protocol=sequence"),
    "a closed form": ("model=itemknn",),
    "a closed form that was relabelled and refitted": ("model=svd", "model.rank=5", "protocol=denoise",
                                                       "denoiser=prorec"),
    "added noise": ("model=bprmf", "noise=add", "noise.ratio=0.2"),
}


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_the_graded_lists_give_the_recall_of_the_record_to_each_user(runs, words):
    folder = folder_of(runs, *words)
    finished = restore(folder)
    lists = finished.lists(10, tested=True)
    questions = finished.split.test[0]
    users = finished.dataset.user_ids[questions.query.users.numpy()].repeat(questions.targets.lengths.numpy())
    targets = pd.DataFrame({"user": users, "item": finished.dataset.item_ids[questions.targets.values.numpy()]})
    hits = targets.merge(lists, "left", ["user", "item"])
    recall = hits["place"].notna().groupby(hits["user"]).mean()
    answers = pd.read_parquet(folder / "test.parquet").set_index("user")["recall@10"]
    sure = (answers * questions.targets.lengths.numpy() % 1 == 0).to_numpy()  # ties are graded by what is expected
    assert 0 < answers.mean() < 1 and sure.mean() > 0.9
    np.testing.assert_allclose(recall.loc[answers.index][sure], answers[sure], atol=1e-12)


IN_DOMAINS = ("data.n_domains=3", "data.mean_activity=20", "protocol=domains", "protocol.split.candidates=20",
              "metrics=[recall@10]")
BY_DOMAIN = {
    "a network for each domain": ("model=bprmf", "domains=each"),
    "a closed form for each domain": ("model=itemknn", "domains=each"),
    "a network that knows domains": ("model=herograph",),
    "stages, the last for each domain": ("model=uclr", "model.rank=4"),
    "stages whose last is a closed form": ("model=mean_user",),
}


def of_domains(runs, *words):
    preset = words[0].removeprefix("model=")
    short = briefly(preset, dim=16, max_epochs=2, batch_size=64, steps=2)
    return folder_of(runs, *words, *IN_DOMAINS, *short)


@pytest.mark.parametrize("words", BY_DOMAIN.values(), ids=BY_DOMAIN)
def test_a_run_in_domains_gives_the_graded_lists_of_each(runs, words):
    folder = of_domains(runs, *words)
    finished = restore(folder)
    for number, domain in enumerate(finished.split.train.domains):
        lists = finished.lists(10, tested=True, domain=domain.name.upper())
        assert lists["item"].between(domain.start, domain.stop - 1).all()
        [questions] = [part for part in finished.split.test if part.name == f"domain{number}_full"]
        hits = pd.DataFrame({"user": questions.asked.numpy(), "item": questions.targets.values.numpy()}).merge(
            lists, "left", ["user", "item"])["place"].notna()
        answers = pd.read_parquet(folder / f"domain{number}_full.parquet")["recall@10"]
        sure = answers % 1 == 0  # ties are graded by what is expected
        assert 0 < answers.mean() < 1 and sure.mean() > 0.5 and (hits[sure] == answers[sure]).all()


@pytest.mark.parametrize("words", BY_DOMAIN.values(), ids=BY_DOMAIN)
def test_lists_of_today_are_of_all_domains_or_of_one(runs, words, caplog):
    finished = restore(of_domains(runs, *words))
    caplog.clear()
    mixed = finished.lists(300, torch.tensor([4]))
    assert len({*mixed["item"] // 100}) == 3
    apart = "domains=each" in words or words[0] == "model=uclr"
    assert ("their scores do not compare" in caplog.text) == apart
    for domain in finished.split.train.domains:
        alone = finished.lists(300, torch.tensor([4]), domain=domain.name)
        inside = mixed[mixed["item"].between(domain.start, domain.stop - 1)]
        assert {*alone["item"]} == {*inside["item"]}
        np.testing.assert_allclose(alone["score"], inside["score"], rtol=1e-5, atol=1e-6)


def test_strangers_are_served_by_closed_forms_of_each_domain_and_not_by_networks(runs, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("user,item\nann,3\nann,150\nbob,7\n")
    finished = restore(of_domains(runs, *BY_DOMAIN["a closed form for each domain"]))
    found = finished.served(file, 5, "domain1")
    knn = finished.model.models[1]
    expected = knn.score(Query(torch.tensor([-1, -1]), Ragged.from_lists([[50], []])))
    expected[0, 50] = -torch.inf
    np.testing.assert_allclose(found["score"], expected.topk(5).values.flatten())
    assert not {(user, item) for user, item in zip(found["user"], found["item"], strict=True)} & {("ann", 150)}
    for name in ("a network for each domain", "stages, the last for each domain", "stages whose last is a closed form"):
        with pytest.raises(RequestError, match="(Tables|Adapted|MeanUser) has a vector for each user who trained"):
            restore(of_domains(runs, *BY_DOMAIN[name])).served(file, 5)


def test_a_domain_that_is_not_there_and_a_graded_list_of_all_domains_are_refused(runs):
    finished = restore(of_domains(runs, *BY_DOMAIN["a network for each domain"]))
    with pytest.raises(RequestError, match="--domain books: there is no such domain .* use one of domain0, domain1"):
        finished.lists(3, domain="books")
    with pytest.raises(RequestError, match="users were tested in each domain; name one with --domain, of domain0"):
        finished.lists(3, tested=True)
    with pytest.raises(RequestError, match="--domain books: these data have no domains; leave --domain out"):
        restore(folder_of(runs, "model=popularity")).lists(3, domain="books")


def test_the_command_ranks_within_the_domain_that_it_is_told(runs, tmp_path):
    folder = of_domains(runs, *BY_DOMAIN["stages, the last for each domain"])
    done = command(tmp_path, "recot.recommend", str(folder), "--k", "3", "--users", "5", "--domain", "domain2")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(done.stdout)), restore(folder).lists(
        3, torch.tensor([5]), domain="domain2"), check_dtype=False, rtol=1e-4)


def test_lists_of_today_leave_out_all_that_is_known_and_are_in_order(runs):
    finished = restore(folder_of(runs, "model=bprmf"))
    lists, pairs = finished.lists(5), finished.dataset.interactions
    assert len(lists) == 5 * len(finished.dataset.user_ids) and list(lists["place"][:6]) == [1, 2, 3, 4, 5, 1]
    users, items = (torch.from_numpy(np.searchsorted(ids, lists[name])) for name, ids in (
        ("user", finished.dataset.user_ids), ("item", finished.dataset.item_ids)))
    assert not bool(pairs.contains(users, items).any())
    assert (lists.groupby("user")["score"].diff().dropna() <= 0).all()
    graded = finished.lists(5, tested=True).merge(lists, "inner", ["user", "item"])
    assert len(graded) < len(lists)  # those were asked for items that are known today


def test_a_sequence_model_knows_the_whole_history_today(runs):
    finished = restore(folder_of(runs, "model=sasrec", "protocol=sequence"))
    assert (finished.known().history.lengths > finished.split.test[0].query.history.lengths).all()
    users = torch.tensor([3, 0])
    torch.testing.assert_close(
        torch.tensor(finished.lists(1, users)["score"].to_numpy()),
        finished.model.score(finished.known(users)).masked_fill(
            finished.known(users).history.dense(finished.split.train.n_items) > 0, -torch.inf).amax(1))


@pytest.mark.parametrize("protocol", ["sequence", "topk"])
def test_histories_of_equal_times_are_today_in_the_order_the_model_was_trained_with(runs, tmp_path, protocol):
    file = tmp_path / "days.csv"
    pairs = [(user, item) for user in range(30) for item in random.Random(user).sample(range(40), 8)]
    file.write_text("user,item,day\n" + "".join(f"{user},{item},7\n" for user, item in pairs))
    words = ("model=markov", f"protocol={protocol}", "data=csv", f"data.path={file}", "data.time=day")
    config, choices = composed(*words)
    config["paths"] = {"runs": str(runs), "cache": str(runs)}
    record = experiment.run(config, choices, "python -m recot.run " + " ".join(words))
    finished = restore(runs / record["key"])
    train = finished.split.train
    whole = finished.known(torch.arange(30)).history.to_lists()
    for user, row in enumerate(train.by_user.to_lists()):
        assert [item for item in whole[user] if item in row] == row
    assert whole != [sorted(row) for row in whole]


def test_a_list_is_shorter_where_nothing_else_is_left(runs):
    finished = restore(folder_of(runs, "model=popularity"))
    n_items, activity = len(finished.dataset.item_ids), finished.dataset.interactions.activity
    found = finished.lists(10**9).groupby("user").size()
    assert (found.to_numpy() == n_items - activity.numpy()).all()


def test_what_cannot_be_answered_is_refused(runs, tmp_path):
    folder = folder_of(runs, "model=popularity")
    finished = restore(folder)
    for match, ask in (("--k 0 shows nothing", lambda: finished.lists(0)),
                       ("1 of 2 users are not in these data, for example 'nobody'",
                        lambda: finished.users(["0", "nobody"])),
                       ("holds no record.json", lambda: restore(tmp_path)),
                       ("model.dim=3 would change what was run", lambda: restore(folder, ["model.dim=3"]))):
        with pytest.raises(RequestError, match=match):
            ask()
    few = restore(folder_of(runs, "model=popularity", "protocol=denoise", "protocol.split.valid=0.1",
                            "protocol.split.test=0.1", "protocol.refit=false"))  # of ten pairs one is tested
    silent = set(range(60)) - set(few.split.test[0].query.users.tolist())
    with pytest.raises(RequestError, match="was not tested; leave --tested out"):
        few.lists(3, torch.tensor([min(silent)]), tested=True)


def changed(folder, target, **changes):
    shutil.copytree(folder, target)
    edit(target.parent, target.name, **changes)
    return target


def test_a_record_that_does_not_fit_is_refused(runs, tmp_path):
    folder = folder_of(runs, "model=popularity")
    with pytest.raises(RequestError, match="is the record of a run that is diverged; its command ends it: python -m"):
        restore(changed(folder, tmp_path / "a", status="diverged"))
    with pytest.raises(RequestError, match="splits these data otherwise than when .* force=true"):
        restore(changed(folder, tmp_path / "b", split="0" * 16))
    record = json.loads((folder / "record.json").read_text())
    record["config"]["data"]["data_seed"] = 7
    with pytest.raises(RequestError, match="the raw data are not those that .* was made with"):
        restore(changed(folder, tmp_path / "c", **record))


@pytest.mark.parametrize("name", ["weights.pt", "pairs.parquet", "record.json"])
@pytest.mark.parametrize("damage", ["flip", "gone", "a link"])
def test_files_that_the_run_did_not_write_are_refused_before_data_are_read(runs, tmp_path, name, damage, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(folder_of(runs, *RUNS["a graph whose pairs were relabelled"]), folder)
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x40
    file.unlink()
    if damage == "flip":
        file.write_bytes(content)
    elif damage == "a link":
        file.symlink_to(runs / folder.name / name)
    monkeypatch.setattr(build, "make", lambda *given: pytest.fail("something was built"))
    said = "is not what this run wrote|is gone|is a link|is not a record .*; delete it|holds no record.json"
    with pytest.raises(RequestError, match=said):
        restore(folder)


def test_what_is_not_of_the_run_is_not_read(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(folder_of(runs, "model=lightgcn"), folder)
    before = restore(folder).lists(3)
    (folder / "pairs.parquet").write_bytes(b"of another run, whose pairs changed")
    pd.testing.assert_frame_equal(restore(folder).lists(3), before)


def test_a_network_without_weights_is_refused(runs, tmp_path):
    folder = changed(folder_of(runs, "model=bprmf"), tmp_path / "a", files={})
    with pytest.raises(RequestError, match="left no weights.pt; make it again: .* force=true"):
        restore(folder)


def test_a_file_that_moved_is_found_where_the_user_says(tmp_path):
    drawn = np.random.default_rng(0).integers(0, (30, 25), (400, 2))
    pairs = sorted({(f"u{user}", f"i{item}") for user, item in drawn})
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    config, choices = composed("data=csv", f"data.path={old}", "model=itemknn", "metrics=[recall@10]")
    config["paths"] = {"runs": str(tmp_path), "cache": str(tmp_path)}
    record = experiment.run(config, choices, f"python -m recot.run data=csv data.path={old}")
    first = restore(tmp_path / record["key"]).lists(3)
    assert set(first["user"]) == {user for user, _ in pairs} and set(first["item"]) <= {item for _, item in pairs}
    old.rename(new)
    with pytest.raises(FileNotFoundError, match="correct data.path"):
        restore(tmp_path / record["key"])
    pd.testing.assert_frame_equal(restore(tmp_path / record["key"], [f"data.path={new}"]).lists(3), first)


def test_the_command_prints_and_writes_lists(runs, tmp_path):
    folder = folder_of(runs, "model=itemknn")
    users = [str(id_) for id_ in restore(folder).dataset.user_ids[:2]]
    shown = command(tmp_path, "recot.recommend", folder.name, "--users", ",".join(users), "--k", "3",
                   RECOT_RUNS=str(runs))
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "user,place,item,score" and [line.split(",")[:2] for line in lines[1:]] == [
        [user, str(place)] for user in users for place in (1, 2, 3)]
    file = tmp_path / "lists.parquet"
    written = command(tmp_path, "recot.recommend", str(folder), "--k", "3", "--out", str(file))
    assert written.returncode == 0, written.stderr
    assert pd.read_parquet(file).equals(restore(folder).lists(3))


def test_the_path_that_a_run_prints_names_the_run(runs, tmp_path):
    folder = folder_of(runs, "model=popularity")
    done = command(tmp_path, "recot.recommend", str(folder / "record.json"), "--k", "1")
    assert done.returncode == 0 and done.stdout.startswith("user,place,item,score\n"), done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(runs, tmp_path):
    folder = folder_of(runs, "model=popularity")
    process = subprocess.Popen([sys.executable, "-m", "recot.recommend", str(folder), "--k", "250"], text=True,
                               env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "user,place,item,score\n"
    process.stdout.close()  # with more to come than a pipe holds
    assert process.stderr.read() == "fitting popularity again\n" and process.wait() == 0


@pytest.mark.parametrize(("words", "said"), [
    (["nowhere"], "nowhere holds no record.json"), (["nowhere", "--out", "lists.txt"], "is neither .csv nor .parquet"),
    (["nowhere", "--out", "absent/lists.csv"], "there is no folder .*make it, or name another place"),
    (["nowhere", "--out", "folder.csv"], "is a folder; name a file"),
    (["nowhere", "--k", "0"], "--k 0 shows nothing; give 1 or more"),
    (["nowhere", "--k", "-3"], "--k -3 shows nothing; give 1 or more"),
    (["nowhere", "--spreadsheet", "--out", "x.parquet"], "leave --spreadsheet out"),
    (["nowhere", "--users", ""], "--users names nobody; leave it out for all users"),
    (["nowhere", "--users", 'a,"b'], "quote an id as in csv, such as .*, or use --users-from FILE"),
    (["nowhere", "--users", "a", "--users-from", "ids"], "not allowed with argument --users; .* --help says"),
    (["nowhere", "--users-from", "absent"], "--users-from absent cannot be read .*; name a text file"),
    (["nowhere", "--users-from", "folder.csv"], "cannot be read .Is a directory.; name a text file"),
    (["nowhere", "--users-from", "latin"], "is not in UTF-8 .* at byte 2.; save it in UTF-8"),
    (["nowhere", "--users-from", "empty"], "is empty; leave it out for all users")])
def test_a_wrong_request_is_refused_before_anything_is_read(tmp_path, words, said, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "latin").write_bytes(b"fr\xe9d\n")
    (tmp_path / "empty").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=said):
        recommend.answer(recommend.arguments().parse_intermixed_args(words))


ODD = ["plain", "a,b", 'q"uote', " blanks ", "", "=1+1", "+1", "-1", "@SUM(1)", "\tx", "01", "\u017dlu\u0165", "#c"]


@pytest.mark.parametrize("given", ["--users", "--users-from", "--users-from, as a spreadsheet saves it"])
def test_ids_of_any_text_can_be_asked_for(given, tmp_path):
    if given == "--users":
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(ODD)
        words = [given, line.getvalue()]
    else:
        ends, head = ("\r\n", "\ufeff") if "," in given else ("\n", "")
        (tmp_path / "ids").write_bytes((head + "".join(f"{id_}{ends}" for id_ in ODD)).encode())
        words = ["--users-from", str(tmp_path / "ids")]
    assert recommend.asked_for(recommend.arguments().parse_args(["key", *words])) == ODD


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".parquet", ".Parquet"])
def test_a_file_of_lists_holds_ids_as_they_are_and_is_whole_or_as_it_was(suffix, tmp_path, monkeypatch):
    frame = pd.DataFrame({"user": ODD, "place": 1, "item": ODD[::-1], "score": 0.5})
    out, target = tmp_path / f"lists{suffix}", tmp_path / "of somebody else"
    target.write_text("untouched")
    out.symlink_to(target)
    recommend.write(frame, out)
    read = pd.read_parquet(out) if "parquet" in suffix.lower() else pd.read_csv(out, dtype={"user": str, "item": str},
                                                                               keep_default_na=False)
    assert read["user"].tolist() == ODD and read["item"].tolist() == ODD[::-1]
    assert target.read_text() == "untouched" and not list(tmp_path.glob("*.part"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    before = out.read_bytes()
    monkeypatch.setattr("recot.system.files.os.fsync", full)
    with pytest.raises(OSError, match=f"--out {out} cannot be written .No space left on device.; name another file"):
        recommend.write(frame[:2], out)
    assert out.read_bytes() == before and not list(tmp_path.glob("*.part"))


def test_what_a_spreadsheet_would_run_gets_an_apostrophe_where_it_is_asked_for(runs, tmp_path, monkeypatch):
    class Answers:
        def lists(self, k, users, tested, domain):
            return pd.DataFrame({"user": ODD, "place": 1, "item": ODD, "score": -0.5})

    monkeypatch.setattr("recot.restore.restore", lambda folder, words: Answers())
    found = {}
    for words in ([], ["--spreadsheet"]):
        recommend.answer(recommend.arguments().parse_args([str(tmp_path), "--out", str(tmp_path / "l.csv"), *words]))
        found[len(words)] = pd.read_csv(tmp_path / "l.csv", dtype=str, keep_default_na=False)
    run = {"=1+1", "+1", "-1", "@SUM(1)", "\tx"}
    for name in ("user", "item"):
        assert found[0][name].tolist() == ODD
        assert found[1][name].tolist() == [f"'{id_}" if id_ in run else id_ for id_ in ODD]
    assert set(found[1]["score"]) == {"-0.5"}


def test_many_lists_are_printed_with_one_head(capsys, monkeypatch):
    monkeypatch.setattr(recommend, "AT_ONCE", 4)
    frame = pd.DataFrame({"user": range(9), "item": range(9)})
    recommend.write(frame, None)
    assert capsys.readouterr().out == frame.to_csv(index=False)
    recommend.write(frame[:0], None)
    assert capsys.readouterr().out == "user,item\n"


def test_a_record_from_elsewhere_runs_nothing_that_is_not_trusted(runs, tmp_path):
    folder = folder_of(runs, "model=popularity")
    record = json.loads((folder / "record.json").read_text())
    trap = tmp_path / "sprung"
    record["config"]["data"] = {"_target_": "os.mkdir", "path": str(trap)}
    foreign = changed(folder, tmp_path / "a", **record)
    with pytest.raises(RequestError, match=r"data\._target_ = 'os.mkdir' lies outside recot.*plugins=\[os\]"):
        restore(foreign)
    assert not trap.exists()


def test_what_a_plugin_made_is_brought_back_where_its_package_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "floors.py").write_text("from recot.closed.popularity import Popularity\n\n"
                                        "class Mine(Popularity):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = folder_of(tmp_path, "model=popularity", "model._target_=floors.Mine", "plugins=[floors]")
    with pytest.raises(RequestError, match=r"name its package: plugins=\[floors\]"):
        restore(folder)
    for trusted in ("plugins=[floors]", "plugins=floors"):
        assert type(restore(folder, [trusted]).model).__name__ == "Mine"


def test_prepared_data_are_looked_for_where_the_cache_is(tmp_path, monkeypatch):
    table = tmp_path / "pairs.csv"
    table.write_text("user,item\n" + "".join(f"u{n % 40},i{n * 7 % 29}\n" for n in range(400)))
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path / "here"))
    config, choices = composed("data=csv", f"data.path={table}", "model=popularity", "metrics=[recall@10]")
    config["paths"]["runs"] = str(tmp_path / "runs")
    record = experiment.run(config, choices, f"python -m recot.run data=csv data.path={table}")

    def prepared():
        return {file: file.stat().st_mtime_ns for file in (tmp_path / "here" / "prepared").glob("csv-*")}

    before = prepared()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    restore(tmp_path / "runs" / record["key"])
    assert before and prepared() == before
    assert not (tmp_path / "home").exists()


@pytest.fixture(scope="module")
def record(runs):
    """The record of a run on files of a folder, and that folder."""
    folder = runs / "raw" / "own"
    folder.mkdir(parents=True)
    (folder / "u.data").write_text("".join(f"{n % 40}\t{n * 7 % 29}\t5\t{n}\n" for n in range(400)))
    words = ("model=popularity", "data=ml100k", "data.folder=own", "data.name=own", "data.files={u.data: null}",
             "data.expect=null", f"data.root={runs / 'raw'}", "data.threshold=null", "metrics=[recall@10]")
    config, choices = composed(*words)
    config["paths"] = {"runs": str(runs), "cache": str(runs)}
    config["data"]["cache"] = str(runs)
    key = experiment.run(config, choices, "typed by somebody")["key"]
    return json.loads((runs / key / "record.json").read_text())


@pytest.fixture
def foreign(record, tmp_path, monkeypatch):
    """Writes a changed record as somebody else could, in a place where nothing else may come into being."""
    monkeypatch.setattr(fetch, "_download", lambda *given: pytest.fail("something was downloaded"))
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RECOT_DATA", raising=False)

    def write(change):
        changed = json.loads(json.dumps(record))
        change(changed)
        (tmp_path / "shared").mkdir()
        store.write_record(tmp_path / "shared" / "record.json", changed)  # sealed, as somebody else can
        return tmp_path / "shared"

    yield write
    assert {file.name for file in tmp_path.iterdir()} <= {"shared", "cache", "victim"}
    assert not list(tmp_path.glob("victim/*"))


def setting(path, value):
    """A change that puts a value at a dotted path of a record."""
    def change(record):
        node = record
        for name in above:
            node = node[name]
        node[last] = value
    *above, last = path.split("/")
    return change


def test_the_record_that_others_are_made_of_is_brought_back_with_no_word(foreign):
    assert len(restore(foreign(lambda record: None)).lists(1)) == 40


@pytest.mark.parametrize("target", ["recot.restore.restore", "recot.tuning.search.tune", "recot.record.experiment.run",
                                    "recot.request.signature.parse", "recot.record.store.Runs",
                                     "recot.data.fetch.locate",
                                    "recot.record.code.commit", "recot.data.dataset.load",
                                     "recot.system.files.write_whole"])
@pytest.mark.parametrize("place", ["data", "model", "loss", "denoiser", "noise", "trainer", "protocol/split"])
def test_a_record_names_only_what_belongs_at_its_place(place, target, foreign):
    with pytest.raises(RequestError, match=r"_target_ = .* is no .*, nor of a package in plugins"):
        restore(foreign(setting(f"config/{place}", {"_target_": target})))


@pytest.mark.parametrize(("path", "value", "said"), [
    ("config/data/name", "${oc.env:HOME}", "config.data.name of the record is .* refers to nothing"),
    ("config/data/columns", {"user": ["${seed}"]}, "of the record is '.{seed}', and what was run refers to nothing"),
    ("config/seed", "${data.folder}", "refers to nothing"),
    ("config/data/folder", "../victim", "which is no single name"), ("config/data/folder", "/etc", "no single name"),
    ("config/data/folder", "..", "no single name"), ("config/data/folder", "", "no single name"),
    ("config/data/folder", "a\\b", "no single name"), ("config/data/folder", "a\0b", "no single name"),
    ("config/data/folder", "-rf", "no single name"), ("config/data/folder", "a\x1b[2J", "no single name"),
    ("config/data/files", {"../victim/x": None}, "no single name"), ("config/data/files", {"/a": None}, "no single"),
    ("config/data/substitute", {"../../x": None}, "no single name"), ("config/data/name", "../victim/x", "no single"),
    ("config/data/name", "a/b", "no single name"), ("config/plugins", ["os"], "raw data|popularity"),
    ("config/hydra", {"run": {"dir": "victim"}}, "hydra: nothing reads this key"),
    ("config/model", {"_target_": "os.system", "command": "true"}, r"plugins=\[os\]"),
    ("config/model", "_target_", "model names nothing to run"), ("config/data", [], "has no data or no trainer"),
    ("config/trainer", None, "has no data or no trainer"), ("config/loss", None, "loss = None names nothing"),
    ("config/noise", {"ratio": 1}, "noise names nothing to run"), ("config/metrics", [{"_target_": "x"}], "_target_"),
    ("config/protocol/refit", "yes", "protocol.refit = 'yes' does not fit"), ("config", [], "its config is no dict"),
    ("status", 3, "its status is no str"), ("key", None, "its key is no str"),
    ("split", {}, "its split is no str"), ("command", 1, "its command is no str"), ("model", [], "its model is no str"),
    ("rounds", [], "its rounds have no numbers"),
     ("rounds", [{"round": "x"}], "its rounds have no numbers"),
    ("config/data/core", 10**30, "data.core is a number of 100 bits"), ("config/data/threshold", "1", "does not fit"),
    ("config/data/read", ["csv"], "does not fit"), ("key", "0" * 16, "the raw data are not those"),
    ("config/data/_args_", ["x"], "not a parameter"), ("config/data/_partial_", True, "_partial_ = True does not fit"),
    ("config/data/columns", eval("[" * 40 + "]" * 40), "is nested more than 20 times"),
])
def test_a_record_that_is_none_is_refused_in_one_sentence_before_anything_is_read(path, value, said, foreign):
    folder = foreign(setting(path, value))
    if path == "config/plugins":  # only words trust
        assert restore(folder).lists(1).size
        return
    with pytest.raises((RequestError, build.InstantiationException)) as raised:
        restore(folder)
    assert re.search(said, explain(raised.value)) and "\n" not in explain(raised.value)


@pytest.mark.parametrize("content", ["{}", "[]", "3", "null", '"text"', "[" * 100_000, '{"a":' * 100_000, "{", "",
                                     "\xff", '{"key": 1e999}', "9" * 5000], ids=lambda content: content[:8])
def test_what_is_no_record_at_all_is_refused_with_its_file(content, tmp_path):
    (tmp_path / "record.json").write_text(content, encoding="latin-1")
    with pytest.raises(RequestError, match=r"record\.json"):
        restore(tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "file:///etc", "http://u:${oc.env:TOKEN}@h/x", 3, ["x"]])
def test_nothing_is_downloaded_for_a_record(url, record, foreign, tmp_path):
    def change(changed):
        changed["config"]["data"]["url"] = url
        del changed["places"]

    with pytest.raises(FileNotFoundError, match="own/u.data is missing and cannot be.* Put u.data "):
        restore(foreign(change))


@pytest.mark.parametrize("name", ["cache", "root", "path"])
def test_places_within_the_config_of_a_record_are_not_believed(name, foreign, tmp_path):
    def change(record):
        record["config"]["data"][name] = str(tmp_path / "victim")
        record["config"]["paths"] = {"runs": str(tmp_path / "victim"), "cache": str(tmp_path / "victim")}
        record["command"] = f"python -m recot.run data.cache={tmp_path / 'victim'} paths.cache={tmp_path / 'victim'}"

    assert len(restore(foreign(change)).lists(1)) == 40


@pytest.mark.parametrize("place", ["/proc/self", "/dev", "relative", "", 3, None, ["x"], "/a\0b", "${oc.env:HOME}",
                                   "/none"])
def test_a_place_of_a_record_that_is_no_folder_of_files_is_not_believed(place, record, foreign, monkeypatch):
    monkeypatch.setenv("RECOT_DATA", record["places"]["data.root"])
    assert len(restore(foreign(setting("places", {"data.root": place}))).lists(1)) == 40


@pytest.mark.parametrize("places", [3, [], None, "x", {}])
def test_places_of_another_type_are_not_believed(places, record, foreign, monkeypatch):
    monkeypatch.setenv("RECOT_DATA", record["places"]["data.root"])
    assert len(restore(foreign(setting("places", places))).lists(1)) == 40


def test_what_a_word_says_is_believed_before_the_record(foreign, tmp_path):
    (tmp_path / "victim").mkdir()
    with pytest.raises(FileNotFoundError, match="victim"):
        restore(foreign(lambda record: None), [f"data.root={tmp_path / 'victim'}"])


FORMS = [r"data.path=my\ log\,\ 1.csv", "data.path='my log, 1.csv'", '++data.path="my log, 1.csv"',
         'data={path: "my log, 1.csv"}', 'data.path="${oc.env:RECOT_HERE}/my log, 1.csv"']


@pytest.mark.parametrize("form", FORMS)
def test_whatever_way_a_path_was_typed_the_run_is_brought_back_from_anywhere(form, tmp_path, monkeypatch):
    monkeypatch.setenv("RECOT_HERE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my log, 1.csv").write_text("user,item\n" + "".join(f"u{n % 40},i{n * 7 % 29}\n" for n in range(400)))
    config, choices = composed("data=csv", form, "model=popularity", "metrics=[recall@10]")
    config["paths"] = {"runs": str(tmp_path), "cache": str(tmp_path)}
    config["data"]["cache"] = str(tmp_path)
    key = experiment.run(config, choices, f"python -m recot.run data=csv '{form}'")["key"]
    monkeypatch.chdir("/")
    first = restore(tmp_path / key).lists(2)
    assert len(first) == 80
    (tmp_path / "my log, 1.csv").rename(tmp_path / "b=c, d.csv")
    with pytest.raises(FileNotFoundError, match="correct data.path"):
        restore(tmp_path / key)
    for word in (f'data.path="{tmp_path}/b=c, d.csv"', f"++data.path='{tmp_path}/b=c, d.csv'"):
        pd.testing.assert_frame_equal(restore(tmp_path / key, [word]).lists(2), first)


@pytest.mark.parametrize(("word", "said"), [
    ("data.path=a,b", "give one value, like data.path="), ("~data.path", "give one value, like data.path="),
    ("data.path=[", "Hydra cannot read this value"), ("model=bprmf", "model=bprmf would change what was run"),
    ("data.path=3", "data.path is not a parameter of Files"),
    ("plugins=[3]", "plugins has '3', which is no name")])
def test_a_word_that_says_nothing_of_a_place_is_refused(word, said, foreign):
    folder = foreign(lambda record: None)
    with pytest.raises((RequestError, HydraException)) as raised:
        restore(folder, [word])
    assert re.search(said, explain(raised.value))
