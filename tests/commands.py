"""How tests start runs: composed in this process, or typed into another one. Nothing is written outside tmp_path."""

import copy
import json
import os
import select
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from recot.record import experiment
from recot.record.store import Runs
from recot.request import compose
from recot.request.compose import composed

TINY = ("trainer=smoke", "trainer.max_epochs=2", "data.n_users=60", "data.mean_activity=8")

PATIENCE = 1800
"""Seconds after which a process hangs, whatever else this machine does."""


composed_once = cache(composed)
CONF = compose.CONF


def known(*overrides):
    """What ``composed`` gives for a command, composed once in this process: it costs 0.06 s.

    A command is composed anew where it may mean something else: with other presets, or a package of one's own.
    """
    if compose.CONF != CONF or any(word.startswith("plugins=") for word in overrides):
        return composed(*overrides)
    return copy.deepcopy(composed_once(*overrides))


def execute(runs, *overrides):
    """The record of a small run, carried out in this process."""
    config, choices = known(*TINY, *overrides)
    config["paths"] = {"runs": str(runs), "cache": str(runs)}
    return experiment.run(config, choices, "python -m recot.run " + " ".join(overrides))


def folder_of(runs, *overrides):
    """The folder of a small run."""
    return runs / execute(runs, "metrics=[recall@10]", *overrides)["key"]


def edit(runs, key, /, **changes):
    """Change fields of a record in a folder of runs, as if the run had written it so."""
    Runs(runs).put(key, Runs(runs).get(key) | changes)


def environment(folder, **changes):
    """The variables of a process that keeps its records, its cache and its home in ``folder``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "RECOT", "HYDRA"))}
    return kept | {"OMP_NUM_THREADS": "1", "RECOT_RUNS": str(folder / "runs"), "RECOT_CACHE": str(folder / "cache"),
                   "HOME": str(folder), "MPLCONFIGDIR": str(folder / "cache")} | changes


def python(folder, *words, cwd=None, **changes):
    """A finished process of this interpreter."""
    return subprocess.run([sys.executable, *words], cwd=cwd or folder, env=environment(folder, **changes), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)


@cache
def warm():
    """The process that forks for commands, see warm.py; it ends with this one."""
    return subprocess.Popen([sys.executable, Path(__file__).with_name("warm.py")], text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})


def asked(question):
    """The answer of the warm process."""
    warm().stdin.write(json.dumps(question) + "\n")
    warm().stdin.flush()
    if not select.select([warm().stdout], [], [], PATIENCE)[0]:
        warm().kill()
        raise TimeoutError(f"no answer to {question}")
    return int(warm().stdout.readline())


class Started:
    """A command that runs as a fork of a process which has imported the libraries.

    Args:
        words: after ``python -m``, or ``-c``, a program and its words. folder, cwd, changes: as of ``python``.
    """

    def __init__(self, folder, *words, cwd=None, **changes):
        self.words, self.place = words, tempfile.TemporaryDirectory()
        self.streams = {name: os.path.join(self.place.name, name) for name in ("stdout", "stderr")}
        for file in self.streams.values():
            Path(file).touch()
        self.pid = asked(self.streams | {"words": words, "cwd": str(cwd or folder),
                                         "environment": environment(folder, **changes)})

    def finished(self):
        """The process, once it has ended."""
        code = asked(self.pid)
        told = [Path(file).read_text() for file in self.streams.values()]
        self.place.cleanup()
        return subprocess.CompletedProcess([*self.words], code, *told)


def command(folder, module, *words, cwd=None, **changes):
    """The finished process of ``python -m module words``, see :class:`Started`."""
    return Started(folder, module, *words, cwd=cwd, **changes).finished()


def typed(folder, *overrides, cwd=None, **changes):
    """The finished process of a run."""
    return command(folder, "recot.run", *overrides, cwd=cwd, **changes)
