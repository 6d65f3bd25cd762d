"""The claims of the papers and their verdicts as text, for the page of results and for ``results/README.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from recot.artifacts.claims import HELD, Judgement, judgements
from recot.artifacts.load import papers, title
from recot.artifacts.rules import SIGNIFICANT, Comparison
from recot.pages.pipes import escape, table
from recot.pages.table import percent, shown
from recot.system.files import write_whole

BEGIN = "<!-- claims: written by make tables from claims.yaml -->\n"
END = "<!-- end of claims -->"


def short(paper: str) -> str:
    """The name of a paper, without what its title says besides."""
    return title(paper).partition(",")[0]


def numbers(comparison: Comparison) -> str:
    """The readings of a comparison: ``SCLRec 0.1207 against CLRec 0.1209 (ndcg@20, Gowalla)``."""
    readings = comparison.readings
    metrics, places = (list(dict.fromkeys(getattr(each, name) for each in readings)) for name in ("metric", "data"))
    parts = []
    for each in readings:
        beside = [each.metric] * (len(metrics) > 1) + [each.data] * (len(places) > 1)
        name = "ours" if each.row == "statistics" else each.name
        parts.append(f"{name} {exact(each.value, each.metric)}" + f" ({'; '.join(beside)})" * bool(beside))
    if len(parts) == 4:  # two changes
        parts = [" to ".join(parts[:2]), " to ".join(parts[2:])]
    common = [metrics[0]] * (len(metrics) == 1) + [places[0]] * (len(places) == 1)
    return " against ".join(parts) + f" ({'; '.join(common)})" * bool(common)


def exact(value: float | None, metric: str) -> str:
    """A value as tables show it; one that four digits would hide in full."""
    text = shown(value, metric)
    return f"{value:.2g}" if value and not text.strip("0.") else text


def evidence(comparison: Comparison) -> str:
    """The change that is judged, and what stands behind it."""
    change = "" if comparison.change is None else percent(comparison.change)
    word = "" if comparison.what == "difference" else f" {comparison.what}"
    if comparison.p is not None:
        word += f", p {'< .001' if comparison.p < 0.001 else f'= {comparison.p:.2g}'} {comparison.evidence}"
    elif comparison.evidence:
        word += f", {comparison.evidence}"
    return change + word


def count(judgement: Judgement) -> str:
    """How many comparisons bear a claim out, and how many cannot be made."""
    made, asked = len(judgement.made), len(judgement.comparisons)
    held = sum(bool(each.holds) for each in judgement.made)
    tested = [each.p < SIGNIFICANT for each in judgement.made if each.holds and each.p is not None]
    firm = f", {sum(tested) or 'none'} significant" * bool(tested)
    parts = [f"{held} of {made} comparison{'s' * (made != 1)}{firm}"]
    return "; ".join(parts + [f"{asked - made} cannot be made yet"] * (asked > made))


def deciding(judgement: Judgement) -> str:
    """The comparison that decides, in words."""
    tightest = judgement.tightest
    if tightest is None:
        return "no cell is there yet" if judgement.claim.rule else judgement.claim.prose
    return f"{numbers(tightest)}: {evidence(tightest)}"


def markdown(judged: Iterable[tuple[str, Sequence[Judgement]]]) -> str:
    """The section of ``results/README.md``: a table of what cells decide, and a list of what none decides.

    Args:
        judged: names of papers, each with its claims.
    """
    body, prose = [], []
    for name, each in judged:
        for judgement in each:
            claim = judgement.claim
            if claim.prose:
                prose.append(f"* {escape(name)}, {escape(claim.text)}: {escape(claim.prose)}")
                continue
            remark = claim.remarks.get(judgement.verdict, "")
            here = f"**{judgement.verdict}**" if judgement.verdict == HELD else judgement.verdict
            body.append([escape(name), escape(claim.text), f"{here} ({count(judgement)})",
                         escape(deciding(judgement) + f". {remark}" * bool(remark))])
    page = table(["paper", "claim", "here", "the comparison that bears it out least"], body)
    return "\n".join([*page, "No cell decides these:", "", *prose, ""] if prose else page)


def section(results: Path) -> str:
    """What stands between the two marks, from the csv files in ``results``."""
    return markdown((short(paper), judged) for paper in papers() if (judged := judgements(paper, results)))


def update(results: Path) -> bool:
    """Bring the claims of ``<results>/README.md`` up to date; whether there are marks that say where they stand.

    Raises:
        RequestError: the file of claims says something that nothing reads.
        OSError: the page cannot be written.
    """
    page = results / "README.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return False
    fresh = before + begin + section(results) + end + after
    if fresh != text:
        write_whole(page, fresh.encode())
    return True
