"""Carries out a list of runs in processes of their own: one that fails, hangs or is killed costs only itself."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock

from recot.record.store import Runs
from recot.request.command import SIGNALS, quiet_srun

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

log = logging.getLogger(__name__)

LIBRARIES = ["torch", "lightning.pytorch", "torch._dynamo", "hydra", "pandas", "pyarrow.parquet", "scipy.sparse",
             "scipy.stats", "filelock", "rich.progress", "yaml"]
"""What the process that forks workers imports before, which costs 3 s of CPU. Importing them computes nothing, so no
OpenMP thread and no CUDA context is there to be lost in a fork. The modules of recot are not among them: each worker
imports them as they are when it starts, which takes 0.1 s, since a record names the code that made it."""


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


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``error`` is None where there is a record now."""

    job: Job
    seconds: float
    error: str | None


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
    quiet_srun()
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


def context() -> ForkServerContext | SpawnContext:
    """How Python starts workers. The process that forks is asked through a socket below the folder of temporary files,
    whose name the system allows 107 bytes (https://github.com/python/cpython/issues/132124); a longer one costs each
    worker the imports again.
    """
    if len(os.fsencode(tempfile.gettempdir())) >= 70:
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(LIBRARIES)
    return forking


class Worker:
    """A process that works on one thing at a time.

    It is a fork of a process that has imported :data:`LIBRARIES` and does nothing else. That process ends once its
    workers have ended, and the process that wanted them.

    Args:
        work: what it does; a function that a new process can import.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        started = context()
        self.connection, other = started.Pipe()
        self.process = started.Process(target=serve, args=(other, work), daemon=True)
        self.process.start()
        other.close()
        self.since = 0.0

    def submit(self, task: Any) -> None:
        """Hand over a task."""
        self.since = time.monotonic()
        self.connection.send(task)

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


class Crew:
    """Processes that work on tasks, each on one at a time.

    Args:
        work: what they do; a function of a task that a new process can import. workers: how many at once.
        keep: let a process work on several tasks. One that dies is replaced either way.

    Attributes:
        busy: name of a task -> the process that works on it. idle: processes without a task.
    """

    def __init__(self, work: Callable[[Any], Any], workers: int, keep: bool = True):
        self.work, self.workers, self.keep = work, workers, keep
        self.busy, self.idle = dict[Any, Worker](), list[Worker]()

    def give(self, name: Any, task: Any) -> None:
        """Let a process work on a task; there is one as long as fewer than ``workers`` are busy."""
        worker = self.idle.pop() if self.idle else Worker(self.work)
        worker.submit(task)
        self.busy[name] = worker

    def ended(self, limit: float = math.inf) -> Iterator[tuple[Any, float, Any]]:
        """Wait a second for a process to finish, and see to those that did or that took too long.

        Args:
            limit: seconds for a task; then its process is ended.

        Yields:
            Name of a task, the seconds it took, and its answer. If the work raised an error, or its process died or was
            ended, the answer is a text that says so.
        """
        wait([worker.connection for worker in self.busy.values()], timeout=1.0)
        for name, worker in list(self.busy.items()):
            seconds = time.monotonic() - worker.since
            if (answered := worker.connection.poll()) or seconds > limit:
                answer = worker.result() if answered else f"gave up after {limit:.0f} s"
                del self.busy[name]
                if self.keep and answered and worker.process.is_alive():
                    self.idle.append(worker)
                else:
                    worker.stop()
                yield name, seconds, answer

    def stop(self) -> None:
        """End all processes."""
        for worker in (*self.idle, *self.busy.values()):
            worker.stop()
        self.busy, self.idle = {}, []


def answers(work: Callable[[Any], Any], questions: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    """Work on all questions, several at a time.

    Args:
        work: a function of one question that a new process can import. workers: how many processes at once.

    Yields:
        The number of a question, from 0, and its answer, in the order in which the answers come. If the work raised an
        error or its process died, the answer is a text that says so.
    """
    waiting, crew = list(enumerate(questions))[::-1], Crew(work, workers)
    try:
        while waiting or crew.busy:
            while waiting and len(crew.busy) < workers:
                crew.give(*waiting.pop())
            for number, _, answer in crew.ended():
                yield number, answer
    finally:
        crew.stop()


class Launcher(Protocol):
    """Where jobs are worked on: processes of this machine, or the queue of a cluster.

    Attributes:
        room: how many more jobs it takes now. busy: the jobs that were begun, by key.
    """

    @property
    def room(self) -> int: ...

    @property
    def busy(self) -> Mapping[str, Job]: ...

    def begin(self, jobs: Sequence[tuple[Job, FileLock]]) -> None:
        """Take jobs, each with the claim on it, which the launcher gives back once nobody else would begin the job."""

    def ended(self) -> Iterator[Outcome | Job]:
        """Wait a moment, and tell what became of jobs; a job by itself has to be begun again some time."""

    def stop(self) -> None:
        """Nobody waits for the jobs any more."""


class Local:
    """Works on jobs in processes of this machine. A claim is held as long as the process works.

    Args:
        workers: how many at once.
        keep: let a process run several jobs, which saves its start (0.4 s) and makes the memory in records an upper
            bound.
        limit: seconds after which a job is given up as hung.
    """

    def __init__(self, workers: int = 1, keep: bool = False, limit: float | None = None):
        self.crew, self.limit = Crew(perform, workers, keep), math.inf if limit is None else limit
        self.claims: dict[str, FileLock] = {}
        self.busy: dict[str, Job] = {}

    @property
    def room(self) -> int:
        """How many more jobs it takes now."""
        return self.crew.workers - len(self.busy)

    def begin(self, jobs: Sequence[tuple[Job, FileLock]]) -> None:
        """See :class:`Launcher`."""
        for job, claim in jobs:  # a run locks itself only once its process has started
            self.busy[job.key], self.claims[job.key] = job, claim
            self.crew.give(job.key, job)

    def ended(self) -> Iterator[Outcome]:
        """See :class:`Launcher`."""
        for key, seconds, error in self.crew.ended(self.limit):
            self.claims.pop(key).release()
            yield Outcome(self.busy.pop(key), seconds, error)

    def stop(self) -> None:
        """End all processes; their runs resume from their last checkpoints."""
        self.crew.stop()
        for claim in self.claims.values():
            claim.release()
        self.busy, self.claims = {}, {}


class Scheduler:
    """Jobs that wait, and the launcher that they are given to; see :func:`carry_out` for what the arguments mean.

    Attributes:
        waiting: jobs not begun, most wanted first. left: jobs given up for lack of time.
    """

    def __init__(self, jobs: Collection[Job], runs: Runs, launcher: Launcher, budget: float | None,
                 done: Callable[[Outcome], None], started: Callable[[Job], None]):
        self.runs, self.launcher, self.done, self.started = runs, launcher, done, started
        self.end = math.inf if budget is None else time.monotonic() + budget
        self.waiting, self.left = list(jobs), list[Job]()

    def remaining(self) -> float:
        """Seconds of the budget."""
        return self.end - time.monotonic()

    def start(self) -> None:
        """Give the launcher as many jobs as it takes, the first ones that nobody works on."""
        claimed: list[tuple[Job, FileLock]] = []
        for job in list(self.waiting):
            if len(claimed) >= self.launcher.room:
                break
            if self.runs.busy(job.key):
                continue
            if record := made(self.runs, job):  # by another process, meanwhile
                well = record["status"] == "done"
                self.done(Outcome(job, 0.0, None if well else record.get("error", "it diverged")))
            elif self.remaining() <= (job.estimate or 0):
                self.left.append(job)
            elif claim := self.runs.claim(job.key):
                self.started(job)
                claimed.append((job, claim))
            else:
                continue
            self.waiting.remove(job)
        self.launcher.begin(claimed)

    def collect(self) -> None:
        """See to the jobs that ended; where the time is up, those that did not are left."""
        for outcome in self.launcher.ended():
            if isinstance(outcome, Job):
                self.waiting.append(outcome)
                continue
            if outcome.error:
                note_failure(self.runs, outcome.job, outcome.error, time.time() - outcome.seconds)
            self.done(outcome)
        if self.remaining() <= 0:
            self.left += self.launcher.busy.values()
            self.launcher.stop()


def carry_out(jobs: Collection[Job], runs: Runs, launcher: Launcher, *, budget: float | None = None,
              done: Callable[[Outcome], None] = lambda outcome: None,
              started: Callable[[Job], None] = lambda job: None) -> list[Job]:
    """Run the jobs in order, several at a time.

    A job that another process works on is passed over as long as it does. A failed one leaves a record with its error
    and never stops the others.

    Args:
        jobs: most wanted first, without finished ones.
        launcher: where they run, how many at once and for how long.
        budget: seconds for everything. A job that is estimated to end later is not started; one of unknown length is,
            and is stopped when the time is up, to resume from its checkpoint another time.
        started, done: called when a job starts and ends.

    Returns:
        The jobs that were not finished: for lack of time, or because another process still works on them.
    """
    scheduler = Scheduler(jobs, runs, launcher, budget, done, started)
    try:
        while scheduler.waiting or launcher.busy:
            scheduler.start()
            if launcher.busy:
                scheduler.collect()
            elif scheduler.remaining() <= 0:
                break
            elif scheduler.waiting:
                time.sleep(1.0)  # only jobs of other processes are left
    finally:
        launcher.stop()
    return [*scheduler.left, *scheduler.waiting]


def one_by_one(launcher: Launcher) -> Callable[[dict[str, Any], dict[str, str], str, str], dict[str, Any]]:
    """What makes or finds a run by a launcher, given config, choices, command and key, and waits for its record."""
    def run(config: dict[str, Any], choices: dict[str, str], command: str, key: str) -> dict[str, Any]:
        runs, ended = Runs(config["paths"]["runs"]), list[Outcome]()
        found = runs.finished(key) and not config["force"]
        carry_out([Job(key, command, config, choices)], runs, launcher, done=ended.append)
        if ended[0].error:
            raise RuntimeError(ended[0].error)
        return {**(runs.get(key) or {}), "fresh": not found}

    return run


def made(runs: Runs, job: Job) -> Mapping[str, Any] | None:
    """The record of a job that is already done (a forced job: by today's code); None if the job has to start."""
    try:
        record = runs.get(job.key)
    except ValueError:  # it is damaged, which the run itself says
        return None
    if record is None or record["status"] not in ("done", "diverged"):
        return None
    return record if not job.config["force"] or record.get("sources") == job.sources else None


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
