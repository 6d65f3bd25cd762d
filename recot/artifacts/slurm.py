"""Carries out a list of runs in the queue of a cluster, by submitit; what several machines share is the folder of runs.

The process on the node holds the claim on its run, and nobody holds one on a run that waits in the queue: whoever is
free first begins it, and a job that comes too late ends at once. ``<runs>/.slurm/<key>.json`` says which job of the
queue a run is, so that a second command waits for that job and does not submit another. Claims and locks are those of
the file system. NFS, Lustre (mounted with ``flock``) and GPFS have locks that other machines see.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from recot.artifacts.jobs import Job, Outcome, made, perform
from recot.record.store import Runs
from recot.request.compose import values
from recot.request.errors import RequestError
from recot.request.launchers import check_launcher
from recot.system.files import write_whole

if TYPE_CHECKING:
    from submitit.core.core import Executor
    from submitit.core.utils import DelayedSubmission

log = logging.getLogger(__name__)

FOLDER = ".slurm"
"""In the folder of records: logs of jobs, what submitit writes for them, and which job of the queue a run is."""

MOST = 500
"""Jobs in the queue at once. A command claims what it submits, and a process may usually have 1,024 files open."""

FRUITLESS = 3
"""So many times in a row a job goes on that was stopped before it wrote a checkpoint."""

START = 60.0
"""Seconds within which a process that has claimed a run begins it; a command also claims runs that it looks for in the
queue, for a moment."""

HOURS = 4.0
"""Time limit of a job where none is given; a run that is longer goes on in the next one."""

SHARED = {"name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node"}
"""Settings that submitit has for every cluster; it wants a prefix before those of Slurm alone."""

ENDED = {"", "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
         "TIMEOUT"}
"""States in which a job of Slurm works no more; an empty one is that of a job which the queue has forgotten."""

HOPELESS = {"AccountNotAllowed", "BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionConfig",
            "PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed"}
"""Reasons of Slurm's why a job waits that no waiting changes: the partition has nothing like what the job asks for."""

AGAIN = {"BOOT_FAIL", "NODE_FAIL", "PREEMPTED"}
"""Those of :data:`ENDED` in which the run had no part."""


@dataclass(frozen=True)
class Task:
    """What a job of the queue does: one run, which goes on from its last checkpoint as often as it is stopped.

    Attributes:
        job: the run. newest: when its last checkpoint was written, in seconds since 1970, as of the last stop.
        fruitless: how often in a row it was stopped without a newer one.
    """

    job: Job
    newest: float = 0.0
    fruitless: int = 0

    def __call__(self) -> None:
        """Run, if nobody else does or did meanwhile. The record of the run says what became of it."""
        logging.basicConfig(format="%(message)s")
        logging.getLogger("submitit").propagate = False  # it has a handler of its own
        runs = Runs(self.job.config["paths"]["runs"])
        claim = self.claim(runs)
        try:
            if claim is None or made(runs, self.job):
                log.warning("another process works on this run, or has finished it: %s", self.job.command)
            else:
                self.work()
        except Exception:  # the record has it, and the job is not to be counted as one that the cluster has stopped
            log.exception("failed: %s", self.job.command)
        finally:
            if claim:
                claim.release()
        ticket(runs, self.job.key).unlink(missing_ok=True)  # not where the job goes back into the queue, by SystemExit

    def claim(self, runs: Runs) -> FileLock | None:
        """The claim on the run; None where another process has it and keeps it."""
        end = time.monotonic() + START
        while (claim := runs.claim(self.job.key)) is None and not runs.busy(self.job.key) and time.monotonic() < end:
            time.sleep(0.2)
        return claim

    def work(self) -> None:
        """The run itself."""
        perform(self.job)

    def checkpoint(self) -> DelayedSubmission | None:
        """What submitit puts into the queue again when Slurm is about to stop the job; None gives the run up."""
        from submitit.helpers import DelayedSubmission

        newest = last_checkpoint(Runs(self.job.config["paths"]["runs"]).folder(self.job.key))
        fruitless = 0 if newest > self.newest else self.fruitless + 1
        again = replace(self, newest=newest, fruitless=fruitless)
        return DelayedSubmission(again) if fruitless <= FRUITLESS else None


def ticket(runs: Runs, key: str) -> Path:
    """The file that says which job of the queue a run is."""
    return runs.root / FOLDER / f"{key}.json"


def last_checkpoint(folder: Path) -> float:
    """When a run wrote its last checkpoint, in seconds since 1970; 0 where there is none."""
    return max((file.stat().st_mtime for name in ("last.ckpt", "fitted.pt") for file in folder.glob(f"**/{name}")),
               default=0.0)


def states(ids: Sequence[str]) -> dict[str, str] | None:
    """The state of each job that the queue remembers, by id; None where Slurm does not answer.

    It ends in one of :data:`HOPELESS` in brackets where the job waits for what will not come.
    """
    arrays = ",".join(sorted({name.partition("_")[0] for name in ids}))
    asked = subprocess.run(["squeue", "--noheader", "--array", "--states=all", "--format=%i %T %r", f"--jobs={arrays}"],
                           capture_output=True, text=True, check=False)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        log.warning("the queue does not answer: %s", asked.stderr.strip())
        return None
    told = ((*line.split(maxsplit=2), "") for line in asked.stdout.splitlines())
    return {name: f"{state} ({why})" if state == "PENDING" and why in HOPELESS else state
            for name, state, why, *_ in told}


def executor(root: Path, at_once: int, limit: float | None, settings: Mapping[str, Any],
             cluster: str = "slurm") -> Executor:
    """What submits jobs.

    Args:
        root: folder of records. at_once: how many jobs of an array run at once.
        limit: seconds for one job, after which its run goes on in the queue.
        settings: names and values of ``sbatch``, such as ``partition``, ``mem_gb`` and ``gpus_per_node``, which win.
        cluster: an executor of submitit.

    Raises:
        RequestError: a setting is none of submitit's, or has a value of the wrong type.
    """
    import submitit

    minutes = max(1, math.ceil((limit or HOURS * 3600) / 60))
    threads = int(os.environ.get("OMP_NUM_THREADS", "4").partition(",")[0])
    defaults = {"name": "recot", "timeout_min": minutes, "cpus_per_task": threads, "mem_gb": 16,
                "stderr_to_stdout": True, "slurm_array_parallelism": at_once,
                "slurm_signal_delay_s": min(90, 15 * minutes), "slurm_additional_parameters": {"requeue": True}}
    endless = {"slurm_max_num_timeout": 2**31, "local_max_num_timeout": 2**31}  # Task.checkpoint says when to give up
    submitter = submitit.AutoExecutor(root / FOLDER, cluster=cluster, **endless)
    given = {name if name in SHARED else f"slurm_{name}": value for name, value in settings.items()}
    try:
        submitter.update_parameters(**(defaults | given))
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise RequestError(f"--slurm {' '.join(f'{name}={value}' for name, value in settings.items())}: "
                           f"{str(error).splitlines()[0]}") from error
    return submitter


def queue(runs: Runs, words: Sequence[str], at_once: int = 1, limit: float | None = None) -> Slurm:
    """The queue of the cluster, once everything that was typed about it was checked.

    Args:
        words: settings, like ``partition=gpu``. at_once, limit: see :func:`executor`.

    Raises:
        RequestError, HydraException: submitit or Slurm is not there, or a setting is wrong.
    """
    check_launcher("slurm", "submitit")
    log.setLevel(logging.INFO)
    return Slurm(runs, executor(runs.root, at_once, limit, values(words)))


@dataclass(frozen=True)
class Queued:
    """A run in the queue: ``id`` of its job, and when it was submitted, in seconds since 1970."""

    id: str
    since: float


class Slurm:
    """Works on jobs in the queue of a cluster.

    Args:
        runs: their records. submitter: see :func:`executor`. task: what a job of the queue does.
        states: says of jobs of the queue what they do.
        pause: seconds between two looks at the queue.
        patience: seconds until a job that left the queue without a record has failed. Another machine may see what a
            node wrote a minute later.
    """

    def __init__(self, runs: Runs, submitter: Executor, *, task: Callable[[Job], Task] = Task, pause: float = 5.0,
                 patience: float = 90.0, states: Callable[[Sequence[str]], Mapping[str, str] | None] = states):
        self.runs, self.submitter, self.task = runs, submitter, task
        self.states, self.pause, self.patience = states, pause, patience
        self.busy: dict[str, Job] = {}
        self.queued: dict[str, Queued] = {}
        self.gone: dict[str, float] = {}
        self.warned: set[str] = set()

    @property
    def room(self) -> int:
        """How many more jobs it takes now."""
        return MOST - len(self.busy)

    def begin(self, jobs: Sequence[tuple[Job, FileLock]]) -> None:
        """Submit jobs but those that are in the queue. One command submits at a time, so that none is there twice."""
        for _, claim in jobs:  # which the process on the node wants
            claim.release()
        if not jobs:
            return
        folder = self.runs.root / FOLDER
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            found = self.known([job.key for job, _ in jobs])
            fresh = [job for job, _ in jobs if job.key not in found]
            found |= self.submitted(fresh) if fresh else {}
        for job, _ in jobs:
            self.busy[job.key], self.queued[job.key] = job, found[job.key]
        log.info("%d runs submitted, %d were in the queue; logs are in %s", len(fresh), len(jobs) - len(fresh), folder)

    def submitted(self, jobs: Sequence[Job]) -> dict[str, Queued]:
        """Put jobs into the queue, as one array, and write down which is which."""
        with self.submitter.batch():
            handles = [self.submitter.submit(self.task(job)) for job in jobs]
        found = {job.key: Queued(handle.job_id, time.time()) for job, handle in zip(jobs, handles, strict=True)}
        for key, queued in found.items():
            write_whole(ticket(self.runs, key), json.dumps(vars(queued)).encode())
        return found

    def known(self, keys: Sequence[str]) -> dict[str, Queued]:
        """Those of the runs that are in the queue."""
        told = {}
        for key in keys:
            with contextlib.suppress(FileNotFoundError):  # a job that ends takes its file away
                told[key] = Queued(**json.loads(ticket(self.runs, key).read_bytes()))
        found = self.states([queued.id for queued in told.values()]) if told else {}
        if found is None:
            raise RuntimeError("the queue does not answer, and some of these runs may be in it; try again later")
        return {key: queued for key, queued in told.items() if found.get(queued.id, "") not in ENDED}

    def ended(self) -> Iterator[Outcome | Job]:
        """See :class:`recot.artifacts.jobs.Launcher`."""
        time.sleep(self.pause)
        found = self.states([queued.id for queued in self.queued.values()])
        for key, job in list(self.busy.items()):
            state = "UNKNOWN" if found is None else found.get(self.queued[key].id, "")
            self.warn(self.queued[key].id, state)
            if told := self.told(job, state):
                ticket(self.runs, key).unlink(missing_ok=True)
                self.gone.pop(key, None)
                del self.busy[key], self.queued[key]
                yield told

    def warn(self, number: str, state: str) -> None:
        """Say once of each job that waits for what will not come."""
        if state.endswith(")") and number not in self.warned:
            self.warned.add(number)
            log.warning("job %s will not start as it is: %s; `scancel %s` takes it out, and --slurm 'cpus_per_task=1 "
                        "mem_gb=2', for example, asks for less", number, state, number)

    def told(self, job: Job, state: str) -> Outcome | Job | None:
        """What became of a job whose state is known; None as long as it is under way."""
        queued, record = self.queued[job.key], made(self.runs, job)
        seconds = time.time() - queued.since
        if record:
            return Outcome(job, seconds, None if record["status"] == "done" else record.get("error", "it diverged"))
        if state not in ENDED:
            self.gone.pop(job.key, None)
            return None
        if self.runs.busy(job.key) or state in AGAIN:
            return job
        if state == "TIMEOUT" and last_checkpoint(self.runs.folder(job.key)) > queued.since:
            return job
        try:
            failed = self.runs.get(job.key) or {}
        except ValueError as error:
            return Outcome(job, seconds, str(error))
        if failed.get("status") == "failed" and self.written(job.key) >= queued.since:
            return Outcome(job, seconds, failed["error"])
        missed = self.gone.setdefault(job.key, time.time())
        if time.time() - missed < self.patience:
            return None
        file, state = self.runs.root / FOLDER / f"{queued.id}_0_log.out", f" ({state})" if state else ""
        return Outcome(job, seconds, f"job {queued.id} left the queue without a record{state}; "
                       "too little memory, a limit that leaves no time for a checkpoint, and scancel are the usual "
                       f"reasons; its log is {file}")

    def written(self, key: str) -> float:
        """When the record of a run was written, in seconds since 1970."""
        return (self.runs.folder(key) / "record.json").stat().st_mtime

    def stop(self) -> None:
        """Leave the queue as it is; the same command finds its jobs there."""
        if self.busy:
            arrays = " ".join(sorted({queued.id.partition("_")[0] for queued in self.queued.values()}))
            log.warning("%d runs stay in the queue, and the same command waits for them again; `scancel %s` takes them "
                        "out", len(self.busy), arrays)
