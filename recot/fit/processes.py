"""The processes that share a run: how they are started, how they find each other, and what they have to agree on."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from recot.nn import ranks
from recot.request.errors import RequestError
from recot.system.place import OURS, ours, place

PATIENCE = timedelta(days=30)
"""How long one process waits for the others, of which the first may wait for a run that somebody else holds. That one
has gone is seen at once, by its closed connection."""

numbers = itertools.count()
"""Of the groups that this process has been in; the jobs of a sweep are one after the other."""


class Gone(RuntimeError):
    """Another process of the run has ended, and this one cannot go on without it."""


def end_with(parent: int) -> None:
    """End at once when the process that has started this one is gone, however it was ended; a run resumes."""
    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def start(count: int, words: Sequence[str], **variables: str) -> None:
    """Run ``python`` with ``words`` in ``count`` processes that know of each other, and wait for their end.

    Args:
        variables: of their environment, besides this one's.

    Raises:
        RequestError: one of them refused the request.
        RuntimeError: one of them failed; the others were stopped.
        KeyboardInterrupt: this process was asked to end, and so were they.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a table of exit codes for every failure
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    folder, kept = tempfile.mkdtemp(), dict(os.environ)
    os.environ.update(variables)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))  # or each takes every core
    try:
        launch_agent(LaunchConfig(
            1, 1, count, DefaultLogsSpecs(folder), OURS + secrets.token_hex(8), rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", max_restarts=0, local_addr="localhost",
            signals_to_handle="SIGTERM,SIGINT,SIGHUP"), sys.executable, [*words])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == 2:
            raise RequestError(f"process {rank} of {count} says why") from error
        how = f"was ended by {signal.Signals(-failure.exitcode).name}" if failure.exitcode < 0 else (
            f"ended with exit code {failure.exitcode}")
        raise RuntimeError(f"process {rank} of {count} {how}, and the others were stopped; the same command goes on "
                           "from the last checkpoint") from error
    except SignalException as stop:
        raise KeyboardInterrupt(signal.Signals(stop.sigval)) from stop
    finally:
        os.environ.clear()
        os.environ.update(kept)
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def joined(count: int, cuda: bool, told: Mapping[str, str]) -> Iterator[None]:
    """Share a run with ``count`` processes in all, of which this one is one.

    Args:
        cuda: whether each of them has a card. told: what has to be the same in all of them, by what it is called.

    Raises:
        RequestError: other than ``count`` were started, there are not as many cards, or they differ in what is told.
        Gone: another one has ended.
    """
    here = place()
    if count != here.world and (count > 1 or "TORCHELASTIC_RUN_ID" in os.environ):
        raise RequestError(f"trainer.devices = {count}, and {here.world} processes were started; give "
                           f"trainer.devices={here.world}")
    if count == 1:
        yield
        return
    if here.rank:
        logging.getLogger("recot").setLevel(logging.ERROR)
    if ours():
        end_with(os.getppid())
    if cuda:
        take_card(here.local, bound="TORCHELASTIC_RUN_ID" not in os.environ)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", rank=here.rank, world_size=count,
                            store=PrefixStore(f"recot{next(numbers)}", store()), timeout=PATIENCE)
    try:
        with noticed():
            check_agreement(told)
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def noticed() -> Iterator[None]:
    """Say it in plain words where another process has ended.

    Raises:
        Gone: in place of what torch says of a connection.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise Gone("another process of this run has ended; the same command goes on from the last checkpoint"
                       ) from error
        raise


def take_card(number: int, bound: bool) -> None:
    """Make a card that of this process.

    Args:
        bound: one card that is found may be that of the process alone, as Slurm binds them.

    Raises:
        RequestError: there are fewer.
    """
    found = torch.cuda.device_count()
    if number >= found and not (bound and found == 1):
        raise RequestError(f"process {number} of this machine finds {found} CUDA devices; give a trainer.devices of as "
                           "many, or trainer.device=cpu")
    torch.cuda.set_device(min(number, found - 1))


@cache
def store() -> Store:
    """Where the processes find each other: under the address of the environment, or on the first node of Slurm."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(
            os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")))
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ["SLURM_JOB_ID"]) % 10000))
    here = place()
    found: Store
    found, _, _ = next(rendezvous("env://", here.rank, here.world))
    return found


def check_agreement(told: Mapping[str, str]) -> None:
    """Refuse processes that do not do the same.

    Raises:
        RequestError: in all of them.
    """
    first, *others = ranks.collected(lambda: dict(told))
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] != value:
                raise RequestError(f"process {number} of this run has another {name} than the first one ({other[name]} "
                                   f"and {value}); start all of them with the same command, data and code")
