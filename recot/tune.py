"""Picks settings by validation answers: ``python -m recot.tune model=clrec loss.tau=0.1,0.2 --trials 2``.

Hydra's sweep grammar says what is tuned, and optuna's seeded TPE sampler what is tried next (its first ten trials are
drawn at random). Each trial is an ordinary run, whose record is addressed by its config, so a study keeps nothing of
its own: one that was killed and is started again asks the same sampler, gets the same answers, finds the records of
what was finished, and the unfinished run goes on from its checkpoint. A stored study could not do that: the trial of
the killed process would stay in it as running for ever. Where records are gone, as in a clone, the table of the study
answers for them.

Records hold test answers too; nothing here reads them.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from recot.record.lines import TrialLine, TrialRun
from recot.record.store import Runs
from recot.request.command import Parser, carry_out, program, telling, visible
from recot.request.compose import composed
from recot.request.errors import RequestError
from recot.tuning.search import Run, best, command, configured, here, tune
from recot.tuning.space import Space


def ranked(lines: Sequence[TrialLine]) -> list[TrialLine]:
    """The trials, the best first: by their final values, and those without one by their values."""
    return sorted(lines, reverse=True, key=lambda line: tuple(
        -math.inf if run is None or run.value is None else run.value for run in (line.final, line.run)))


def show(lines: Sequence[TrialLine], overrides: Sequence[str], write: bool) -> None:
    """Print the best trials and what to type for the first of them."""
    from rich.console import Console
    from rich.table import Table

    from recot.record.console import print_whole

    space, winner, finals = Space(overrides), best(lines), any(line.final for line in lines)
    table = Table(title=f"the best of {len(lines)} trials, validation {lines[0].metric}, at most "
                        f"{lines[0].max_epochs} epochs each")
    for name in ("trial", *space.sweeps, lines[0].metric, "epochs", "seconds", *["to the end", "its epochs"] * finals):
        table.add_column(name, justify="right")
    for line in ranked(lines)[:10]:
        final, run = line.final or TrialRun(), line.run
        value = run.status if run.value is None else f"{run.value:.4f}"
        ends = ["" if final.value is None else f"{final.value:.4f}", final.epochs] if finals else []
        table.add_row(*("" if cell is None else visible(str(cell)) for cell in (
            line.trial, *(line.settings[key] for key in space.sweeps), value, run.epochs, run.seconds, *ends)))
    console = Console(markup=False)
    print_whole(console, table)
    if winner:
        words = space.words(winner.settings)
        plain = shlex.join(["python", "-m", "recot.run", *words])  # a tuned file that was just written holds no more
        shown = plain if write else command(words, configured(words, None)[1])
        console.print(visible(f"best: {shown}"), highlight=False, soft_wrap=True)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog=program("tune"), description="Pick settings by validation answers. "
                                     "What is killed goes on when the same command is typed again.")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE",
                        help="as for recot.run; what has several values is tuned: loss.tau=0.1,0.2  "
                             "'model.dim=range(32,128,32)'  'trainer.learning_rate=tag(log,interval(1e-4,1e-2))'")
    parser.add_argument("--trials", type=int, required=True, help="different configurations in total, those of before "
                        "included")
    parser.add_argument("--epochs", type=int, help="at most so many for each trial")
    parser.add_argument("--sampler-seed", type=int, default=0, help="another order of trials (default 0)")
    parser.add_argument("--preset-first", action="store_true", help="the first trial has the settings of the preset, "
                        "which have to be among those tried")
    parser.add_argument("--finals", type=int, default=0, metavar="N", help="run the best N, and the preset where it "
                        "came first, without the cap on epochs as well, and let these decide")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR",
                        help="where tuning/<data>/<model>-<loss>-<denoiser>.csv is written (default results)")
    parser.add_argument("--launcher", choices=["local", "slurm"], default="local", help="where trials are made: in "
                        "this process, or by a cluster's queue")
    parser.add_argument("--slurm", type=shlex.split, action="extend", default=[], metavar="'KEY=VALUE ...'",
                        help="what a job asks of Slurm, such as 'partition=gpu gpus_per_node=1 timeout_min=120'")
    parser.add_argument("--write", action="store_true", help="put the best values into conf/tuned")
    return parser


def trials_by(options: argparse.Namespace) -> Run:
    """What makes the trials: this process, or the launcher that was named.

    Raises:
        RequestError, HydraException: what was typed about Slurm is wrong, or Slurm is not there.
    """
    if options.launcher == "local":
        if options.slurm:
            raise RequestError("--slurm is for --launcher slurm; name the launcher, or leave --slurm out")
        return here
    from recot.artifacts.jobs import one_by_one
    from recot.artifacts.slurm import queue

    places = [word for word in options.overrides if word.startswith("paths.")]
    return one_by_one(queue(Runs(composed(*places)[0]["paths"]["runs"]), options.slurm))


def study() -> int:
    """What the command does; its exit code, 1 where no trial ended well."""
    options = arguments().parse_intermixed_args()
    lines = tune(options.overrides, options.trials, options.epochs, options.sampler_seed, options.results,
                 options.write, options.preset_first, options.finals, trials_by(options))
    with telling():
        show(lines, options.overrides, options.write)
    return 0 if best(lines) else 1


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    carry_out(study, "recot.tune", "the same command goes on where it was")


if __name__ == "__main__":
    main()
