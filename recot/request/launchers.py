"""What has to be there for work on many machines, asked before anything is read."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence

from recot.request.errors import RequestError

EXTRA = "pip install 'recot[slurm]'"
"""What installs the packages that launchers need."""

OF_HYDRA = {"submitit_slurm", "submitit_local"}
"""Launchers of sweeps that Hydra has once :data:`EXTRA` is installed."""


def check_launcher(name: str, package: str) -> None:
    """Refuse a launcher whose package is not installed, and one of Slurm where there is no Slurm.

    Args:
        name: as it was typed. package: that the launcher needs, by the name of its import.

    Raises:
        RequestError: with what is missing.
    """
    above = package.partition(".")[0]
    if importlib.util.find_spec(above) is None or importlib.util.find_spec(package) is None:
        raise RequestError(f"the launcher {name} needs a package that is not installed; type {EXTRA}")
    missing = [program for program in ("sbatch", "srun", "squeue") if shutil.which(program) is None]
    if name.endswith("slurm") and missing:
        raise RequestError(f"the launcher {name} gives jobs to Slurm, and there is no {missing[0]} here; type the "
                           "command on a machine of the cluster that takes jobs")


def check_hydra_launcher(words: Sequence[str]) -> None:
    """Refuse a launcher of a sweep that is not there.

    Args:
        words: everything that was typed after ``python -m recot.run``.

    Raises:
        RequestError: with what is missing.
    """
    for word in words:
        name, _, choice = word.lstrip("+").partition("=")
        if name == "hydra/launcher" and choice in OF_HYDRA:
            check_launcher(choice, "hydra_plugins.hydra_submitit_launcher")
