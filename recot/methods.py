"""What can be typed as ``model=``: ``python -m recot.methods``, or ``python -m recot.methods sclrec`` for one."""

from __future__ import annotations

import argparse

from recot.request import command
from recot.request.errors import RequestError


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.Parser(prog=command.program("methods"), description=(
        "All presets of methods with their papers and what they need, or all about one."))
    parser.add_argument("preset", nargs="?", help="the name of one method, as model= takes it")
    parser.add_argument("--kind", metavar="WORD", help="only of this kind, such as pairs, sequences or 'closed form'")
    parser.add_argument("--needs", metavar="WORD", help="only those whose data need times or domains; - for neither")
    parser.add_argument("--unseen", action="store_true", help="only those that serve users who did not train")
    parser.add_argument("--markdown", action="store_true", help="as the table of README.md")
    return parser


def answer() -> int:
    """Print what was asked for; the exit code.

    Raises:
        RequestError: there is no such method or kind, or one method and a choice among all were asked for.
    """
    options = arguments().parse_args()
    with command.held():
        from recot.pages import methods

    if options.preset is not None:
        if options.kind or options.needs or options.unseen or options.markdown:
            raise RequestError(f"{options.preset} is one method, and --kind, --needs, --unseen and --markdown choose "
                               "among all; leave one of the two out")
        command.tell(methods.page(options.preset))
        return 0
    found = methods.chosen(options.kind, options.needs, options.unseen)
    command.tell(methods.markdown(found) if options.markdown else columns(methods.rows(found)))
    return 0


def columns(rows: list[tuple[str, ...]]) -> str:
    """Rows of texts as columns of a common width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
                   for row in rows)


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes."""
    command.carry_out(answer, "recot", "nothing was written")


if __name__ == "__main__":
    main()
