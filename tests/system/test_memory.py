"""Memory that was freed is kept, unless the environment says otherwise, and given back where it piles up."""

import os
import subprocess
import sys

import pytest

from recot.system import memory

STEPS = """
import resource, sys, torch
from recot.system.memory import keep_freed
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
                   if name not in (*memory.ASKED, "GLIBC_TUNABLES")} | asked
    ran = subprocess.run([sys.executable, "-c", STEPS, "keep" if keep else ""], env=environment, capture_output=True,
                         text=True, check=True)
    return int(ran.stdout)


@pytest.fixture
def glibc():
    if not hasattr(memory.ctypes.CDLL(None), "mallopt"):
        pytest.skip("another C library")


def test_pages_are_not_fetched_again_in_every_step(glibc):
    assert faults(keep=True) < 0.01 * faults(keep=False)


def test_what_the_environment_asks_for_stands(glibc):
    assert faults(keep=True, MALLOC_MMAP_THRESHOLD_="65536") > 5 * 1000
    assert faults(keep=True, GLIBC_TUNABLES="glibc.malloc.mmap_threshold=65536") > 5 * 1000


def test_another_library_is_left_alone(monkeypatch):
    for name in (*memory.ASKED, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed() is False


def test_a_run_asks_for_it(tmp_path, monkeypatch):
    from recot.record import experiment

    asked = []
    monkeypatch.setattr(memory, "keep_freed", lambda: asked.append(True))
    monkeypatch.setattr(experiment, "rehearse", lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        experiment.run({}, {}, "")
    assert asked == [True]


GROWN = """
import torch
from recot.system.memory import GiveBack, keep_freed, resident
keep_freed()

def step(parts):
    held = [torch.ones(20 << 20, dtype=torch.uint8) for _ in range(parts)]

step(1)
before, give_back = resident(), GiveBack()
give_back()
step(int(1 + before / (20 << 20)))
after = resident()
give_back()
print(before, after, resident())
"""


def test_what_piles_up_is_given_back(glibc):
    environment = {name: value for name, value in os.environ.items()
                   if name not in (*memory.ASKED, "GLIBC_TUNABLES")}
    ran = subprocess.run([sys.executable, "-c", GROWN], env=environment, capture_output=True, text=True, check=True)
    before, after, finally_ = map(int, ran.stdout.split())
    assert after > 1.9 * before and finally_ < 1.1 * before


def test_a_little_growth_is_left_alone(monkeypatch):
    sizes, trimmed = iter([100, 149, 151, 90, 151]), []
    monkeypatch.setattr(memory, "resident", lambda: next(sizes))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: type("C", (), {"malloc_trim": trimmed.append}))
    give_back = memory.GiveBack()
    seen = [give_back() or len(trimmed) for _ in range(5)]
    assert seen == [0, 0, 1, 1, 2]


def test_where_the_system_says_nothing_nothing_is_done(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATM", tmp_path / "statm")
    assert memory.resident() is None
    give_back = memory.GiveBack()
    give_back(), give_back()
    assert give_back.first is None


PEAKS = """
import torch
from recot.system.memory import Peak

def hold(parts):
    torch.ones(parts << 20, dtype=torch.uint8)

hold(400)
peak = Peak()
hold(200)
first = peak.report(False)
peak = Peak()
print(first["peak_memory_mb"], peak.report(False)["peak_memory_mb"], peak.of)
"""


def test_the_peak_of_a_run_is_its_own_and_not_that_of_an_earlier_one():
    if not memory.CLEAR.exists():
        pytest.skip("another kernel")
    ran = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    first, second, of = ran.stdout.split()
    assert of == "run" and 150 < int(first) - int(second) < 250


def test_where_the_system_cannot_count_anew_the_peak_is_said_to_be_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "absent" / "clear_refs")
    peak = memory.Peak()
    told = peak.report(False)
    most = memory.resource.getrusage(memory.resource.RUSAGE_SELF).ru_maxrss / 1024
    assert told["peak_memory_of"] == "process" and told["peak_memory_mb"] == pytest.approx(most, rel=0.01)


def test_the_peak_of_a_card_is_counted_anew_and_asked_of_what_was_used(monkeypatch):
    reset = []
    monkeypatch.setattr(memory.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(memory.torch.cuda, "reset_peak_memory_stats", lambda: reset.append(True))
    monkeypatch.setattr(memory.torch.cuda, "max_memory_allocated", lambda: 3 << 20)
    peak = memory.Peak()
    assert reset == [True]
    assert peak.report(True)["peak_cuda_memory_mb"] == 3 and peak.report(False)["peak_cuda_memory_mb"] == 0


def test_every_epoch_of_a_run_asks_whether_it_has_grown(tmp_path, monkeypatch):
    from commands import execute


    asked = []
    monkeypatch.setattr(memory, "GiveBack", lambda: lambda: asked.append(True))
    assert execute(tmp_path, "model=bprmf")["epochs"] == len(asked) == 2
