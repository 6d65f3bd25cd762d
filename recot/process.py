"""What a process of ours wants of its threads and its memory before torch is imported."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of malloc.h
LARGEST_ON_HEAP = 32 * 2**20  # bytes; glibc takes no more
NEVER = 2**31 - 1


def prepare() -> None:
    """Let threads spin briefly while they wait, then sleep; and let the heap keep what a step frees for the next step.

    Threads that spin for long lose their time slice on a busy machine (an epoch of the planted data took 6.9 s in place
    of 0.4 s), and threads that never spin are a third slower on a quiet one.

    glibc returns large arrays to the system when they are freed, so that every step asks for the same pages anew and
    waits until they are cleared: a third of LightGCN's step on Gowalla, and a tenth of most others. Keeping them raises
    no peak. An environment that sets ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_`` is left alone, and so is
    a C library without ``mallopt``.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if os.name != "posix" or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP)
        mallopt(M_TRIM_THRESHOLD, NEVER)
