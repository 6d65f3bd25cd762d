"""Carries out a list of runs in processes of their own: one that fails, hangs or is killed costs only itself."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from recot.cache import Runs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run that is wanted.

    Attributes:
        key: of its record. command: what a user types for it.
        config: checked. choices: preset of each config group.
        estimate: seconds it will take, or None where nothing like it was run yet.
    """

    key: str
    command: str
    config: dict[str, Any]
    choices: dict[str, str]
    estimate: float | None = None


def serve(connection: Connection) -> None:
    """What a worker does: run the jobs it is sent until the pipe closes, and end at once when the parent is gone."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        wait([parent.sentinel])  # type: ignore[union-attr]
        os._exit(1)  # nothing is lost: records and checkpoints appear whole, and the run resumes

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recot").setLevel(logging.WARNING)
    from recot import experiment

    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            experiment.run(job.config, job.choices, job.command)
            connection.send(None)
        except Exception as error:  # its record holds the traceback
            connection.send(f"{type(error).__name__}: {error}")


class Worker:
    """A process that runs one job at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.job: Job | None = None
        self.since = 0.0

    def submit(self, job: Job) -> None:
        """Hand over a job."""
        self.job, self.since = job, time.monotonic()
        self.connection.send(job)

    def result(self) -> str | None:
        """None for a finished job, else what went wrong; the pipe must be readable."""
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


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``error`` is None where there is a record now."""

    job: Job
    seconds: float
    error: str | None


def carry_out(jobs: Sequence[Job], runs: Runs, *, workers: int = 1, keep: bool = False, limit: float | None = None,
              budget: float | None = None, done: Callable[[Outcome], None] = lambda outcome: None,
              started: Callable[[Job], None] = lambda job: None) -> list[Job]:
    """Run the jobs in order, several at a time.

    A job that another process works on is passed over until nothing else is left. A failed one leaves a record with
    its error and never stops the others.

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
    start, waiting, left = time.monotonic(), deque(jobs), []
    idle: list[Worker] = []
    busy: list[Worker] = []
    held_back = 0  # jobs in a row that another process works on

    def remaining() -> float:
        return float("inf") if budget is None else budget - (time.monotonic() - start)

    try:
        while waiting or busy:
            while waiting and len(busy) < workers and held_back < len(waiting):
                job = waiting.popleft()
                if remaining() <= (job.estimate or 0):
                    left.append(job)
                elif runs.busy(job.key):
                    waiting.append(job)
                    held_back += 1
                elif runs.finished(job.key) and not job.config["force"]:
                    done(Outcome(job, 0.0, None))  # by the other process
                else:
                    worker = idle.pop() if idle else Worker()
                    started(job)
                    worker.submit(job)
                    busy.append(worker)
            if waiting and not busy:  # only jobs of other processes are left
                if remaining() <= 0:
                    break
                time.sleep(1.0)
                held_back = 0
                continue
            wait([worker.connection for worker in busy], timeout=1.0)
            for worker in list(busy):
                job, seconds = worker.job, time.monotonic() - worker.since
                assert job is not None
                if worker.connection.poll():
                    error = worker.result()
                elif limit is not None and seconds > limit:
                    error = f"gave up after {limit:.0f} s"
                elif remaining() <= 0:
                    left.append(job)
                    busy.remove(worker)
                    worker.stop()
                    continue
                else:
                    continue
                busy.remove(worker)
                held_back = 0
                if keep and worker.process.is_alive() and not (error or "").startswith("gave up"):
                    idle.append(worker)
                else:
                    worker.stop()
                if error:
                    note_failure(runs, job, error)
                done(Outcome(job, seconds, error))
    finally:
        for worker in (*idle, *busy):
            worker.stop()
    return [*left, *waiting]


def note_failure(runs: Runs, job: Job, error: str) -> None:
    """Leave a record of a run whose process could not write one itself."""
    with runs.lock(job.key):
        record = runs.get(job.key)
        if record is None or record["status"] in ("running", "interrupted"):
            runs.put(job.key, {"key": job.key, "status": "failed", "error": error, "command": job.command,
                               "seed": job.config["seed"]})
