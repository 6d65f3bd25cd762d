"""How two things are compared: called by turns, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Times(NamedTuple):
    """Medians of interleaved rounds.

    Attributes:
        ours, other: seconds by the clock on the wall. ratio: of both.
        cpu, other_cpu: seconds of the CPUs, by all threads. cpu_ratio: of both, which other processes disturb least.
    """

    ours: float
    other: float
    ratio: float
    cpu: float
    other_cpu: float
    cpu_ratio: float


class Row(NamedTuple):
    """One line of the report: what was compared, how long it took, and the goal for the ratio."""

    job: str
    times: Times
    goal: str = ""


def interleaved(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> Times:
    """Medians of alternating calls after a warm-up."""
    taken: list[tuple[float, float, float, float]] = []
    for index in range(rounds + 1):
        both = [seconds(function) for function in (ours, other)]
        if index:
            taken.append((*both[0], *both[1]))
    wall, cpu, other_wall, other_cpu = (list(column) for column in zip(*taken, strict=True))
    return Times(statistics.median(wall), statistics.median(other_wall), ratio(wall, other_wall),
                 statistics.median(cpu), statistics.median(other_cpu), ratio(cpu, other_cpu))


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """By the clock on the wall, and of the CPUs."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def ratio(ours: list[float], other: list[float]) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(ours, other, strict=True))


def alone(wall: float, cpu: float = float("nan")) -> Times:
    """Of something that is compared with nothing."""
    nothing = float("nan")
    return Times(wall, nothing, nothing, cpu, nothing, nothing)


def steps(function: Callable[[], None], count: int) -> Callable[[], None]:
    """``count`` calls as one."""

    def run() -> None:
        for _ in range(count):
            function()

    return run
