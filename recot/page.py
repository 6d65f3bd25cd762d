"""The results as pages that a browser opens without network: ``python -m recot.page`` (``make page``).

Everything comes from the csv files of results, the specs and the papers' printed numbers; no run need be at hand.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from recot.request import command

log = logging.getLogger("recot.page")  # __name__ is __main__ under python -m


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.Parser(command.program("page"), description=(
        "The tables, figures, claims and methods as a folder of pages that works from a file, and the same as a zip."))
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables (default results)")
    parser.add_argument("--out", type=Path, help="folder of the pages (default site in the folder of the tables)")
    parser.add_argument("--profile", default="", help="a profile of the tables, such as smoke, whose folder is in "
                        "that of the tables")
    return parser


def make() -> int:
    """Make the pages; the exit code.

    Raises:
        RequestError: what they are made with is not installed, or the folder is not one of ours.
    """
    options = arguments().parse_args()
    with command.held():
        from recot.artifacts import today
        from recot.artifacts.load import load, papers, tunes_first
        from recot.artifacts.report import report
        from recot.pages.site import Site, presets, widget

    widget()
    results = options.results / options.profile if options.profile else options.results
    every = [report(artifact, results) for paper in papers() for artifact in load(paper, options.profile or None)]
    there = {each.artifact.paper for each in every if each.lines or each.fault}
    shown = there or {each.artifact.paper for each in every if not tunes_first(each.artifact.paper)}
    reports = [each for each in every if each.artifact.paper in shown]
    # Beside the rest: it takes as long as all else, and only it needs torch.
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as beside:
        digests = beside.submit(today.digests, reports)
        site = Site(results, reports, presets(), digests.result(), options.profile)
    site.make()
    out = options.out or results / "site"
    size = site.write(out)
    log.info("%d pages, %.1f MB: %s", sum(name.endswith(".html") for name in site.files), size / 1e6,
             out / "index.html")
    for each in reports:
        if each.fault:
            log.error("%s", each.fault)
    return int(any(each.fault for each in reports))


def main() -> None:
    """Entry point; see :func:`recot.request.command.carry_out` for exit codes. 1 also says that a csv is damaged."""
    command.carry_out(make, "recot.page", "the pages are as they were")


if __name__ == "__main__":
    main()
