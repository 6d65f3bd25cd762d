"""Processes that work on tasks: what becomes of those that die, and of all when their parent does."""

import multiprocessing
import os
import signal
import time
from multiprocessing import forkserver

import pytest
from commands import PATIENCE, python
from processes import alive, wait_for

from recot.artifacts import workers
from recot.artifacts.workers import Crew, answers

CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture
def light(monkeypatch):
    """Workers as users get them, but for the libraries, which nothing here asks for. ``eval`` finds those of serve."""
    monkeypatch.setattr(workers, "LIBRARIES", [])
    yield
    forkserver._forkserver._stop()


def test_questions_are_answered_by_as_many_processes_as_are_wanted_and_one_that_dies_costs_its_own(light):
    orders = ["os.getpid()", "1 / 0", "os._exit(3)", "os.kill(os.getpid(), 9)", "os.getpid()", "os.getpid()"]
    found = dict(answers(eval, orders, 2))
    assert sorted(found) == list(range(6))
    assert found[1] == "ZeroDivisionError: division by zero"
    assert "ended with exit code 3" in found[2] and "ended by SIGKILL" in found[3]
    assert os.getpid() not in {found[0], found[4], found[5]} and not any(map(alive, {found[0], found[4], found[5]}))


LOOK = """
import os, sys, warnings
from recot.artifacts.workers import LIBRARIES
for name in LIBRARIES:
    __import__(name)
import torch
names = sorted(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task"))
print(torch.cuda.is_initialized(), names, sorted(name for name in sys.modules if name.startswith("recot.record.exp")))
"""


def test_what_workers_are_forked_from_has_no_thread_of_torch_and_no_context_of_a_card(tmp_path):
    """The thread of jemalloc, which pyarrow brings along, is stopped around a fork by its library."""
    told = python(tmp_path, "-c", LOOK)
    assert told.stdout.replace(", 'jemalloc_bg_thd'", "").replace("'jemalloc_bg_thd', ", "").split() == [
        "False", "['python']", "[]"], told


def test_a_worker_is_a_fork_of_a_process_that_waits_and_both_end_with_their_crew(light):
    crew = Crew(eval, 2)
    crew.give("a", "os.getppid()")
    crew.give("b", "os.getppid()")
    told = {name: answer for name, _, answer in until(crew)}
    assert told["a"] == told["b"] == forkserver._forkserver._forkserver_pid != os.getpid()
    crew.give("a", "os.kill(os.getpid(), 9)")
    crew.give("b", "1 + 1")
    told = {name: answer for name, _, answer in until(crew)}
    assert "ended by SIGKILL" in told["a"] and told["b"] == 2
    crew.stop()
    assert crew.idle == []


def crew_that_hangs(connection):
    """Work on two tasks that hang, and say which processes do."""
    crew = Crew(eval, 2)
    for name in "ab":
        crew.give(name, "time.sleep(86400)")
    connection.send([forkserver._forkserver._forkserver_pid, *(worker.process.pid for worker in crew.busy.values())])
    list(crew.ended())
    time.sleep(PATIENCE)


def test_a_long_name_of_the_folder_of_temporary_files_is_no_obstacle(light, monkeypatch, tmp_path):
    """The system has no sockets with names of 108 bytes and more."""
    folder = tmp_path / ("x" * 80)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)
    crew = Crew(eval, 1)
    crew.give("a", "1 + 1")
    assert [answer for _, _, answer in until(crew)] == [2]
    crew.stop()


@pytest.mark.parametrize("first", ["the parent", "the process that forks"])
def test_neither_a_worker_nor_what_it_was_forked_from_outlives_its_parent(light, first):
    here, there = multiprocessing.Pipe()
    parent = CONTEXT.Process(target=crew_that_hangs, args=(there,))
    parent.start()
    started = here.recv()
    assert all(map(alive, started)) and len(set(started)) == 3
    if first == "the process that forks":
        os.kill(started[0], signal.SIGKILL)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    wait_for(lambda: not any(map(alive, started)))


def test_the_loss_of_the_process_that_forks_costs_the_tasks_of_that_moment_alone(light):
    crew = Crew(eval, 1)
    crew.give("a", "os.kill(os.getppid(), 9), os._exit(0)")
    [(_, _, told)] = until(crew)
    assert "the process ended" in told
    crew.give("b", "1 + 1")
    assert [answer for _, _, answer in until(crew)] == [2]
    crew.stop()


@pytest.mark.parametrize("refusal", [ConnectionRefusedError, BrokenPipeError, EOFError])
def test_while_the_process_that_forks_is_dying_a_worker_waits_for_the_next_one(light, monkeypatch, refusal):
    real, refused = forkserver._forkserver.connect_to_new_process, [refusal, refusal]

    def connect(descriptors):
        if refused:
            raise refused.pop()
        return real(descriptors)

    monkeypatch.setattr(forkserver, "connect_to_new_process", connect)
    crew = Crew(eval, 1)
    crew.give("a", "1 + 1")
    assert [answer for _, _, answer in until(crew)] == [2] and not refused
    crew.stop()


def test_a_process_that_forks_no_more_is_not_waited_for_for_ever(light, monkeypatch):
    def refuse(descriptors):
        raise ConnectionRefusedError

    monkeypatch.setattr(forkserver, "connect_to_new_process", refuse)
    monkeypatch.setattr(workers, "DYING", 0.2)
    with pytest.raises(RuntimeError, match="the process that forks workers refuses to"):
        workers.Worker(eval)


def until(crew):
    """What the tasks of a crew came to."""
    told = []
    while crew.busy:
        told += crew.ended()
    return told
