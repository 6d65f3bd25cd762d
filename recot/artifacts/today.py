"""Which runs were made by code that has changed since, told from csv files and specs alone: no data need be at hand."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from recot.artifacts.plan import Planner, Request
from recot.artifacts.report import Report
from recot.request.errors import RequestError

log = logging.getLogger(__name__)


def digests(reports: Iterable[Report]) -> dict[str, str]:
    """Digest of the code that would make each run now, by key; none where the spec asks for what cannot run.

    To compose a config takes a twentieth of a second. Of the runs that the same code made one is composed: the digest
    of a run covers the classes that its config names, so that what had the same one reaches the same code now.
    """
    from recot.record.provenance import source_digest

    planner = Planner(Request([]))
    found: dict[str, str | None] = {}
    known: dict[str, str | None] = {}  # by the digest of the code that made the run
    for report in reports:
        rows = {row.id: row for row in report.artifact.rows}
        columns = {column.id: column for column in report.artifact.columns}
        for line in report.cells.values():
            for seed, key in zip(line.seeds, line.keys, strict=True):
                run = report.runs.get(key)
                if run is None or key in found:
                    continue
                if run.sources not in known:
                    overrides = (*columns[line.column].overrides, *rows[line.row].overrides)
                    try:
                        known[run.sources] = source_digest(planner.config(overrides, seed)[0])
                    except RequestError as error:
                        log.warning("%s", error)
                        known[run.sources] = None
                found[key] = known[run.sources]
    return {key: digest for key, digest in found.items() if digest}
