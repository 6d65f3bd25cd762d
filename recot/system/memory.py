"""Keeps freed memory for the next step, gives it back when it piles up, and measures the peak of a run."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

import torch

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``: how much may lie free at the end of the heap, how many blocks may lie outside."""
ASKED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
"""Variables, besides ``GLIBC_TUNABLES``, by which a user chooses these parameters; recot then leaves them alone."""
STATM = Path("/proc/self/statm")
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
GROWTH = 1.5
"""Freed memory is given back once the process is this many times as large as after its first epoch."""


def keep_freed() -> bool:
    """Let the C library of this process reuse what it frees, in place of giving it back and asking for it again.

    A step on a CPU frees and allocates the same tensors every time. glibc gives large ones back at once, and the kernel
    clears their pages before the next step has them: on one thread a quarter of the time of MStein's step as released,
    two fifths of LightGCN's on Gowalla. No result depends on it; the peak of memory grows by up to 4 %, and between two
    runs a process keeps what it has.

    Returns:
        False, and nothing is changed, where the C library is another one or the environment says what it should do.
    """
    if any(name in os.environ for name in ASKED) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1) and mallopt(MMAP_MAX, 0))


def resident() -> int | None:
    """Bytes of memory that this process has, or None where the system does not say."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


class GiveBack:
    """Called after every epoch; gives free memory back to the system once the process has grown by half.

    glibc seldom finds a place for an aligned block among those that it has freed, with or without
    :func:`keep_freed`: where the sizes of tensors differ from step to step a process grows with every epoch. On Office
    CoSeRec with one layer had 3 GB after 8 epochs, and 8 to 10 GB in the end, of which it used .6.
    """

    def __init__(self) -> None:
        self.first: int | None = None

    def __call__(self) -> None:
        """See the class; the first call says from where growth is counted."""
        now = resident()
        if self.first is None or now is None:
            self.first = now
        elif now > GROWTH * self.first and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            trim(0)


class Peak:
    """The most memory that was held since this object was made, where the system can count from there.

    Linux counts anew on request. Elsewhere the number is that of the process since it began, which may have done other
    things before.
    """

    def __init__(self) -> None:
        try:
            CLEAR.write_text("5")  # of all that can be cleared, the peak alone
            self.of = "run"
        except OSError:
            self.of = "process"
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def report(self, cuda: bool) -> dict[str, int | str]:
        """Whole MiB on the host and, with ``cuda``, on the card, and what the former is the peak of."""
        return {"peak_memory_mb": round(self.host() / 1024), "peak_memory_of": self.of,
                "peak_cuda_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else 0}

    def host(self) -> int:
        """KiB."""
        if self.of == "run":
            [line] = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
            return int(line.split()[1])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
