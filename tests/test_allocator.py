"""Memory that was freed is kept, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

from recot import allocator

STEPS = """
import resource, sys, torch
from recot.allocator import keep_freed
sys.argv[1] == "keep" and keep_freed()

def step():
    parts = [torch.ones(size, dtype=torch.uint8) for size in (40 << 20, 20 << 20)]

for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep, **asked):
    environment = {name: value for name, value in os.environ.items()
                   if name not in (*allocator.ASKED, "GLIBC_TUNABLES")} | asked
    ran = subprocess.run([sys.executable, "-c", STEPS, "keep" if keep else ""], env=environment, capture_output=True,
                         text=True, check=True)
    return int(ran.stdout)


@pytest.fixture
def glibc():
    if not hasattr(allocator.ctypes.CDLL(None), "mallopt"):
        pytest.skip("another C library")


def test_pages_are_not_fetched_again_in_every_step(glibc):
    assert faults(keep=True) < 0.01 * faults(keep=False)


def test_what_the_environment_asks_for_stands(glibc):
    assert faults(keep=True, MALLOC_MMAP_THRESHOLD_="65536") > 5 * 1000
    assert faults(keep=True, GLIBC_TUNABLES="glibc.malloc.mmap_threshold=65536") > 5 * 1000


def test_another_library_is_left_alone(monkeypatch):
    for name in (*allocator.ASKED, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed() is False


def test_a_run_asks_for_it(tmp_path, monkeypatch):
    from recot import experiment

    asked = []
    monkeypatch.setattr(experiment, "keep_freed", lambda: asked.append(True))
    monkeypatch.setattr(experiment, "rehearse", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        experiment.run({}, {}, "")
    assert asked == [True]
