"""Trackers: what they receive, and that none of them can harm or delay a run."""

import logging
import sys
import textwrap
import threading
import time

import pytest
from commands import python

from recot import track


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
    guarded = track.Guarded(tracker)
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
    monkeypatch.setattr(track, "PATIENCE", 0.1)
    story(Hangs(), tmp_path)
    Hangs.released.set()
    assert len(warnings(caplog)) == 1 and "no answer in 0.1 s" in warnings(caplog)[0]


def test_csv_needs_nothing_and_starts_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(threading, "Thread", None)
    story(track.Csv(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_that_is_not_installed_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'it needs: pip install "recot\[tensorboard\]"'):
        track.TensorBoard().start("k", {}, tmp_path)


def test_tensorboard_writes_into_the_folder_of_the_run(tmp_path, caplog):
    story(track.TensorBoard(), tmp_path)
    assert not warnings(caplog) and len(list((tmp_path / "tensorboard").iterdir())) == 1


WANDB = textwrap.dedent("""
    import logging, pathlib, sys
    from recot import track
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    track.PATIENCE = float(sys.argv[2])
    folder = pathlib.Path("run")
    folder.mkdir()
    guarded = track.Guarded(track.Wandb(mode=sys.argv[1]))
    guarded.start("k", {"seed": 0}, folder)
    guarded.log({"epoch": 1, "loss": 0.5}, 1)
    guarded.finish({"test/ndcg@20": 0.1})
    assert "torch" not in sys.modules
    sys.stdout.write("reached the end")
""")


def test_wandb_without_a_key_never_asks_and_ends_at_once_with_one_warning(tmp_path):
    began = time.monotonic()
    done = python(tmp_path, "-c", WANDB, "online", "30")
    assert done.returncode == 0 and done.stdout == "reached the end" and time.monotonic() - began < 20
    assert done.stderr == ("logger=wandb does not work (RuntimeError: there is no key; run `wandb login` once, or use "
                           "logger.mode=offline); the run goes on, and its own folder holds everything\n")


def test_wandb_with_a_server_that_cannot_be_reached_gives_up_before_its_limit_with_one_warning(tmp_path):
    began = time.monotonic()
    done = python(tmp_path, "-c", WANDB, "online", "3", WANDB_API_KEY="a" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 0 and done.stdout == "reached the end" and time.monotonic() - began < 30
    assert done.stderr.count("logger=wandb does not work") == 1 and "Traceback" not in done.stderr
    assert "a" * 40 not in done.stderr


def test_wandb_offline_writes_into_the_folder_of_the_run_and_nowhere_else(tmp_path):
    done = python(tmp_path, "-c", WANDB, "offline", "30")
    assert done.returncode == 0 and done.stderr == ""
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
