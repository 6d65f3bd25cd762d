"""How tests start runs: composed in this process, or typed into another one. Nothing is written outside tmp_path."""

import os
import subprocess
import sys

from recot.record import experiment
from recot.record.store import Runs
from recot.request.compose import composed

TINY = ("trainer=smoke", "trainer.max_epochs=2", "data.n_users=60", "data.mean_activity=8")


def execute(runs, *overrides):
    """The record of a small run, carried out in this process."""
    config, choices = composed(*TINY, *overrides)
    config["paths"] = {"runs": str(runs), "cache": str(runs)}
    return experiment.run(config, choices, "python -m recot.run " + " ".join(overrides))


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
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)


def typed(folder, *overrides, cwd=None, **changes):
    """The finished process of a command."""
    return python(folder, "-m", "recot.run", *overrides, cwd=cwd, **changes)
