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
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from recot.request.command import SIGNALS, quiet_srun

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

log = logging.getLogger(__name__)

LIBRARIES = ["torch", "lightning.pytorch", "torch._dynamo", "hydra", "pandas", "pyarrow.parquet", "scipy.sparse",
             "scipy.stats", "filelock", "rich.progress", "yaml"]
"""What the process that forks workers imports before, which costs 3 s of CPU. Importing them computes nothing, so no
OpenMP thread and no CUDA context is there to be lost in a fork. The modules of recot are not among them: each worker
imports them as they are when it starts, which takes 0.1 s, since a record names the code that made it."""

DYING = 60.0
"""Seconds for the process that forks to be gone once it refuses: it closes its socket before its parent sees it end."""


def leave_to_parent(number: int, frame: object) -> None:
    """Do nothing on a signal. SIG_IGN would be inherited by programs that a run starts, and Lightning would call it."""


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
        self.since, end = 0.0, time.monotonic() + DYING
        while not self.started(work):
            if time.monotonic() > end:
                raise RuntimeError("the process that forks workers refuses to; the same command goes on where it was")
            time.sleep(0.05)

    def started(self, work: Callable[[Any], Any]) -> bool:
        """Start the process; False where the process that forks is dying, after which Python starts that one anew."""
        using = context()
        self.connection, other = using.Pipe()
        self.process = using.Process(target=serve, args=(other, work), daemon=True)
        try:
            self.process.start()
        except (ConnectionError, EOFError):
            self.connection.close()
            return False
        finally:
            other.close()
        return True

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
