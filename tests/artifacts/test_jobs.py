"""Runs in processes of their own: what one of them does to the others.

The processes here are forks of this one, which has imported all they need. tests/test_tables.py runs a paper with
workers as users get them.
"""

import multiprocessing
import os
import signal
import textwrap
import time
from dataclasses import replace

import pytest
from commands import PATIENCE, TINY, composed
from processes import alive, child_processes, wait_for

from recot.artifacts.jobs import Job, Local, carry_out, made, note_failure, one_by_one
from recot.record.store import Runs
from recot.request.keys import key

PLUGIN = """
    import os, signal, time
    from recot.closed.popularity import Popularity

    class Raises(Popularity):
        def fit(self, split):
            raise ArithmeticError("no luck")

    class Dies(Popularity):
        def fit(self, split):
            os.kill(os.getpid(), signal.SIGKILL)

    class Hangs(Popularity):
        def fit(self, split):
            time.sleep(86400)
"""


CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def forks(monkeypatch):
    """The process that forks workers would import torch and Lightning again, which costs more than what is asked."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: CONTEXT)


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Makes a job of a class in the plugin, or of a good model."""
    name = f"misbehaving_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(tmp_path)

    def make(kind, seed=0):
        words = [*TINY, "model=popularity", f"seed={seed}", f"plugins=[{name}]"]
        if kind != "good":
            words.append(f"model._target_={name}.{kind}")
        config, choices = composed(*words)
        config["paths"] = {"runs": str(tmp_path / "runs"), "cache": str(tmp_path / "cache")}
        return Job(key(config, kind), f"python -m recot.run {' '.join(words)}", config, choices)

    def digest_of(job):
        from recot.record.build import make as built

        return Job(key(job.config, built(job.config["data"]).digest()), job.command, job.config, job.choices)

    return lambda kind, seed=0: digest_of(make(kind, seed))


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "runs")


@pytest.fixture
def enough(jobs, runs):
    """Ten times what a good job takes on this machine at its present load, the start of its process included."""
    begin = time.monotonic()
    assert carry_out([jobs("good", 99)], runs, Local()) == []
    return 10 * (time.monotonic() - begin) + 2


def test_row_20_jobs_that_raise_die_or_hang_leave_a_record_and_the_others_finish(jobs, runs, enough):
    wanted = [jobs("Raises"), jobs("good", 1), jobs("Dies"), jobs("good", 2), jobs("Hangs"), jobs("good", 3)]
    outcomes = []
    assert carry_out(wanted, runs, Local(keep=True, limit=enough), done=outcomes.append) == []
    errors = {outcome.job.key: outcome.error for outcome in outcomes}
    assert "ArithmeticError: no luck" in errors[wanted[0].key]
    assert "SIGKILL" in errors[wanted[2].key] and "memory" in errors[wanted[2].key]
    assert errors[wanted[4].key] == f"gave up after {enough:.0f} s"
    assert [errors[wanted[place].key] for place in (1, 3, 5)] == [None] * 3
    records = [runs.get(job.key) for job in wanted]
    assert [record["status"] for record in records] == ["failed", "done"] * 3
    assert "ArithmeticError" in records[0]["traceback"] and "SIGKILL" in records[2]["error"]
    assert records[4]["command"] == wanted[4].command


def hold(root, name, ready, release):
    with Runs(root).lock(name):
        ready.set()
        release.wait(PATIENCE)


def test_row_21_a_job_of_another_process_is_passed_over_and_taken_last(jobs, runs):
    first, second = jobs("good", 1), jobs("good", 2)
    ready, release = CONTEXT.Event(), CONTEXT.Event()
    other = CONTEXT.Process(target=hold, args=(runs.root, first.key, ready, release))
    other.start()
    assert ready.wait(PATIENCE)
    order = []

    def done(outcome):
        order.append(outcome.job.key)
        release.set()

    assert carry_out([first, second], runs, Local(keep=True), done=done) == []
    other.join()
    assert order == [second.key, first.key]


def test_a_job_that_another_crew_has_claimed_but_not_begun_is_passed_over(jobs, runs):
    first, second, order = jobs("good", 1), jobs("good", 2), []
    claim = runs.claim(first.key)
    assert claim is not None and runs.claim(first.key) is None and not runs.busy(first.key)

    def done(outcome):
        order.append(outcome.job.key)
        claim.release()

    assert carry_out([first, second], runs, Local(), done=done) == [] and order == [second.key, first.key]
    for job in (first, second):
        assert (again := runs.claim(job.key)) is not None, "a crew gives its claims back"
        again.release()


def finished(job):
    """The least that the record of a finished run holds."""
    return {"status": "done", "key": job.key, "command": job.command, "config": {}, "model": "", "split": ""}


def test_a_job_that_another_process_finished_meanwhile_is_not_run_again(jobs, runs):
    job, started = jobs("good"), []
    runs.put(job.key, record := finished(job))
    outcomes = []
    carry_out([job], runs, Local(), done=outcomes.append, started=started.append)
    assert started == [] and outcomes[0].error is None and runs.get(job.key) == record


def test_a_job_that_diverged_in_another_process_meanwhile_is_not_started_again(tmp_path):
    runs, told = Runs(tmp_path), []
    runs.put("k", {"key": "k", "status": "diverged", "error": "Diverged: the training loss was nan"})
    assert carry_out([Job("k", "", {"force": False, "seed": 0}, {})], runs, Local(), done=told.append) == []
    assert [outcome.error for outcome in told] == ["Diverged: the training loss was nan"]


def test_a_job_whose_record_is_damaged_is_reported_and_the_record_stays(tmp_path):
    runs = Runs(tmp_path)
    file = runs.put("k", {})
    file.write_text("{")
    note_failure(runs, Job("k", "", {"force": False, "seed": 0}, {}), "no luck", 0.0)
    assert made(runs, Job("k", "", {"force": False}, {})) is None
    assert file.read_text() == "{"


def test_a_job_that_another_crew_has_made_again_by_the_same_code_is_not_made_a_third_time(jobs, runs):
    job = jobs("good")
    again = replace(job, config=job.config | {"force": True}, sources="today")
    for sources, times in (("today", 0), ("before", 1)):
        runs.put(job.key, finished(job) | {"sources": sources})
        started = []
        carry_out([again], runs, Local(), started=started.append)
        assert len(started) == times


def test_a_job_that_dies_is_not_told_to_have_failed_for_an_older_reason(jobs, runs):
    job = jobs("Dies")
    file = runs.put(job.key, {"status": "failed", "key": job.key, "error": "OSError: the disk is full"})
    os.utime(file, (1.0, 1.0))
    carry_out([job], runs, Local())
    assert "SIGKILL" in runs.get(job.key)["error"]


def test_a_budget_starts_nothing_that_would_not_fit_and_stops_what_it_misjudged(jobs, runs, enough):
    long, short, hanging = jobs("good", 1), jobs("good", 2), jobs("Hangs")
    long = Job(long.key, long.command, long.config, long.choices, estimate=3600.0)
    short = Job(short.key, short.command, short.config, short.choices, estimate=0.1)
    begin = time.monotonic()
    left = carry_out([long, short, hanging], runs, Local(keep=True), budget=enough)
    assert time.monotonic() - begin >= enough
    assert {job.key for job in left} == {long.key, hanging.key}
    assert runs.get(short.key)["status"] == "done" and runs.get(long.key) is None
    assert (runs.get(hanging.key) or {"status": "running"})["status"] == "running"


def test_a_launcher_makes_a_run_for_a_study_as_the_study_would(jobs):
    good, raises, make = jobs("good"), jobs("Raises"), one_by_one(Local())
    first, again = (make(good.config, good.choices, good.command, good.key) for _ in range(2))
    assert first["key"] == good.key and first["fresh"] and again == {**first, "fresh": False}
    with pytest.raises(RuntimeError, match="ArithmeticError: no luck"):
        make(raises.config, raises.choices, raises.command, raises.key)


def test_no_worker_outlives_its_parent(jobs, runs, tmp_path):
    parent = CONTEXT.Process(target=carry_out, args=([jobs("Hangs")], runs, Local()))
    parent.start()
    wait_for(lambda: runs.busy(jobs("Hangs").key))
    children = child_processes(parent.pid)  # not before: a child that was forked a moment ago may be the tracker
    assert children
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    wait_for(lambda: not any(alive(child) for child in children))
    assert not runs.busy(jobs("Hangs").key)
