"""A comparison of runs as people read it: on a terminal, in markdown, as csv, and as a page of its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from recot.artifacts.comparison import LEVEL, Comparison, Method, Value
from recot.pages import html
from recot.pages.pipes import escape, table
from recot.pages.spreadsheet import guarded
from recot.record.console import print_whole
from recot.request.command import visible

DETAILS = ("method", "metric", "mean", "std", "low", "high", "difference", "p", "p_holm")
"""Columns of the values, as csv calls them."""


def number(value: float | None, digits: int = 4) -> str:
    """A number as a table shows it; empty where there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def over_seeds(value: Value) -> str:
    """Mean, and deviation over seeds where there are several."""
    return number(value.mean) + ("" if value.std is None else f" ± {number(value.std)}")


def interval(value: Value) -> str:
    """The bounds of the interval; empty where there is none."""
    return "" if value.low is None else f"{number(value.low)} to {number(value.high)}"


def p_value(value: float | None) -> str:
    """A p value; empty where nothing was tested."""
    return "" if value is None else "< 0.0001" if value < 0.0001 else number(value)


def plain(text: str) -> str:
    """A text in one line that steers no terminal."""
    return visible(text).replace("\n", "\\n")


def header(comparison: Comparison) -> list[str]:
    """Names of the columns: the first metric with its interval and test, then the others."""
    first, *others = comparison.metrics
    return ["method", "seeds", first, f"{LEVEL:.0%} of {first}".replace("%", " %"), "p", *others, "epochs", "seconds",
            "MB"]


def cells(comparison: Comparison, method: Method) -> list[str]:
    """The texts of a row, see :func:`header`."""
    first, *others = (method.values[metric] for metric in comparison.metrics)
    return [plain(method.label), str(len(method.seeds)), over_seeds(first), interval(first), p_value(first.p_holm),
            *map(over_seeds, others), f"{method.epochs:.0f}", number(method.seconds, 1), number(method.memory, 0)]


def details(comparison: Comparison) -> Iterator[list[str]]:
    """The texts of a line for each method and metric, with all that is known of the value."""
    for method in comparison.methods:
        for metric, value in method.values.items():
            yield [plain(method.label), metric, number(value.mean), number(value.std), number(value.low),
                   number(value.high), number(value.difference), p_value(value.p), p_value(value.p_holm)]


def title(comparison: Comparison) -> str:
    """What is compared."""
    part = "" if comparison.questions == "test" else f", test set {comparison.questions}"
    return plain(f"{len(comparison.methods)} method{'s' * (len(comparison.methods) != 1)} on {comparison.data} "
                 f"(split {comparison.split}{part})")


def notes(comparison: Comparison) -> list[str]:
    """What the numbers mean, one sentence each."""
    said = ["mean ± standard deviation over the seeds of a method; one seed has no deviation."]
    if comparison.users:
        said.append(f"{LEVEL:.0%}".replace("%", " %") + f": interval of the mean over {comparison.users:,} users by "
                    "Student's t, of each user's mean over the seeds.")
    if comparison.tests:
        said.append("p: paired t-test over the users against the best method of the metric, after Holm's correction "
                    f"for all {comparison.tests} tests of this comparison.")
    seeds = {method.seeds for method in comparison.methods}
    if len(seeds) > 1:
        said.append("The methods do not have the same seeds.")
    return said


def show(comparison: Comparison, console: Console) -> None:
    """Print the comparison, and below it the command of each method."""
    drawn = Table(title=title(comparison), title_justify="left")
    for name in header(comparison):
        drawn.add_column(name, justify="left" if name == "method" else "right")
    for method in comparison.methods:
        drawn.add_row(*(encodable(cell, console) for cell in cells(comparison, method)))
    print_whole(console, drawn)
    for note in notes(comparison):
        console.print(encodable(note, console), highlight=False)
    for method in comparison.methods:
        console.print(plain(f"  {method.command}"), highlight=False)


def encodable(text: str, console: Console) -> str:
    """A text with plain letters where the console has no others."""
    return text.replace("±", "+/-") if console.options.ascii_only else text


def markdown(comparison: Comparison) -> str:
    """A page: the table, every value with its interval and test, and the commands."""
    rows = [list(map(escape, cells(comparison, method))) for method in comparison.methods]
    commands = [[escape(plain(method.label)), ", ".join(map(str, method.seeds)), escape(plain(method.command))]
                for method in comparison.methods]
    return "\n".join([
        f"# {escape(title(comparison))}", "", *table(header(comparison), rows),
        *(f"* {escape(note)}" for note in notes(comparison)), "", "## Every value", "",
        *table(DETAILS, (list(map(escape, line)) for line in details(comparison))), "## Commands", "",
        *table(["method", "seeds", "command"], commands)]).rstrip() + "\n"


def spreadsheet(comparison: Comparison) -> str:
    """Csv, a line for each method and metric; an apostrophe stands before a text that a spreadsheet would run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*DETAILS, "users", "seeds", "epochs", "seconds", "peak_memory_mb", "data", "split", "questions",
                     "keys", "command"])
    for method in comparison.methods:
        for metric, value in method.values.items():
            writer.writerow([
                guarded(method.label), metric, value.mean, value.std, value.low, value.high, value.difference, value.p,
                value.p_holm, comparison.users or None, spaced(method.seeds), method.epochs, method.seconds,
                method.memory, guarded(comparison.data), comparison.split, guarded(comparison.questions),
                spaced(method.keys), guarded(method.command)])
    return text.getvalue()


def spaced(values: Sequence[object]) -> str:
    """The values with single spaces between them."""
    return " ".join(map(str, values))


def document(comparison: Comparison) -> str:
    """A page of HTML that needs no other file; all that comes from runs is escaped."""
    return html.page(
        "comparison.html", standalone=True, title=title(comparison), header=header(comparison), notes=notes(comparison),
        details_header=DETAILS, rows=[cells(comparison, method) for method in comparison.methods],
        details=list(details(comparison)), commands=[
            (plain(method.label), spaced(method.seeds), plain(method.command)) for method in comparison.methods]) + "\n"
