"""Memory that was freed is kept for the next step."""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's ``mallopt``: how much may lie free at the end of the heap, how many blocks may lie outside."""
ASKED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
"""What somebody who has an opinion on this sets, besides ``GLIBC_TUNABLES``."""


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
