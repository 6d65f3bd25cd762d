"""The script ``recot`` and ``python -m recot``: one command, whose sub-commands are modules of this folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from recot.request import command
from recot.request.errors import RequestError, nearest

COMMANDS = {
    "run": "one run, or a sweep: recot run model=sclrec data=gowalla; the word run may be left out",
    "tables": "the tables and figures of the papers: recot tables --paper sclrec",
    "compare": "finished runs side by side: recot compare --last, or --data gowalla, or runs/KEY runs/KEY",
    "methods": "what model= takes: recot methods --needs times, or recot methods sclrec for all about one",
    "tune": "settings by validation answers: recot tune model=clrec loss.tau=0.1,0.2 --trials 2",
    "page": "the results as pages for a browser: recot page",
    "recommend": "lists from a finished run: recot recommend runs/KEY --k 20 --out lists.parquet",
    "suspects": "the training pairs that a finished run believes in least: recot suspects runs/KEY --k 50"}

HELP = "\n".join(["usage: recot SUB-COMMAND ...", "", "sub-commands:",
                  *(f"  {name:10} {what}" for name, what in COMMANDS.items()), "",
                  "recot SUB-COMMAND --help says what a sub-command takes.", ""])


def sub_command(words: Sequence[str]) -> str | None:
    """The sub-command that the words begin with, or ``run`` where they begin with what a run takes; None for others."""
    if not words or words[0] in COMMANDS:
        return words[0] if words else "run"
    return None if words[0] in ("-h", "--help") or words[0].isidentifier() else "run"


def answer() -> int:
    """Print the help, or refuse a word that is no sub-command; the exit code.

    Raises:
        RequestError: with the nearest one.
    """
    word = sys.argv[1]
    if word not in ("-h", "--help"):
        raise RequestError(f"recot has no sub-command {word!r}. {nearest(word, sorted(COMMANDS))}")
    command.tell(HELP)
    return 0


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    words = sys.argv[1:]
    name = sub_command(words)
    if name is None:
        command.carry_out(answer, "recot", "nothing was done")
    sys.argv = [f"recot {name}", *words[words[:1] == [name]:]]
    importlib.import_module(f"recot.{name}").main()


if __name__ == "__main__":
    main()
