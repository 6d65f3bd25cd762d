"""Tuned settings apply to the data and the problem they were found on, and to no other."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
from pathlib import Path

import pytest
from commands import composed

from recot import run
from recot.artifacts import plan
from recot.data import fetch
from recot.record import experiment
from recot.request import compose, keys, tuned
from recot.tuning import search

ROWS = [f"{user},{item},{rating},9" for user in range(12) for item, rating in ((user, 5), (user + 1, 4), (user + 2, 1))]
WORDS = ("model=bprmf", "data=csv", "trainer=smoke", "trainer.max_epochs=1")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Tuned files and records of each test in a folder of its own."""
    shutil.copytree(compose.CONF, tmp_path / "conf")
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    monkeypatch.setenv("RECOT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("RECOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def pairs(name, rows=ROWS):
    Path(name).write_text("\n".join(["user,item,rating,other", *rows, ""]))
    return f"data.path={name}"


COMMAND = ("model=bprmf data=csv trainer=smoke trainer.max_epochs=1 data.rating=rating data.threshold=4 model.dim=8 "
           "loss.batch_size=16 trainer.learning_rate=.1,.2")


@pytest.fixture
def study():
    """The tuned file of a study of the learning rate on first.csv, whose winner is .2; in a folder of one's own."""
    pairs("first.csv")
    file = compose.CONF / "tuned" / "csv" / "bprmf-bpr-none.yaml"
    file.parent.mkdir()
    data = composed("model=popularity", "data=csv", *SAME)[0]["data"]
    file.write_text("# @package _global_\n# Best of 2 configurations by validation ndcg@20, at most 1 epochs each; see "
                    "results/tuning/csv/bprmf-bpr-none.csv.\n"
                    f"# python -m recot.tune {COMMAND} --trials 2 --sampler-seed 0\n"
                    f"# data: {tuned.digests(data)[0]}\n# fixed: model.dim loss.batch_size\n"
                    "trainer:\n  learning_rate: 0.2\nmodel:\n  dim: 8\nloss:\n  batch_size: 16\n")
    return file


SAME = ("data.path=first.csv", "data.rating=rating", "data.threshold=4")


def test_a_study_writes_its_data_and_what_it_fixed(study, monkeypatch):
    written = study.read_text()
    study.unlink()
    done = {"status": "done", "epochs": 1, "best_epoch": 1, "seconds": 1.0, "fresh": True}
    monkeypatch.setattr(experiment, "run", lambda config, *rest: done | {
        "valid": {config["protocol"]["monitor"]: config["trainer"]["learning_rate"]}})
    search.tune([*COMMAND.split(), "data.path=first.csv"], 2, write=True)
    assert study.read_text() == written


def rate(*words):
    return composed(*WORDS, *words)[0]["trainer"]["learning_rate"]


@pytest.mark.parametrize(("words", "applies"), [
    (SAME, True), ((*SAME, "data.threshold=4.0"), True), ((*SAME, "data.path=copy.csv"), True),
    ((*SAME, "data.path=packed.csv.gz"), True), ((*SAME, "data.path=second.csv"), False),
    ((*SAME, "data.threshold=5"), False), ((*SAME, "data.threshold=null"), False), ((*SAME, "data.core=2"), False),
    ((*SAME, "data.item=other"), False), ((*SAME, "data.path=gone.csv"), False)], ids=lambda value: value[-1]
    if isinstance(value, tuple) else str(value))
def test_settings_apply_to_the_content_they_were_found_on_and_to_no_other(study, caplog, words, applies):
    caplog.set_level("INFO", "recot")
    shutil.copy("first.csv", "copy.csv")
    Path("packed.csv.gz").write_bytes(gzip.compress(Path("first.csv").read_bytes()))
    pairs("second.csv", [*ROWS, "0,7,5,9"])
    assert rate(*words) == (0.2 if applies else 0.001)
    said = [message for message in caplog.messages if "conf/tuned/csv/bprmf-bpr-none.yaml" in message]
    assert len(said) == 1 and ("apply (found on these data)" if applies else "do not apply: ") in said[0]


@pytest.fixture
def seen(study, tmp_path, monkeypatch):
    """Learning rates and keys of the runs that were started; the tuned file lies in a folder of one's own, ``mine``."""
    (tmp_path / "mine" / "tuned").mkdir(parents=True)
    shutil.move(study.parent, tmp_path / "mine" / "tuned" / "csv")
    found = []
    monkeypatch.setattr(experiment, "run", lambda config, *rest: found.append(config["trainer"]["learning_rate"]) or {
        "fresh": True, "key": "0" * 16})
    monkeypatch.setattr("recot.record.console.show", lambda *rest: None)
    monkeypatch.setattr(run, "side_by_side", lambda swept: None)
    pairs("second.csv", ROWS[:-1])
    return found


def test_each_job_of_a_sweep_says_in_one_line_whether_settings_apply(seen, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "recot")
    monkeypatch.setattr(sys, "argv", ["recot.run", "--config-dir", str(tmp_path / "mine"), "-m", *WORDS, *SAME[1:],
                                      "data.path=second.csv,first.csv,second.csv"])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert ended.value.code == 0
    assert seen == [0.001, 0.2, 0.001]
    assert [" do not " in message for message in caplog.messages if "conf/tuned/csv" in message] == [True, False, True]


def test_settings_that_do_not_apply_are_not_in_the_key(study):
    config = composed(*WORDS, *SAME, "data.core=2")[0]
    assert config == composed(*WORDS, *SAME, "data.core=2", "~tuned")[0]
    assert keys.key(config, "d") != keys.key(composed(*WORDS, *SAME)[0], "d")


@pytest.mark.parametrize(("words", "applies"), [
    ((), True), (("loss.batch_size=16",), True), (("model.dim=8", "seed=3"), True),
    (("trainer.learning_rate=0.3",), True),  # what was tried may be typed
    (("loss.batch_size=32",), False), (("model.dim=16",), False)])
def test_settings_do_not_apply_where_the_command_says_otherwise_than_their_study(study, caplog, words, applies):
    config = composed(*WORDS, *SAME, *words)[0]
    typed = dict(word.split("=") for word in words)
    assert config["trainer"]["learning_rate"] == float(typed.get("trainer.learning_rate", 0.2 if applies else 0.001))
    if applies:
        assert (config["model"]["dim"], config["loss"]["batch_size"]) == (8, 16) and "do not apply" not in caplog.text
    else:
        key, value = words[0].split("=")
        assert f"they were found with {key}=" in caplog.text and f"this run has {key}={value}" in caplog.text


def test_settings_that_are_asked_for_apply_and_their_origin_is_said(study, caplog):
    caplog.set_level("INFO", "recot")
    second = pairs("second.csv", ROWS[:-1])
    assert rate(second, "tuned=${data}/bprmf-bpr-none") == 0.2
    assert "apply, since they were asked for: they were found on other data" in caplog.text


def test_a_file_that_does_not_say_its_data_does_not_apply(study, caplog):
    study.write_text("".join(line for line in study.read_text().splitlines(True) if not line.startswith(tuned.DATA)))
    assert rate(*SAME) == 0.001 and "it does not say on which data they were found" in caplog.text
    assert rate(*SAME, "~tuned") == 0.001


def test_data_sets_whose_sums_are_listed_need_not_be_at_hand(monkeypatch):
    monkeypatch.setattr(tuned, "content_sha256", lambda *given: pytest.fail("a file was read"))
    monkeypatch.setenv("RECOT_DATA", str(Path.cwd()))
    planner = plan.Planner(plan.Request([]))
    assert planner.config(("data=gowalla", "model=clrec"))[0]["loss"]["tau"] == 0.12
    assert fetch.data_root(None, Path()) == Path.cwd()


@pytest.mark.parametrize("file", sorted((compose.CONF / "tuned").glob("*/*.yaml")),
                         ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_tuned_file_says_its_data_and_holds_what_its_study_fixed(file):
    config = yaml_of(file.parent.name)
    known, fixed = tuned.head(file)
    assert [known] == tuned.digests(config) and set(fixed) <= set(tuned.settings(file))
    assert not tuned.objection(file, config, tuned.settings(file).get)


def yaml_of(name, found={}):  # noqa: B006  # composed once for each data set
    return found.setdefault(name, composed(f"data={name}", "model=popularity")[0]["data"])


def test_what_files_are_for_and_not_their_order_tells_data_apart():
    """The digest of one file is what it was before several could be named."""
    words = ("model=popularity", "data=csv", "data.rating=rating")
    for name, rows in (("a.csv", ROWS[:10]), ("b.csv", ROWS[10:])):
        pairs(name, rows)
    Path("both").mkdir()
    for name in ("a.csv", "b.csv"):
        shutil.copy(name, f"both/{name}")

    def found(*more):
        return tuned.digests(composed(*words, *more)[0]["data"])

    whole = found("data.path=[a.csv,b.csv]")
    assert whole == found("data.path=[b.csv,a.csv]") == found("data.path=both") and len(whole) == 1
    parted = found("data.path=a.csv", "data.test=b.csv", "protocol=given")
    assert parted not in (whole, found("data.path=b.csv", "data.test=a.csv", "protocol=given"))
    assert found("data.path=a.csv", "data.test=none.csv", "protocol=given") == []
    single = composed(*words, "data.path=a.csv")[0]["data"]
    assert tuned.contents(single) == [hashlib.sha256(fetch.content_sha256(Path("a.csv"), Path("cache"))
                                                     .encode()).hexdigest()]
    for data, there in ((single, True), ({**single, "path": ["a.csv", "both"]}, True),
                        ({**single, "test": "none.csv"}, False)):
        assert plan.at_hand(data) == there
