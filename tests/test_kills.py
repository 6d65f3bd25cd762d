"""A run killed at any operation on a file ends, typed again, as if it had never been killed."""

import os
import shutil

import pytest
from commands import execute

from recot.record import experiment, outputs
from recot.record.store import Runs
from recot.system import files

OPERATIONS = ("replace", "rename", "unlink", "mkdir", "rmdir")
SMALL = ("trainer.checkpoint_seconds=0", "data.n_users=40", "metrics=[ndcg@20]")
KINDS = {  # words, whether another code's finished run is made again, every how many operations it is killed
    "a first run": (("model=bprmf",), False, 1), "a forced run": (("model=bprmf", "force=true"), True, 2),
    "rounds": (("model=ir", "denoiser.rounds=1"), False, 3),
    "rounds and a refit": (("model=bprmf", "protocol=denoise", "denoiser=prorec", "denoiser.rounds=1"), False, 7)}


def dying(operation, left):
    """The operation, as long as there is something left."""
    def counted(*given, **more):
        if next(left, None) is None:
            os._exit(9)
        return operation(*given, **more)

    return counted


def killed(place, words, count):
    """Start a run in a process that dies before its operation number ``count``; whether it died."""
    child = os.fork()
    if child == 0:
        try:
            left = iter(range(count))
            for name in OPERATIONS:
                setattr(os, name, dying(getattr(os, name), left))
            execute(place, *words)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return os.waitstatus_to_exitcode(status) == 9


def whole(runs, key):
    """Whether every file of a finished run is what its record says."""
    record = runs.get(key)
    return all(runs.file(key, name, record) for name in record["files"])


@pytest.mark.parametrize(("words", "made", "step"), KINDS.values(), ids=KINDS)
def test_row_18_killed_before_an_operation_on_a_file_it_ends_as_if_it_had_never_been_killed(words, made, step,
                                                                                            tmp_path, monkeypatch):
    words = (*SMALL, *words)
    undisturbed = execute(tmp_path / "undisturbed", *words)
    key, names = undisturbed["key"], set(os.listdir(tmp_path / "undisturbed" / undisturbed["key"]))
    assert names == {".lock", "record.json", *undisturbed["files"]}
    begin = tmp_path / "begin"
    begin.mkdir()
    if made:
        with monkeypatch.context() as patch:
            patch.setattr(experiment, "source_digest", lambda config: "other")
            execute(begin, *words[:-1])
    count = 0
    while True:
        place = tmp_path / str(count)
        shutil.copytree(begin, place)
        runs = Runs(place)
        died = killed(place, words, count)
        if made or (record := runs.get(key)) and record["status"] == "done":
            assert whole(runs, key), f"after operation {count} the record and its files are of two runs"
        again = execute(place, *words)
        assert again["digest"] == undisturbed["digest"], count
        assert set(os.listdir(place / key)) == names and whole(runs, key), count
        if not died:
            break
        shutil.rmtree(place)
        count += step
    assert count > 20


class Stopped(BaseException):
    """What no handler of errors catches."""


def fits(monkeypatch):
    """Counts the epochs that are trained from now on."""
    seen, save = [], outputs.save_history

    def noted(file, history):
        if ".new" not in file.parts:
            seen.append(len(history))
        save(file, history)

    monkeypatch.setattr(outputs, "save_history", noted)
    return seen


def untidied(place, monkeypatch, *words):
    """A finished run whose process died before it removed what it would have resumed from."""
    def die(folder):
        assert (folder / "record.json").exists()
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "forget", die)
        with pytest.raises(Stopped):
            execute(place, *words)
    [folder] = (file.parent for file in place.glob("*/record.json"))
    assert Runs(place).get(folder.name)["status"] == "done" and experiment.resumable(folder)
    return folder


@pytest.mark.parametrize("words", [("model=bprmf",), ("model=ir", "denoiser.rounds=1"),
                                   ("model=bprmf", "protocol=denoise")])
def test_what_a_finished_run_would_resume_from_is_removed_when_it_is_found(words, tmp_path, monkeypatch):
    folder = untidied(tmp_path, monkeypatch, *SMALL, *words)
    assert not execute(tmp_path, *SMALL, *words)["fresh"]
    assert set(os.listdir(folder)) == {".lock", "record.json", *Runs(tmp_path).get(folder.name)["files"]}


@pytest.mark.parametrize("before", [(), ("force=true",)])
def test_a_forced_run_never_goes_on_from_what_a_finished_one_left(before, tmp_path, monkeypatch):
    untidied(tmp_path, monkeypatch, *SMALL, "model=bprmf", *before)
    trained = fits(monkeypatch)
    assert execute(tmp_path, *SMALL, "model=bprmf", "force=true")["fresh"] and trained == [1, 2]


def test_a_forced_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    words = (*SMALL, "model=bprmf", "trainer.max_epochs=4", "trainer.patience=4")
    execute(tmp_path, *words)
    save = outputs.save_history

    def stop(file, history):
        save(file, history)
        if len(history) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "save_history", stop)
        with pytest.raises(KeyboardInterrupt):
            execute(tmp_path, *words, "force=true")
    trained = fits(monkeypatch)
    assert execute(tmp_path, *words, "force=true")["fresh"] and trained == [3, 4]


@pytest.mark.parametrize(("name", "given"), [
    *((name, (OSError, 28, "No space left on device")) for name in (
        "epochs.csv", "valid.parquet", "test.parquet", "weights.pt", "pairs.parquet", "lists.parquet", "record.json")),
    ("test.parquet", (KeyboardInterrupt,)), ("lists.parquet", (SystemExit, 143))])
def test_row_8_a_forced_run_that_fails_at_its_last_files_keeps_the_record_and_all_files(name, given, tmp_path,
                                                                                       monkeypatch):
    words = (*SMALL, "model=ir", "denoiser.rounds=1")
    first = execute(tmp_path, *words)
    folder = tmp_path / first["key"]
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    real, (error, *reason) = os.replace, given

    def fail(old, new, **more):
        if str(new) == str(folder / ".new" / name):
            raise error(*reason)
        return real(old, new, **more)

    with monkeypatch.context() as patch:
        if name == "weights.pt":
            patch.setattr("recot.fit.gradient.Gradient.save", lambda self, file: fail("", file))
        patch.setattr(os, "replace", fail)
        with pytest.raises(error) as raised:
            execute(tmp_path, *words, "force=true")
    if error is OSError and name != "weights.pt":
        assert f"{folder} cannot be written" in str(raised.value) and "RECOT_RUNS or paths.runs" in str(raised.value)
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert {file: after[file] for file in before} == before and not (folder / ".new").exists()
    assert execute(tmp_path, *words, "force=true")["digest"] == first["digest"]


def test_a_first_run_that_is_ended_by_any_means_says_so_in_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr("recot.fit.gradient.Gradient.fit", lambda self, split: exec("raise SystemExit(143)"))
    with pytest.raises(SystemExit):
        execute(tmp_path, *SMALL, "model=bprmf")
    [folder] = tmp_path.glob("*/record.json")
    assert Runs(tmp_path).get(folder.parent.name)["status"] == "interrupted"


def test_a_failure_that_cannot_be_noted_is_still_the_one_that_is_told(tmp_path, monkeypatch, caplog):
    def fail(self, split):
        monkeypatch.setattr(files, "write_whole", full)
        raise ArithmeticError("no luck")

    def full(file, content):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr("recot.closed.popularity.Popularity.fit", fail)
    with pytest.raises(ArithmeticError, match="no luck"):
        execute(tmp_path, "model=popularity")
    assert "there is no record of this failure: " in caplog.text and "RECOT_RUNS or paths.runs" in caplog.text
