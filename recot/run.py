"""The command: ``python -m recot.run model=sclrec data=gowalla``. Imports torch only when there is something to run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recot.request import command
from recot.request.errors import RequestError
from recot.system.files import write_whole
from recot.system.place import place, talks

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger("recot.run")  # __name__ is __main__ under python -m


class Jobs:
    """What became of the jobs of a command. Those of a launcher run in other processes, and leave it in a folder.

    Args:
        folder: that folder, which all machines see; None where the jobs run in this process.

    Attributes:
        failures: of jobs that failed. swept: the folder of records and the key of each finished job of a sweep.
    """

    def __init__(self, folder: Path | None):
        self.folder, self.failures, self.swept = folder, list[Exception](), list[tuple[str, str]]()

    def failed(self, number: int, line: str, error: Exception) -> None:
        """Keep the failure of a job; the other jobs of a sweep go on."""
        from recot.request.compose import explain

        if self.folder is None:
            self.failures.append(error)
        else:
            kind = RequestError.__name__ if command.refuses(error) else type(error).__name__
            self.leave(number, {"line": line, "kind": kind, "error": explain(error)})

    def done(self, number: int, runs: str, key: str) -> None:
        """Keep the key of a finished job of a sweep."""
        if self.folder is None:
            self.swept.append((runs, key))
        else:
            self.leave(number, {"runs": runs, "key": key})

    def leave(self, number: int, told: dict[str, str]) -> None:
        """Write for the command that waits what became of a job."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f"{number:06}.json", json.dumps(told).encode())

    def gather(self) -> None:
        """Read what other processes left."""
        for file in sorted(self.folder.glob("*.json")) if self.folder else ():
            told = json.loads(file.read_bytes())
            if "key" in told:
                self.swept.append((told["runs"], told["key"]))
                continue
            kind = RequestError if told["kind"] == RequestError.__name__ else type(told["kind"], (Exception,), {})
            self.failures.append(kind(told["error"]))
            log.error("%s: %s: %s", told["line"], told["kind"], told["error"])
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def run(cfg: DictConfig, jobs: Jobs) -> None:
    """Run one job of a command, and say in ``jobs`` what became of it; a failure of one job is no error here."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from recot.request.compose import CONF, check_trust, checked, explain, fitting

    settings = HydraConfig.get()
    number = settings.job.num if settings.mode == RunMode.MULTIRUN else 0
    choices = {group: str(choice) for group, choice in settings.runtime.choices.items()}
    typed: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)  # resolving could copy a secret
    sources = settings.runtime.config_sources
    folders_typed = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    line = shlex.join(["python", "-m", "recot.run", *folders_typed, *typed])
    if not talks():  # one process says what the request comes to
        logging.getLogger("recot.request").setLevel(logging.ERROR)
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
            from recot.record import experiment
            from recot.record.console import show

        record = experiment.run(config, choices, line)
        if not talks():
            return
        with command.telling():
            show(record, config["paths"]["runs"])
    except Exception as error:
        jobs.failed(number, line, error)
        if settings.mode == RunMode.MULTIRUN and not jobs.folder:
            log.error("%s: %s: %s", line, type(error).__name__, explain(error))
        return
    if settings.mode == RunMode.MULTIRUN:
        jobs.done(number, config["paths"]["runs"], record["key"])
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
        from recot.request.launchers import check_hydra_launcher

    # argparse takes the overrides in one piece only, and "model=clrec -m seed=0,1" is what people type.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word in ("-m", "--multirun"))
    check_folders(sys.argv[1:])
    check_hydra_launcher(sys.argv[1:])
    if usage.wanted(sys.argv[1:]):
        command.tell(usage.text(sys.argv[1:]))
        return 0
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # or Hydra ends the process in its own way
    jobs = Jobs(told_in(sys.argv[1:]))
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="run")(partial(run, jobs=jobs))()
    except ValueError as error:
        if str(error).startswith("Config group override must be"):  # Hydra's answer to denoiser=null
            raise RequestError("a group takes the name of a choice, not null; write denoiser=none") from error
        raise
    except Exception as error:
        if jobs.folder is None:
            raise
        jobs.failures.append(error)  # of a job that was killed; those that ended are compared
    jobs.gather()
    if jobs.swept:
        side_by_side(jobs.swept)
    if jobs.failures:
        raise jobs.failures[0]
    return 0


def told_in(words: Sequence[str]) -> Path | None:
    """Where the jobs of a launcher that was typed say what became of them; None where there is no launcher."""
    from recot.compare import folder_of_records
    from recot.request.compose import values

    if not any(word.lstrip("+").startswith("hydra/launcher=") for word in words):
        return None
    places = [word for word in words if word.lstrip("+").startswith("paths.runs=")]
    typed = next(iter(values(places).values()), None)
    return folder_of_records(typed and Path(str(typed))).absolute() / ".sweep" / secrets.token_hex(8)


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
    try:
        command.carry_out(hydra_jobs, "recot", "the same command goes on from the last checkpoint, where there is one "
                          "yet (one is written every trainer.checkpoint_seconds)")
    except SystemExit as end:
        if place().world == 1:
            raise
        # Threads of gloo may still hold tensors, and abort the process when the interpreter is taken down
        # (https://github.com/pytorch/pytorch/pull/179291). All that is to be written has been written.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(int(end.code or 0))


if __name__ == "__main__":
    main()
