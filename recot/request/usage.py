"""What ``python -m recot.run --help`` prints. Hydra's own text costs twice the time, most of it for its own groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from recot.request import command
from recot.request.compose import CONF, layers

GROUPS = {"data": "what was observed", "protocol": "what is asked of it", "noise": "what is added to it",
          "model": "the method; brings its loss, denoiser and settings along", "loss": "what it is trained on",
          "denoiser": "what makes it robust to noise", "trainer": "how long, and where", "logger": "where else the "
          "history goes", "stage": "what may come before the model, as +stage@stages.NAME="}
"""What a user may choose, and what each group says. ``recipe`` and ``tuned`` choose themselves."""

HEAD = """usage: {program} [GROUP=CHOICE ...] [KEY=VALUE ...] [-m]

One experiment: the named choices, with any value changed by its path.

  {program} model=sclrec data=gowalla trainer.max_epochs=20
  {program} -m model=sclrec,bprmf seed=0,1,2      all combinations
  {program} model=sclrec --cfg job                the config; runs nothing
  {program} --config-dir FOLDER model=mine        choices of your own as well

Exit codes: 0 done, 1 failed, 2 the request was wrong, 128 + n stopped by signal n.
--hydra-help says what else Hydra takes.
"""


def wanted(words: Sequence[str]) -> bool:
    """Whether a command asks for this text."""
    return bool(get_args_parser().parse_known_args(list(words))[0].help)


def text(words: Sequence[str]) -> str:
    """How a run is typed, the choices of each group, and the config of what is typed already.

    Raises:
        HydraException, OmegaConfBaseException, RequestError: the words make no config.
    """
    given = get_args_parser().parse_known_args(list(words))[0]
    folders = [CONF, *([Path(given.config_dir)] if given.config_dir else [])]
    search = [f"hydra.searchpath=['file://{folder.absolute()}']" for folder in folders[1:]]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config, _ = layers([*given.overrides, *search])
    groups = [f"{group} ({what}):\n  {', '.join(choices(group, folders))}" for group, what in GROUPS.items()]
    return "\n".join([HEAD.format(program=command.program("run")), *groups, "", "The config of these words:", "",
                      OmegaConf.to_yaml(config)])


def choices(group: str, folders: Sequence[Path]) -> list[str]:
    """The names that ``GROUP=`` takes, in order."""
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
