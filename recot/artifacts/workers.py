"""Carries out a list of runs in processes of their own: one that fails, hangs or is killed costs only itself."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from filelock import FileLock

from recot.record.store import Runs
from recot.request.command import SIGNALS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run that is wanted.

    Attributes:
        key: of its record. command: what a user types for it.
        config: checked. choices: preset of each config group.
        estimate: seconds it will take, or None where nothing like it was run yet.
        sources: digest of the code it depends on; one that is forced is not started where that has made it meanwhile.
    """

    key: str
    command: str
    config: dict[str, Any]
    choices: dict[str, str]
    estimate: float | None = None
    sources: str | None = None


def leave_to_parent(number: int, frame: object) -> None:
    """Do nothing on a signal. SIG_IGN would be inherited by programs that a run starts, and Lightning would call it."""


def perform(job: Job) -> None:
    """The work of a worker that runs jobs."""
    from recot.record import experiment

    experiment.run(job.config, job.choices, job.command)


def serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """Work on each task that comes through the pipe until the pipe closes; end at once when the parent is gone.

    The answer to a task is what ``work`` returns, or a text that names the exception it raised.
    """
    parent = multiprocessing.parent_process()

    def follow() -> None:
        wait([parent.sentinel])  # type: ignore[union-attr]  # a worker has a parent
        os._exit(1)  # nothing is lost: records and checkpoints appear whole, and the run resumes

    threading.Thread(target=follow, daemon=True).start()
    for number in SIGNALS:  # a terminal, a scheduler and Ctrl-C reach the whole group; the parent decides
        signal.signal(number, leave_to_parent)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recot").setLevel(logging.WARNING)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            connection.send(work(task))
        except Exception as error:  # the record of a run holds the traceback
            connection.send(f"{type(error).__name__}: {error}")


class Worker:
    """A process that works on one thing at a time.

    Args:
        work: what it does; a function that a new process can import.
    """

    def __init__(self, work: Callable[[Any], Any] = perform) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, work), daemon=True)
        self.process.start()
        other.close()
        self.job: Job | None = None
        self.claim: FileLock | None = None
        self.since = 0.0

    def submit(self, job: Job, claim: FileLock) -> None:
        """Hand over a job, and keep the claim on it until :meth:`free`."""
        self.job, self.claim, self.since = job, claim, time.monotonic()
        self.connection.send(job)

    def free(self) -> None:
        """The job has ended, one way or another."""
        if self.claim:
            self.claim.release()
        self.job, self.claim = None, None

    def result(self) -> Any:
        """What the work returned, or a text that says what went wrong; the pipe must be readable."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            return f"the process ended {how}; too little memory is the usual reason"

    def stop(self) -> None:
        """End the process; a run in it resumes from its last checkpoint."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.free()


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``error`` is None where there is a record now."""

    job: Job
    seconds: float
    error: str | None


class Crew:
    """Jobs, and the processes that work on them; see :func:`carry_out` for what the arguments mean.

    Attributes:
        waiting: jobs not started, most wanted first. left: jobs given up for lack of time.
        busy, idle: processes with and without a job.
    """

    def __init__(self, jobs: Sequence[Job], runs: Runs, workers: int, keep: bool, limit: float | None,
                 budget: float | None, done: Callable[[Outcome], None], started: Callable[[Job], None]):
        self.runs, self.workers, self.keep, self.done, self.started = runs, workers, keep, done, started
        self.limit = math.inf if limit is None else limit
        self.end = math.inf if budget is None else time.monotonic() + budget
        self.waiting, self.left = list(jobs), list[Job]()
        self.busy, self.idle = list[Worker](), list[Worker]()

    def remaining(self) -> float:
        """Seconds of the budget."""
        return self.end - time.monotonic()

    def start(self) -> None:
        """Give every free process the first job that nobody works on."""
        for job in list(self.waiting):
            if len(self.busy) == self.workers:
                return
            if self.runs.busy(job.key):
                continue
            if record := self.made(job):  # by another process, meanwhile
                well = record["status"] == "done"
                self.done(Outcome(job, 0.0, None if well else record.get("error", "it diverged")))
            elif self.remaining() <= (job.estimate or 0):
                self.left.append(job)
            elif claim := self.runs.claim(job.key):  # a run locks itself only once its process has started
                worker = self.idle.pop() if self.idle else Worker()
                self.started(job)
                worker.submit(job, claim)
                self.busy.append(worker)
            else:
                continue
            self.waiting.remove(job)

    def made(self, job: Job) -> Mapping[str, Any] | None:
        """The record of a job that is already done (a forced job: by today's code); None if the job has to start."""
        try:
            record = self.runs.get(job.key)
        except ValueError:  # it is damaged, which the run itself says
            return None
        if record is None or record["status"] not in ("done", "diverged"):
            return None
        return record if not job.config["force"] or record.get("sources") == job.sources else None

    def collect(self) -> None:
        """Wait a second for a process to finish, and see to those that did or whose time is up."""
        wait([worker.connection for worker in self.busy], timeout=1.0)
        for worker in list(self.busy):
            job, seconds = worker.job, time.monotonic() - worker.since
            assert job is not None
            if worker.connection.poll():
                self.release(worker, Outcome(job, seconds, worker.result()), hung=False)
            elif seconds > self.limit:
                self.release(worker, Outcome(job, seconds, f"gave up after {self.limit:.0f} s"), hung=True)
            elif self.remaining() <= 0:
                self.left.append(job)
                self.busy.remove(worker)
                worker.stop()

    def release(self, worker: Worker, outcome: Outcome, hung: bool) -> None:
        """Report what became of a job, and keep its process for another where it can take one."""
        self.busy.remove(worker)
        if self.keep and not hung and worker.process.is_alive():
            worker.free()
            self.idle.append(worker)
        else:
            worker.stop()
        if outcome.error:
            note_failure(self.runs, outcome.job, outcome.error, time.time() - outcome.seconds)
        self.done(outcome)

    def stop(self) -> None:
        """End all processes; their runs resume from their checkpoints."""
        for worker in (*self.idle, *self.busy):
            worker.stop()


def carry_out(jobs: Sequence[Job], runs: Runs, *, workers: int = 1, keep: bool = False, limit: float | None = None,
              budget: float | None = None, done: Callable[[Outcome], None] = lambda outcome: None,
              started: Callable[[Job], None] = lambda job: None) -> list[Job]:
    """Run the jobs in order, several at a time.

    A job that another process works on is passed over as long as it does. A failed one leaves a record with its error
    and never stops the others.

    Args:
        jobs: most wanted first, without finished ones.
        workers: how many run at once.
        keep: let a process run several jobs, which saves the start of Python and makes the memory in records an upper
            bound. A process that dies is replaced either way.
        limit: seconds after which a job is given up as hung.
        budget: seconds for everything. A job that is estimated to end later is not started; one of unknown length is,
            and is stopped when the time is up, to resume from its checkpoint another time.
        started, done: called when a job starts and ends.

    Returns:
        The jobs that were not finished: for lack of time, or because another process still works on them.
    """
    crew = Crew(jobs, runs, workers, keep, limit, budget, done, started)
    try:
        while crew.waiting or crew.busy:
            crew.start()
            if crew.busy:
                crew.collect()
            elif crew.remaining() <= 0:
                break
            elif crew.waiting:
                time.sleep(1.0)  # only jobs of other processes are left
    finally:
        crew.stop()
    return [*crew.left, *crew.waiting]


def answers(work: Callable[[Any], Any], questions: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    """Work on all questions, several at a time.

    Args:
        work: a function of one question that a new process can import. workers: how many processes at once.

    Yields:
        The number of a question, from 0, and its answer, in the order in which the answers come. If the work raised an
        error or its process died, the answer is a text that says so.
    """
    waiting = list(reversed(list(enumerate(questions))))
    busy: dict[Worker, int] = {}
    idle: list[Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = idle.pop() if idle else Worker(work)
                busy[worker], question = waiting.pop()
                worker.connection.send(question)
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                answer, number = worker.result(), busy.pop(worker)
                if worker.process.is_alive():
                    idle.append(worker)
                else:
                    worker.stop()
                yield number, answer
    finally:
        for worker in (*busy, *idle):
            worker.stop()


def note_failure(runs: Runs, job: Job, error: str, begun: float) -> None:
    """Leave a record of a run whose process could not write one itself since it was ``begun`` (seconds since 1970)."""
    with runs.lock(job.key):
        file = runs.folder(job.key) / "record.json"
        try:
            record = runs.get(job.key)
        except ValueError:  # the record is damaged, and stays for whoever wants to see why
            return
        recorded = record is not None and (record["status"] in ("done", "diverged") or file.stat().st_mtime >= begun)
        if not recorded:  # or what stopped an earlier attempt would be taken for what stopped this one
            runs.put(job.key, {"key": job.key, "status": "failed", "error": error, "command": job.command,
                               "seed": job.config["seed"]})
