"""Runs in a queue: what happens to them there, and what two commands at once do.

The queue is that of submitit's local executor, whose jobs are processes of this machine, and whose signals are those
that Slurm sends. tests/test_real_slurm.py asks a real Slurm where there is one.
"""

import json
import os
import subprocess
import time

import pytest
from processes import alive, wait_for
from queued import Queue

from recot.artifacts import slurm
from recot.artifacts.jobs import carry_out, made
from recot.artifacts.slurm import executor
from recot.request.errors import RequestError
from recot.request.launchers import check_launcher


@pytest.fixture
def queue(tmp_path, monkeypatch):
    queue = Queue(tmp_path, monkeypatch)
    yield queue
    for job in queue.jobs:
        job._process.kill()
        job._process.wait()
    for pid in {pid for key in "abc" for pid in queue.starts(key) if alive(pid)}:
        os.kill(int(pid), 9)


def test_jobs_that_end_well_that_raise_and_that_die_are_told_apart_and_leave_a_record(queue):
    outcomes = []
    jobs = [queue.job("a", "ends well"), queue.job("b", "raises"), queue.job("c", "dies")]
    assert carry_out(jobs, queue.runs, queue.launcher(), done=outcomes.append) == []
    errors = {outcome.job.key: outcome.error for outcome in outcomes}
    assert errors["a"] is None and errors["b"] == "ArithmeticError: no luck"
    assert "left the queue without a record; too little memory" in errors["c"]
    assert errors["c"].endswith(f"its log is {queue.log(2)}") and "Loading pickle" in queue.log(2).read_text()
    assert queue.runs.get("c")["status"] == "failed" and "ArithmeticError: no luck" in queue.log(1).read_text()
    assert not list((queue.runs.root / slurm.FOLDER).glob("*.json")), "what ended is in no queue"


@pytest.mark.parametrize("limit", [60, None], ids=["stopped by its limit", "pre-empted"])
def test_a_run_that_is_stopped_goes_on_from_its_checkpoint_and_is_no_failure(queue, limit):
    told, launcher = [], queue.launcher(limit)
    launcher.begin([(queue.job("a", "goes on"), queue.runs.claim("a"))])
    wait_for(lambda: (queue.runs.folder("a") / "last.ckpt").exists())
    stop(queue, "a")
    while launcher.busy:
        told += launcher.ended()
    assert [outcome.error for outcome in told] == [None] and len(queue.starts("a")) == 2 and len(queue.jobs) == 1
    assert ("this job is timed-out" if limit else "this job is preempted") in queue.log(0).read_text()


def stop(queue, key):
    """The signal that Slurm sends to a job before it stops it."""
    from submitit.local.local import LocalJobEnvironment

    os.kill(int(queue.starts(key)[-1]), LocalJobEnvironment._usr_sig())


def test_a_run_that_never_comes_to_a_checkpoint_is_given_up(queue):
    job = queue.job("a", "hangs")
    task = queue.task(job)
    for _ in range(slurm.FRUITLESS):
        task = task.checkpoint().function
    assert task.checkpoint() is None
    (queue.runs.folder("a") / "round1").mkdir(parents=True)
    (queue.runs.folder("a") / "round1" / "last.ckpt").touch()
    again = task.checkpoint().function
    assert again.fruitless == 0 and again.job == job and again.checkpoint().function.fruitless == 1


def test_the_same_command_typed_again_waits_for_what_is_queued_and_submits_nothing(queue, caplog):
    job, told = queue.job("a", "waits"), []
    first, second = queue.launcher(), queue.launcher()
    first.begin([(job, queue.runs.claim("a"))])
    first.stop()
    assert "1 runs stay in the queue" in caplog.text and f"scancel {queue.jobs[0].job_id}" in caplog.text
    second.begin([(job, queue.runs.claim("b"))])  # the node may have the claim on the run itself by now
    (queue.runs.folder("a") / "go").touch()
    while second.busy:
        told += second.ended()
    assert [outcome.error for outcome in told] == [None] and len(queue.jobs) == len(queue.starts("a")) == 1


def test_a_run_that_a_local_pool_has_begun_is_left_to_it_and_submitted_again_only_if_that_one_dies(queue):
    job, told = queue.job("a", "ends well"), []
    launcher, claim = queue.launcher(), queue.runs.claim("a")  # that of the local pool
    launcher.begin([(job, queue.runs.claim("b"))])
    with queue.runs.lock("a"):
        while launcher.busy:
            told += launcher.ended()
    assert told == [job] and queue.starts("a") == [], "the job of the queue came too late, and ended"
    claim.release()
    told.clear()
    assert carry_out([job], queue.runs, queue.launcher(), done=told.append) == []
    assert [outcome.error for outcome in told] == [None] and len(queue.starts("a")) == 1


def test_a_run_in_the_queue_keeps_a_local_pool_away_once_it_has_begun(queue):
    job, told, launcher = queue.job("a", "waits"), [], queue.launcher()
    launcher.begin([(job, queue.runs.claim("a"))])
    wait_for(lambda: queue.starts("a"))
    assert queue.runs.claim("a") is None and made(queue.runs, job) is None
    (queue.runs.folder("a") / "go").touch()
    while launcher.busy:
        told += launcher.ended()
    assert [outcome.error for outcome in told] == [None]
    wait_for(lambda: queue.runs.claim("a"))  # once the process on the node has ended


@pytest.mark.parametrize(("state", "newer", "again"), [
    ("NODE_FAIL", False, True), ("PREEMPTED", False, True), ("TIMEOUT", True, True), ("TIMEOUT", False, False),
    ("OUT_OF_MEMORY", True, False), ("CANCELLED", True, False)])
def test_what_slurm_says_decides_whether_a_job_that_left_no_record_begins_again(queue, state, newer, again):
    job, launcher = queue.job("a", ""), queue.launcher()
    queue.runs.folder("a").mkdir(parents=True)
    launcher.queued["a"] = slurm.Queued("7", time.time() - 60)
    if newer:
        (queue.runs.folder("a") / "last.ckpt").touch()
    told = launcher.told(job, state)
    assert told == job if again else state in told.error and "job 7 left the queue" in told.error


def test_a_queue_that_does_not_answer_ends_nothing_and_gets_nothing_twice(queue):
    job, launcher = queue.job("a", ""), queue.launcher(states=lambda ids: None)
    launcher.busy["a"], launcher.queued["a"] = job, slurm.Queued("7", time.time())
    assert list(launcher.ended()) == [] and launcher.busy == {"a": job}
    slurm.ticket(queue.runs, "a").parent.mkdir(parents=True, exist_ok=True)
    slurm.ticket(queue.runs, "a").write_text(json.dumps({"id": "7", "since": 0.0}))
    with pytest.raises(RuntimeError, match="the queue does not answer"):
        launcher.begin([(job, claim := queue.runs.claim("a"))])
    assert not claim.is_locked and queue.jobs == []


def test_a_job_that_no_waiting_starts_is_named_once_with_what_helps(queue, caplog):
    job, launcher = queue.job("a", ""), queue.launcher(states=lambda ids: {"7": "PENDING (PartitionConfig)"})
    launcher.busy["a"], launcher.queued["a"] = job, slurm.Queued("7", time.time())
    assert [*launcher.ended(), *launcher.ended()] == [] and launcher.busy == {"a": job}
    assert caplog.text.count("job 7 will not start as it is: PENDING (PartitionConfig); `scancel 7` takes it out") == 1


@pytest.mark.parametrize(("line", "state"), [
    ("7_0 PENDING PartitionConfig", "PENDING (PartitionConfig)"), ("7_0 PENDING Resources", "PENDING"),
    ("7_0 PENDING BeginTime", "PENDING"), ("7_0 RUNNING None", "RUNNING"), ("7_0 RUNNING", "RUNNING"),
    ("7_0 FAILED NonZeroExitCode", "FAILED"),
    ("7_0 PENDING Nodes required for job are DOWN, DRAINED", "PENDING")])
def test_the_state_of_a_job_is_told_with_the_reasons_that_no_waiting_changes(line, state, monkeypatch):
    answer = subprocess.CompletedProcess([], 0, f"{line}\n", "")
    monkeypatch.setattr(slurm.subprocess, "run", lambda *given, **settings: answer)
    assert slurm.states(["7_0"]) == {"7_0": state}


def test_another_machine_may_see_a_record_late(queue):
    job, launcher = queue.job("a", ""), queue.launcher(patience=3600.0)
    launcher.queued["a"] = slurm.Queued("7", time.time())
    assert launcher.told(job, "") is None
    queue.runs.put("a", {"status": "done", "key": "a", "command": "", "config": {}, "model": "", "split": ""})
    assert launcher.told(job, "").error is None


@pytest.mark.parametrize(("settings", "told"), [
    ({"partitoin": "gpu"}, "--slurm partitoin=gpu: Unknown argument 'partitoin' for executor 'slurm'"),
    ({"mem_gb": "much"}, "--slurm mem_gb=much: Parameter \"mem_gb\" expected type")])
def test_what_slurm_is_asked_for_is_checked_before_anything_is_submitted(tmp_path, settings, told):
    with pytest.raises(RequestError) as raised:
        executor(tmp_path, 1, None, settings, "local")
    assert str(raised.value).startswith(told)


def test_what_is_not_there_is_named_with_what_brings_it(monkeypatch):
    with pytest.raises(RequestError, match="the launcher slurm needs a package .* pip install 'recot.slurm.'"):
        check_launcher("slurm", "no_such_package.at_all")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestError, match="there is no sbatch here; type the command on a machine of the cluster"):
        check_launcher("submitit_slurm", "submitit")
    check_launcher("submitit_local", "submitit")
