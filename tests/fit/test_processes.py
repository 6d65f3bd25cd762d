"""Runs that several processes share: how they are started, what they agree on, and what becomes of those left alone."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from commands import TINY, command, execute, typed
from together import Failed, launched

from recot.fit import processes
from recot.fit.epochs import EpochEnd
from recot.record import experiment
from recot.request.errors import RequestError

KEPT = ("trainer.checkpoint_seconds=0", "trainer.max_epochs=4")


def trained(record):
    """What came of the training, and not how long it took."""
    return {name: record[name] for name in ("digest", "valid", "test", "best_epoch", "epochs", "key")}


def dies_after(epochs):
    """Let a process with the number 1 die at the end of an epoch."""
    def before(rank):
        if rank == 1:
            end = EpochEnd.on_train_epoch_end

            def on_train_epoch_end(self, trainer, step):
                if trainer.current_epoch == epochs:
                    os.kill(os.getpid(), signal.SIGKILL)
                end(self, trainer, step)

            EpochEnd.on_train_epoch_end = on_train_epoch_end
        return ()

    return before


@pytest.mark.parametrize(("words", "slurm"), [(("model=bprmf",), False), (("model=sclrec",), True),
                                              (("model=ir", "denoiser.rounds=1", "protocol=denoise"), False)])
def test_two_processes_leave_the_record_of_one(words, slurm, tmp_path):
    one = execute(tmp_path / "one", *words)
    first, second = launched(tmp_path / "two", *words, slurm=slurm)
    assert (one["processes"], first["processes"], second) == (1, 2, first)
    assert {*os.listdir(tmp_path / "one" / one["key"])} == {*os.listdir(tmp_path / "two" / one["key"])}
    assert first["key"] == one["key"] and first["epochs"] == one["epochs"]
    for name in ("valid", "test"):
        assert first[name] == pytest.approx(one[name], abs=1e-3)
    again = launched(tmp_path / "two", *words, slurm=slurm)
    assert [record["fresh"] for record in again] == [False, False]


def test_a_shared_evaluation_has_the_bits_of_one(tmp_path):
    words = ("model=bprmf", "data.n_users=300")  # more than one block of users
    assert launched(tmp_path / "two", *words)[0]["digest"] == execute(tmp_path / "one", *words)["digest"]


@pytest.mark.parametrize("count", [1, 2])
def test_one_that_dies_stops_the_others_and_any_number_goes_on(count, tmp_path):
    undisturbed = execute(tmp_path / "undisturbed", "model=bprmf", *KEPT)
    left, died = launched(tmp_path, "model=bprmf", *KEPT, before=dies_after(2))
    assert died is None and isinstance(left.error, processes.Gone)
    folder = tmp_path / undisturbed["key"]
    assert "another process of this run has ended" in json.loads((folder / "record.json").read_text())["error"]
    assert (folder / "last.ckpt").exists()
    rest = execute(tmp_path, "model=bprmf", *KEPT) if count == 1 else launched(tmp_path, "model=bprmf", *KEPT)[0]
    assert trained(rest) == trained(undisturbed) and rest["processes"] == count


def test_two_processes_go_on_with_what_one_has_left(tmp_path, monkeypatch):
    undisturbed = execute(tmp_path / "undisturbed", "model=bprmf", *KEPT)

    def observe(self, history):
        if len(history) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("recot.record.console.Bar.show", observe)
    with pytest.raises(KeyboardInterrupt):
        execute(tmp_path, "model=bprmf", *KEPT)
    monkeypatch.undo()
    assert trained(launched(tmp_path, "model=bprmf", *KEPT)[0]) == trained(undisturbed)


def test_random_numbers_of_each_process_go_on_after_an_interruption(tmp_path):
    """Dropout differs from process to process, so that a checkpoint has to hold the state of each."""
    words = ("model=cdae", *KEPT)
    undisturbed = launched(tmp_path / "undisturbed", *words)[0]
    launched(tmp_path, *words, before=dies_after(2))
    assert trained(launched(tmp_path, *words)[0]) == trained(undisturbed)


@pytest.mark.parametrize(("differs", "name"), [
    (lambda: ("seed=1",), "config"),
    (lambda: setattr(experiment, "source_digest", lambda config: "another") or (), "code")])
def test_processes_that_differ_are_refused_before_training(differs, name, tmp_path):
    found = launched(tmp_path / "runs", "model=bprmf", before=lambda rank: differs() if rank else ())
    for one in found:
        assert isinstance(one, Failed) and isinstance(one.error, RequestError)
        assert f"has another {name} than the first one" in str(one.error)
    assert not (tmp_path / "runs").exists()


def test_another_number_of_processes_than_asked_for_is_refused(tmp_path):
    found = launched(tmp_path / "runs", "model=bprmf", before=lambda rank: ("trainer.devices=3",))
    assert all("3, and 2 processes were started; give trainer.devices=2" in str(one.error) for one in found)
    assert not (tmp_path / "runs").exists()


def test_a_process_without_a_card_is_refused():
    with pytest.raises(RequestError, match="process 99 of this machine finds 0 CUDA devices; give a trainer.devices"):
        processes.take_card(99, bound=True)


def test_a_divergence_is_one_of_all(tmp_path):
    found = launched(tmp_path, "model=bprmf", "trainer.learning_rate=1e30")
    assert [type(one.error).__name__ for one in found] == ["Diverged"] * 2
    assert json.loads(next(tmp_path.glob("*/record.json")).read_text())["status"] == "diverged"


def test_a_command_starts_the_other_processes_by_itself_and_says_once_what_came_of_it(tmp_path):
    words = ("model=bprmf", *TINY, "trainer.devices=2")
    done = typed(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("record: ") == 1 and done.stderr.count("epoch 2/2") == 1
    record = json.loads(next(Path(tmp_path, "runs").glob("*/record.json")).read_text())
    assert record["processes"] == 2
    assert trained(record) == trained(execute(tmp_path / "one", "model=bprmf"))
    assert "finished before" in typed(tmp_path, *words).stdout


def test_torchrun_starts_the_processes(tmp_path):
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "recot.run")
    done = command(tmp_path, *torchrun, "model=bprmf", *TINY, "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("record: ") == 1 and done.stderr.count("epoch 2/2") == 1


@pytest.mark.parametrize(("program", "error", "told"), [
    ("raise SystemExit(2 * int(os.environ['RANK']))", RequestError, "process 1 of 2 says why"),
    ("raise SystemExit(3)", RuntimeError, r"process \d of 2 ended with exit code 3, and the others were stopped; the "
     "same command goes on"),
    ("os.environ['RANK'] == '1' and os.kill(os.getpid(), 9); time.sleep(600)", RuntimeError,
     "process 1 of 2 was ended by SIGKILL"),
    ("os.environ['RANK'] == '1' and os.kill(os.getppid(), 15); time.sleep(600)", KeyboardInterrupt, "SIGTERM|15")])
def test_what_becomes_of_processes_that_were_started(program, error, told):
    handlers, variables = [signal.getsignal(number) for number in (2, 15)], dict(os.environ)
    with pytest.raises(error, match=told):
        processes.start(2, ["-c", f"import os, time; {program}"], RECOT_RUNS="elsewhere")
    assert [signal.getsignal(number) for number in (2, 15)] == handlers and dict(os.environ) == variables


def test_processes_that_were_started_end_with_their_parent():
    """In a fork whose own fork follows it: the latter ends though nobody waits for it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            processes.end_with(os.getppid())
            os.write(writing, b".")
            time.sleep(600)
        os.read(reading, 1)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 1) == b""  # once the last process that may write is gone
