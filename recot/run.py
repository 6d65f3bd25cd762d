"""The command: ``python -m recot.run model=sclrec data=gowalla``. Imports torch only when there is something to run."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recot.compose import CONF, checked, explain
from recot.schema import RequestError

log = logging.getLogger("recot.run")  # __name__ is __main__ under python -m


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="run")
def run(cfg: DictConfig) -> None:
    """One job, of one or of a sweep."""
    settings = HydraConfig.get()
    choices = {group: str(choice) for group, choice in settings.runtime.choices.items()}
    typed: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)  # resolving could copy a secret
    sources = settings.runtime.config_sources
    places = [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    command = shlex.join(["python", "-m", "recot.run", *places, *typed])
    try:
        config = checked(cfg, choices, [Path(source.path) for source in sources if source.schema == "file"])
        asked = any(word.startswith("tuned=") for word in typed)
        if asked and not (CONF / "tuned" / f"{choices['tuned']}.yaml").exists():
            log.warning("conf/tuned has no %s, so the settings of the preset apply; recot.tune --write makes one",
                        choices["tuned"])
        from recot import experiment
        from recot.report import show

        show(experiment.run(config, choices, command), config["paths"]["runs"])
    except Exception as error:
        if settings.mode == RunMode.MULTIRUN:  # Hydra goes on with the other jobs and raises the first error at the end
            log.error("%s: %s: %s", command, type(error).__name__, explain(error))
        raise


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 the request was wrong."""
    full = os.environ.setdefault("HYDRA_FULL_ERROR", "1") and os.environ.get("RECOT_TRACEBACK")
    quiet_threads()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recot").setLevel(logging.INFO)
    # argparse takes the overrides in one piece only, and "model=clrec -m seed=0,1" is what people type.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word in ("-m", "--multirun"))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path the terminal has no letters for
    try:
        run()
    except RequestError as error:
        raise SystemExit(refuse(str(error))) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(refuse(explain(error))) from None
    except BrokenPipeError:
        seen_enough()
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from the last checkpoint, where there is one yet (one is "
                         "written every trainer.checkpoint_seconds)\n")
        raise SystemExit(130) from None
    except Exception as error:
        if not full and str(error).startswith("Config group override must be"):  # Hydra's answer to denoiser=null
            raise SystemExit(refuse("a group takes the name of a choice, not null; write denoiser=none")) from None
        raise SystemExit(failed(error, "; the record of a run that was started holds it too")) from error


def failed(error: Exception, more: str = "") -> int:
    """Say in one line what went wrong, or raise it where the traceback is asked for; the exit code for it."""
    if os.environ.get("RECOT_TRACEBACK"):
        raise error
    sys.stderr.write(f"{type(error).__name__}: {error}\n(RECOT_TRACEBACK=1 shows where{more})\n")
    return 1


def seen_enough() -> None:
    """The reader of what is printed, such as head, is gone: what is still buffered has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def quiet_threads() -> None:
    """Before torch is imported: let threads spin briefly while they wait, then sleep.

    Threads that spin for long lose their time slice on a busy machine (an epoch of the planted data took 6.9 s in place
    of 0.4 s), and threads that never spin are a third slower on a quiet one.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def refuse(reason: str) -> int:
    """Say why the request is wrong; the exit code for it."""
    sys.stderr.write(f"refused: {reason}\n")
    return 2


if __name__ == "__main__":
    main()
