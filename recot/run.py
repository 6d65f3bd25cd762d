"""The command: ``python -m recot.run model=sclrec data=gowalla``. Imports torch only when there is something to run."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recot.request import command
from recot.request.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("recot.run")  # __name__ is __main__ under python -m


def run(cfg: DictConfig, failures: list[Exception], swept: list[tuple[str, str]]) -> None:
    """Run one job of a command. What makes a job fail is added to ``failures``; the other jobs of a sweep go on.

    Args:
        swept: gets the folder of records and the key of each finished job of a sweep.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from recot.request.compose import CONF, check_trust, checked, explain, fitting

    settings = HydraConfig.get()
    choices = {group: str(choice) for group, choice in settings.runtime.choices.items()}
    typed: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)  # resolving could copy a secret
    sources = settings.runtime.config_sources
    folders_typed = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    line = shlex.join(["python", "-m", "recot.run", *folders_typed, *typed])
    try:
        check_trust(cfg, typed)
        folders = [Path(source.path) for source in sources if source.schema == "file"]
        cfg, choices = fitting(cfg, choices, typed, folders)
        config = checked(cfg, choices)
        named = any(word.startswith("tuned=") for word in typed)
        if named and not (CONF / "tuned" / f"{choices['tuned']}.yaml").exists():
            log.warning("conf/tuned has no %s, so the settings of the preset apply; recot.tune --write makes one",
                        choices["tuned"])
        with command.held():
            from recot.fit import processes
            from recot.record import experiment
            from recot.record.console import show

        record = experiment.run(config, choices, line)
        if not processes.talks():
            return
        with command.telling():
            show(record, config["paths"]["runs"])
    except Exception as error:
        failures.append(error)
        if settings.mode == RunMode.MULTIRUN:
            log.error("%s: %s: %s", line, type(error).__name__, explain(error))
        return
    if settings.mode == RunMode.MULTIRUN:
        swept.append((config["paths"]["runs"], record["key"]))
    if not record["fresh"] and config["logger"]["_target_"] != "recot.record.trackers.Csv":
        log.warning("this run was finished before, so logger=%s gets nothing; force=true repeats the run and sends it",
                    choices["logger"])


def hydra_jobs() -> int:
    """Let Hydra compose what was typed and run it; the exit code.

    Raises:
        RequestError: a group was set to null.
        Exception: the first failure of a job.
    """
    with command.held():
        import hydra

        from recot.request import usage
        from recot.request.compose import CONF, check_folders

    # argparse takes the overrides in one piece only, and "model=clrec -m seed=0,1" is what people type.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word in ("-m", "--multirun"))
    check_folders(sys.argv[1:])
    if usage.wanted(sys.argv[1:]):
        command.tell(usage.text(sys.argv[1:]))
        return 0
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # or Hydra ends the process in its own way
    failures: list[Exception] = []
    swept: list[tuple[str, str]] = []
    work = partial(run, failures=failures, swept=swept)
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="run")(work)()
    except ValueError as error:
        if str(error).startswith("Config group override must be"):  # Hydra's answer to denoiser=null
            raise RequestError("a group takes the name of a choice, not null; write denoiser=none") from error
        raise
    if swept:
        side_by_side(swept)
    if failures:
        raise failures[0]
    return 0


def side_by_side(swept: Sequence[tuple[str, str]]) -> None:
    """Print the comparison of the finished jobs of a sweep; that this fails is no failure of the sweep."""
    from recot.compare import conclude

    try:
        with command.telling():
            conclude(swept)
    except (OSError, ValueError) as error:
        log.warning("the jobs are done, but not compared: %s", error)


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    command.carry_out(hydra_jobs, "recot", "the same command goes on from the last checkpoint, where there is one yet "
                      "(one is written every trainer.checkpoint_seconds)")


if __name__ == "__main__":
    main()
