"""Trackers: what they receive, and that none of them can harm or delay a run."""

import json
import logging
import os
import sys
import textwrap
import threading

import pytest
from commands import PATIENCE, execute, python

from recot.record import trackers


class Recorder:
    """Keeps what it is told."""

    def __init__(self):
        self.heard = []

    def start(self, key, config, folder):
        self.heard.append(("start", key, folder.name))

    def log(self, row, step):
        self.heard.append(("log", row["epoch"], step))

    def finish(self, summary):
        self.heard.append(("finish", summary))


class Raises(Recorder):
    """Fails at one moment."""

    def __init__(self, moment, error):
        super().__init__()
        self.moment, self.error = moment, error

    def __getattribute__(self, name):
        if name in ("start", "log", "finish") and name == super().__getattribute__("moment"):
            raise super().__getattribute__("error")
        return super().__getattribute__(name)


class Hangs(Recorder):
    """Never comes back from ``finish``."""

    released = threading.Event()

    def finish(self, summary):
        self.released.wait(30)


def story(tracker, folder):
    """A run as a tracker sees it."""
    guarded = trackers.Guarded(tracker)
    guarded.start("k", {}, folder)
    guarded.log({"epoch": 1, "loss": 0.5}, 1)
    guarded.log({"epoch": 1, "loss": 0.4}, 2)
    guarded.finish({"test/ndcg@20": 0.1})


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_tracker_hears_the_start_each_epoch_and_the_end(tmp_path, caplog):
    tracker = Recorder()
    story(tracker, tmp_path)
    assert tracker.heard == [("start", "k", tmp_path.name), ("log", 1, 1), ("log", 1, 2),
                             ("finish", {"test/ndcg@20": 0.1})]
    assert not warnings(caplog)


@pytest.mark.parametrize(("moment", "heard"), [("start", 0), ("log", 1), ("finish", 3)])
@pytest.mark.parametrize("error", [RuntimeError("no network"), SystemExit(3), KeyboardInterrupt("typed in its thread")])
def test_a_tracker_that_raises_costs_one_warning_and_hears_no_more(moment, heard, error, tmp_path, caplog):
    tracker = Raises(moment, error)
    story(tracker, tmp_path)
    assert len(tracker.heard) == heard
    assert len(warnings(caplog)) == 1 and str(error) in warnings(caplog)[0]
    assert "the run goes on, and its own folder holds everything" in warnings(caplog)[0]


def test_a_tracker_that_hangs_is_left_behind(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(trackers, "PATIENCE", 0.1)
    story(Hangs(), tmp_path)
    Hangs.released.set()
    assert len(warnings(caplog)) == 1 and "no answer in 0.1 s" in warnings(caplog)[0]


def test_csv_needs_nothing_and_starts_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    story(trackers.Csv(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_that_is_not_installed_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'it needs: pip install "recot\[tensorboard\]"'):
        trackers.TensorBoard().start("k", {}, tmp_path)


def test_tensorboard_writes_into_the_folder_of_the_run(tmp_path, caplog):
    story(trackers.TensorBoard(), tmp_path)
    assert not warnings(caplog) and len(list((tmp_path / "tensorboard").iterdir())) == 1


WANDB = textwrap.dedent("""
    import logging, pathlib, sys
    from recot.record import trackers as track
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    track.PATIENCE = float(sys.argv[2])
    folder = pathlib.Path("run")
    folder.mkdir()
    guarded = track.Guarded(track.Wandb(mode=None if sys.argv[1] == "null" else sys.argv[1]))
    guarded.start("k", {"seed": 0}, folder)
    guarded.log({"epoch": 1, "loss": 0.5}, 1)
    guarded.finish({"test/ndcg@20": 0.1})
    assert "torch" not in sys.modules
    sys.stdout.write("reached the end")
""")


def test_wandb_without_a_key_never_asks_and_ends_at_once_with_one_warning(tmp_path):
    done = python(tmp_path, "-c", WANDB, "online", str(2 * PATIENCE))  # who asked would be waited for in vain
    assert done.returncode == 0 and done.stdout == "reached the end"
    assert done.stderr == ("logger=wandb does not work (RuntimeError: there is no key; run `wandb login` once, or use "
                           "logger.mode=offline); the run goes on, and its own folder holds everything\n")


def test_wandb_with_a_server_that_cannot_be_reached_gives_up_before_its_limit_with_one_warning(tmp_path):
    done = python(tmp_path, "-c", WANDB, "online", "3", WANDB_API_KEY="a" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 0 and done.stdout == "reached the end"
    assert done.stderr.count("logger=wandb does not work") == 1 and "Traceback" not in done.stderr
    assert "a" * 40 not in done.stderr


def test_wandb_offline_writes_into_the_folder_of_the_run_and_nowhere_else(tmp_path):
    done = python(tmp_path, "-c", WANDB, "offline", "30")
    assert done.returncode == 0 and done.stderr == ""
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("typed", "said", "mode"), [
    (None, {}, "online"), (None, {"WANDB_MODE": "offline"}, "offline"), (None, {"WANDB_MODE": "dryrun"}, "offline"),
    (None, {"WANDB_MODE": "disabled"}, "disabled"), (None, {"WANDB_MODE": "run"}, "online"),
    (None, {"WANDB_MODE": "shared"}, "shared"), (None, {"WANDB_DISABLED": "true"}, "disabled"),
    (None, {"WANDB_DISABLED": "false", "WANDB_MODE": "offline"}, "offline"),
    ("online", {"WANDB_MODE": "offline"}, "online"), ("offline", {"WANDB_DISABLED": "true"}, "offline"),
    ("disabled", {"WANDB_MODE": "online"}, "disabled"), ("offline", {"WANDB_MODE": "nonsense"}, "offline")])
def test_what_is_typed_comes_before_the_environment_and_that_before_the_network(typed, said, mode, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert trackers.Wandb(mode=typed).settled_mode() == mode


def test_a_mode_that_wandb_does_not_know_is_named_with_those_it_does(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("WANDB_MODE", "of\nline")
    monkeypatch.delenv("WANDB_DISABLED", raising=False)
    story(trackers.Wandb(), tmp_path)
    assert len(warnings(caplog)) == 1 and "\n" not in warnings(caplog)[0]
    assert "no mode of wandb; set it to online, offline or disabled, or give logger.mode=" in warnings(caplog)[0]


def test_wandb_is_left_to_the_environment_and_is_sent_nothing_of_the_machine(tmp_path):
    done = python(tmp_path, "-c", WANDB, "null", "30", "--a-word-of-the-command-line", WANDB_MODE="offline",
                  WANDB_PROJECT="a-project-of-mine", A_TOKEN="a-secret-of-mine")
    assert done.returncode == 0 and done.stderr == ""
    file, = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    sent = file.read_bytes()
    assert b"a-project-of-mine" in sent and b"test/ndcg@20" in sent
    for secret in ("a-secret-of-mine", "a-word-of-the-command-line", str(tmp_path), os.getcwd(), sys.executable):
        assert secret.encode() not in sent


def test_a_tracker_is_sent_the_config_without_places(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(trackers.Csv, "start", lambda self, key, config, folder: sent.append(config))
    monkeypatch.setattr(trackers.Guarded, "call", lambda self, action: action())
    execute(tmp_path, "model=popularity", "metrics=[recall@10]")  # whose paths.runs is tmp_path
    assert sent and str(tmp_path) not in json.dumps(sent[0]) and sent[0]["metrics"] == ["recall@10"]


def test_wandb_that_is_disabled_is_silent_and_writes_nothing(tmp_path):
    done = python(tmp_path, "-c", WANDB, "null", "30", WANDB_MODE="disabled")
    assert (done.returncode, done.stdout, done.stderr) == (0, "reached the end", "")
    assert not list(tmp_path.glob("run/wandb/*run-*"))
