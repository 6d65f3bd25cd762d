"""Carries out a list of runs wherever a launcher lets them: each once, and one that fails costs only itself."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from filelock import FileLock

from recot.artifacts.workers import Crew
from recot.record.store import Runs

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


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``error`` is None where there is a record now."""

    job: Job
    seconds: float
    error: str | None


def perform(job: Job) -> None:
    """The work of a worker that runs jobs."""
    from recot.record import experiment

    experiment.run(job.config, job.choices, job.command)


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
