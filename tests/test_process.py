"""What a process of ours asks of its threads and its memory."""

import os
import platform
import subprocess
import sys

import pytest

MEBIBYTES = 16
STEPS = f"""
import resource
import sys
from recot.process import prepare

if "prepare" in sys.argv:
    prepare()
for step in range(40):
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [b"1" * ({MEBIBYTES} << 20) for _ in range(2)]  # every page is written to
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
CLEAN = {name: value for name, value in os.environ.items()
         if name not in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GOMP_SPINCOUNT")}
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def faults(*words, **environment):
    """Pages that the system had to give in 30 steps."""
    told = subprocess.run([sys.executable, "-c", STEPS, *words], capture_output=True, text=True, check=True,
                          env=CLEAN | environment)
    return int(told.stdout)


@needs_glibc
def test_the_heap_keeps_what_a_step_frees():
    asked = 30 * 2 * MEBIBYTES * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert faults("prepare") < 0.02 * asked


@needs_glibc
def test_what_the_environment_says_of_the_heap_stands():
    asked = 30 * 2 * MEBIBYTES * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert faults("prepare", MALLOC_MMAP_THRESHOLD_="65536") > 0.5 * asked


@pytest.mark.parametrize(("before", "after"), [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5")])
def test_threads_spin_briefly_where_nothing_else_is_said(before, after):
    told = subprocess.run([sys.executable, "-c", "import os; from recot.process import prepare; prepare(); "
                           "print(os.environ['GOMP_SPINCOUNT'])"], capture_output=True, text=True, check=True,
                          env=CLEAN | before)
    assert told.stdout.strip() == after
