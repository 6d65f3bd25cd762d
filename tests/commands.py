"""How tests start runs: composed in this process, or typed into another one. Nothing is written outside tmp_path."""

import os
import subprocess
import sys

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recot import experiment
from recot.run import CONF, checked

TINY = ("trainer=smoke", "trainer.max_epochs=2", "data.n_users=60", "data.mean_activity=8")


def composed(*overrides):
    """The checked config of a command, and the choice of each group."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("run", list(overrides), return_hydra_config=True)
    choices = {group: str(choice) for group, choice in cfg.hydra.runtime.choices.items()}
    return checked(OmegaConf.masked_copy(cfg, [name for name in cfg if name != "hydra"]), choices), choices


def execute(runs, *overrides):
    """The record of a small run, carried out in this process."""
    config, choices = composed(*TINY, *overrides)
    config["paths"] = {"runs": str(runs), "cache": str(runs)}
    return experiment.run(config, choices, "python -m recot.run " + " ".join(overrides))


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
