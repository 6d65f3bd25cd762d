"""Lists from a finished run: ``python -m recot.recommend runs/<key> --k 20 --out lists.parquet``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recot.compose import composed, explain
from recot.schema import RequestError


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m recot.recommend", description=(
        "The best items of each user by a finished run, under the ids of the raw files."))
    parser.add_argument("run", help="folder of a run, or its key")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="where things lie now: data.root=..., "
                        "data.path=..., data.cache=..., trainer.device=cpu")
    parser.add_argument("--k", type=int, default=10, help="length of a list (default 10)")
    parser.add_argument("--users", type=lambda text: text.split(","), help="ids, separated by commas; all without it")
    parser.add_argument("--tested", action="store_true", help="the lists that were graded, of the users that were "
                        "tested; without it all known pairs are part of the histories, and left out")
    parser.add_argument("--out", type=Path, help="a file .csv or .parquet; without it csv on the terminal")
    return parser


def answer(options: argparse.Namespace) -> None:
    """Bring back the run and write its lists.

    Raises:
        RequestError: see :mod:`recot.restore`; or ``--out`` is of neither kind, or its folder is not there.
    """
    out: Path | None = options.out
    if out and out.suffix not in (".csv", ".parquet"):
        raise RequestError(f"--out {out} is neither .csv nor .parquet")
    if out and not out.absolute().parent.is_dir():
        raise RequestError(f"--out {out}: there is no folder {out.absolute().parent}")
    folder = Path(options.run)
    if folder.name == "record.json":  # the path that recot.run prints
        folder = folder.parent
    if not folder.is_dir():
        folder = Path(composed()[0]["paths"]["runs"]) / folder
    from recot.restore import restore

    finished = restore(folder, options.words)
    frame = finished.lists(options.k, finished.users(options.users) if options.users else None, options.tested)
    if out and out.suffix == ".parquet":
        frame.to_parquet(out, index=False)
    else:
        frame.to_csv(out or sys.stdout, index=False, lineterminator="\n")


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 the request was wrong."""
    from recot.run import failed, quiet_threads, refuse, seen_enough

    quiet_threads()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("recot.restore").setLevel(logging.INFO)
    try:
        answer(arguments().parse_intermixed_args())
    except (RequestError, HydraException, OmegaConfBaseException) as error:
        raise SystemExit(refuse(explain(error))) from None
    except BrokenPipeError:
        seen_enough()
    except Exception as error:
        raise SystemExit(failed(error)) from error


if __name__ == "__main__":
    main()
