"""Training pairs that a finished run hardly believes in: ``python -m recot.suspects runs/<key> --out suspects.csv``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from recot.recommend import asked_for, check_out, folder_of, guarded, write
from recot.request import command
from recot.request.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("recot.suspects")  # __name__ is __main__ under python -m

SHOWN = 50
"""Pairs that are printed where no number is asked for."""
SHARE = 0.05
"""The part of the pairs in whose first rows the known noise is counted, whatever is shown."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.Parser(prog=command.program("suspects"), description=(
        "The training pairs of a finished run, those that its model believes in least first, under the ids of the raw "
        "files."))
    parser.add_argument("run", help="folder of a run, or its key")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="where things lie now: data.root=..., "
                        "data.path=..., data.cache=..., trainer.device=cpu")
    parser.add_argument("--k", type=int, help=f"how many pairs ({SHOWN} on the terminal, all with --out)")
    parser.add_argument("--folds", type=int, default=0, help="fit the model so many times, each time without a part of "
                        "the pairs, and let it judge this part; 5 is usual. What is done is kept, and a command that "
                        "was stopped goes on")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--users", metavar="IDS", help="ids, separated by commas, whose pairs are shown; one that holds "
                       "a comma or a quotation mark is quoted as in csv: '\"a,b\",c'. All users without it")
    asked.add_argument("--users-from", type=Path, metavar="FILE", help="a text file in UTF-8, one id a line, as it is")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a file .csv or .parquet; csv on the terminal "
                        "without it")
    parser.add_argument("--spreadsheet", action="store_true", help="begin an id with an apostrophe where a spreadsheet "
                        "would run it as a formula, since it begins with = + - @, a tab or a carriage return")
    return parser


def answer(options: argparse.Namespace) -> None:
    """Bring back the run and write its pairs.

    Raises:
        RequestError: an option is wrong, or see :meth:`recot.restore.Finished.suspects`.
        OSError: the pairs cannot be written.
    """
    check(options)
    users = asked_for(options)
    with command.held():
        from recot.restore import restore

    finished = restore(folder_of(options.run), options.words)
    names = None if users is None else finished.dataset.user_ids[finished.users(users).numpy()]
    frame = finished.suspects(options.folds)
    tell_noise(frame, options.k or SHOWN)
    frame = frame.drop(columns="level") if names is None else frame[frame["user"].isin(names)].drop(columns="level")
    frame = frame[:options.k or (SHOWN if options.out is None else len(frame))]
    write(guarded(frame) if options.spreadsheet else frame, options.out)


def check(options: argparse.Namespace) -> None:
    """Refuse options that cannot work before anything is read.

    Raises:
        RequestError: with what would work.
    """
    if options.k is not None and options.k < 1:
        raise RequestError(f"--k {options.k} shows nothing; give 1 or more")
    if options.folds < 0 or options.folds == 1:
        raise RequestError(f"--folds {options.folds} leaves nothing to train on; give 2 or more, or leave it out")
    check_out(options.out, options.spreadsheet)


def tell_noise(frame: pd.DataFrame, k: int) -> None:
    """Say how many pairs there are and, where noise is known, how much of it comes first.

    Args:
        frame: of :meth:`recot.restore.Finished.suspects`. k: how many pairs are looked at.
    """
    from recot.evaluation.known_noise import noise_auc
    from recot.evaluation.suspicion import precision

    n, unjudged = len(frame), int(frame["share"].isna().sum())
    log.info("%d training pairs of %d users, those the model believes in least first", n, frame["user"].nunique())
    if unjudged:
        log.info("%d of them have nothing to be compared with and come last", unjudged)
    if "noisy" not in frame or not 0 < frame["noisy"].sum() < n:
        return
    level, noisy, few = frame["level"].to_numpy(), frame["noisy"].to_numpy(), max(1, round(SHARE * n))
    areas = noise_auc(level, noisy, frame["user"].factorize()[0])
    log.info("%.1f %% of them are known to be noise, and %.1f %% of the first %d, %.1f %% of the first %d (%g %%); "
             "AUC %.3f (within users %.3f)", 100 * noisy.mean(), 100 * precision(level, noisy, k), min(k, n),
             100 * precision(level, noisy, few), few, 100 * SHARE, areas["auc"], areas["auc_user"])


def suspects() -> int:
    """What the command does; its exit code."""
    return command.answered(arguments(), answer)


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    command.carry_out(suspects, "recot", "what is done of --folds is kept, and the same command goes on")


if __name__ == "__main__":
    main()
