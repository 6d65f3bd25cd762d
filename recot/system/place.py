"""Which of the processes that share a run this one is, by the variables of those that start them. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

OURS = "recot-"
"""How the name of a group begins whose processes recot has started, see :func:`recot.fit.processes.start`."""


@dataclass(frozen=True)
class Place:
    """Which process this is.

    Attributes:
        rank: its number. world: how many there are. local: its number on this machine.
    """

    rank: int
    world: int
    local: int


def place() -> Place:
    """Which one this is of those that torchrun, srun or ``fit.processes`` has started; the only one otherwise."""
    found = os.environ
    if "TORCHELASTIC_RUN_ID" in found:
        return Place(int(found["RANK"]), int(found["WORLD_SIZE"]), int(found["LOCAL_RANK"]))
    if int(found.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # of a step: a batch script alone is one process of many tasks
        return Place(int(found["SLURM_PROCID"]), int(found["SLURM_STEP_NUM_TASKS"]), int(found["SLURM_LOCALID"]))
    return Place(0, 1, 0)


def missing(count: int) -> bool:
    """Whether the other ones of ``count`` processes have to be started."""
    return count > 1 and place().world == 1


def ours() -> bool:
    """Whether :func:`recot.fit.processes.start` has started this process."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(OURS)


def talks() -> bool:
    """Whether what came of the run is for this process to say: those that started others say it themselves."""
    return place().rank == 0 and not ours()
