"""Work in several processes that share batches: forks of this one, which have all that it has imported and made."""

import multiprocessing
import os
import pickle
import socket
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from commands import PATIENCE, execute

from recot.fit import processes


class Failed:
    """What work raised: the error, and where."""

    def __init__(self, error):
        self.error, self.trace = error, traceback.format_exc()


def fork(work, rank, pipe):
    """Work in a fork, and send what came of it; a fork that is killed sends nothing."""
    try:
        found = work(rank)
    except BaseException as error:
        found = Failed(error)
    pipe.send_bytes(pickle.dumps(found))
    pipe.close()
    os._exit(0)


def forked(work, count=2):
    """What ``work(rank)`` gives, or how it failed, in each of ``count`` forks; None for one that has died."""
    context, pipes = multiprocessing.get_context("fork"), []
    for rank in range(count):
        here, there = context.Pipe(False)
        process = context.Process(target=fork, args=(work, rank, there), daemon=True)
        process.start()
        there.close()
        pipes.append((process, here))
    found = []
    for process, here in pipes:
        assert here.poll(PATIENCE), "a process hangs"
        try:
            found.append(pickle.loads(here.recv_bytes()))
        except EOFError:
            found.append(None)
        process.join()
    return found


def together(work, count=2):
    """What ``work()`` gives in each of ``count`` processes that share batches.

    Raises:
        AssertionError: it failed in one of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        def joined(rank):
            dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count,
                                    timeout=timedelta(seconds=PATIENCE))
            try:
                return work()
            finally:
                dist.destroy_process_group()

        found = forked(joined, count)
    failed = [one.trace for one in found if isinstance(one, Failed)]
    assert not failed, failed
    return found


def environment(rank, count, port, slurm=False):
    """The variables that torchrun gives to a process, or srun."""
    told = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    if slurm:
        return told | {"SLURM_STEP_NUM_TASKS": str(count), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank),
                       "SLURM_JOB_ID": "1"}
    return told | {"TORCHELASTIC_RUN_ID": "by-hand", "RANK": str(rank), "LOCAL_RANK": str(rank),
                   "WORLD_SIZE": str(count)}


def launched(runs, *words, count=2, slurm=False, before=lambda rank: ()):
    """What a small run gives in each of ``count`` processes, started as by torchrun or srun; see :func:`forked`.

    Args:
        before: called in each process with its number; gives more words for it.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def work(rank):
        os.environ.update(environment(rank, count, port, slurm))
        processes.store.cache_clear()
        more = before(rank)
        return execute(Path(runs), *words, f"trainer.devices={count}", *more)

    return forked(work, count)
