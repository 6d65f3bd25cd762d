"""The results page: a folder of pages that a browser opens as they are, from csv files and specs alone."""

from __future__ import annotations

import ast
import csv
import importlib.util
import io
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from recot.artifacts.claims import HELD, NOT_HELD, UNTESTABLE, Judgement, judgements
from recot.artifacts.collect import NO_DATA
from recot.artifacts.load import papers, title
from recot.artifacts.report import Report
from recot.artifacts.rules import Comparison, Reading
from recot.artifacts.spec import Artifact
from recot.pages import claims, html, methods, spreadsheet
from recot.pages.charts import chart
from recot.pages.grid import VERDICTS, Box, Maker, anchor, tested, told
from recot.pages.notes import notes
from recot.record.lines import CellLine
from recot.request.compose import composed
from recot.request.errors import RequestError
from recot.request.signature import definition
from recot.system.files import write_whole

MADE = "made-by-recot-page"
"""A file that says that a folder is one of ours, whose other files may go."""

NAMES = {"table": "Table", "fig": "Figure", "text": "Text"}
ENDS = ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:", "Source:", ">>>")
"""How a paragraph of a docstring begins that is for whoever calls the code."""

UNLISTED = "The list of runs does not have this one: data sets are counted, and worked examples computed, by no run."


def label(name: str) -> str:
    """What a paper calls an artifact: ``Table 2`` for ``table2``, ``Figure 2 left out`` for ``fig2_left_out``."""
    found = re.fullmatch(r"(table|fig|text)_?(\w+)", name)
    return f"{NAMES[found[1]]} {found[2].replace('_', ' ')}" if found else name


@dataclass(frozen=True)
class Shown(Maker):
    """An artifact and what its page shows of it."""

    @cached_property
    def boxes(self) -> list[Box]:
        """The cells of all its tables."""
        grids = [grid for section in self.sections for grid in section.grids]
        return [box for grid in grids for band in grid.bands for box in band.boxes]

    @property
    def verdicts(self) -> dict[str, int]:
        """How many numbers beside a printed one are a match, close or differ."""
        counts = Counter(box.verdict for box in self.boxes)
        return {word: counts[word] for word in VERDICTS}

    @property
    def state(self) -> tuple[str, str]:
        """``done``, ``partly`` or ``empty``, and how many of the cells that the data at hand allow have a number."""
        lines = [box.line for box in self.boxes if box.line.verdict != NO_DATA or box.measured]
        filled = len({(line.row, line.column) for line in lines if line.mean is not None})
        wanted = len({(line.row, line.column) for line in lines})
        if not filled:
            return "empty", "not run" if wanted or not self.boxes else "no data"
        words = f"{filled} cell{'s' * (filled > 1)}" if filled == wanted else f"{filled} of {wanted} cells"
        return "done" if filled == wanted else "partly", words

    @cached_property
    def described(self) -> dict[str, Any]:
        """What templates show of it in lists."""
        state, words = self.state
        return {"name": self.artifact.name, "label": label(self.artifact.name), "title": self.artifact.title,
                "state": state, "words": words, "verdicts": self.verdicts, "note": self.artifact.note,
                "planted": self.artifact.planted}


@dataclass(frozen=True)
class Page:
    """A paper as templates show it.

    Attributes:
        name, rest: of its title the name, and what the title says besides. shown: its artifacts.
        judged: its claims. claims: verdict -> how many have it.
    """

    id: str
    name: str
    rest: str
    shown: Sequence[Shown]
    judged: Sequence[Mapping[str, Any]]
    claims: Mapping[str, int]

    @cached_property
    def artifacts(self) -> list[dict[str, Any]]:
        """Its artifacts."""
        return [each.described for each in self.shown]


Preset = tuple[methods.Method, Mapping[str, Any]]


def presets() -> list[Preset]:
    """All methods, by name, each with its config."""
    found = [(each, composed(f"model={each.preset}")[0]) for each in methods.methods()]
    return sorted(found, key=lambda each: each[0].name.lower())


@dataclass
class Site:
    """All pages.

    Attributes:
        results: folder of the csv files. reports: of all artifacts. presets: all methods, each with its config.
        today: key -> digest of the code that would make the run now. profile: name of a profile, or empty.
        files: what was made, by its path in the folder.
    """

    results: Path
    reports: Sequence[Report]
    presets: Sequence[Preset]
    today: Mapping[str, str]
    profile: str = ""
    files: dict[str, bytes] = field(default_factory=dict)

    def put(self, path: str, template: str, **content: Any) -> None:
        """Make a page."""
        root = "../" * path.count("/")
        self.files[path] = html.page(template, root=root, here=path, **content).encode()

    @cached_property
    def papers(self) -> list[Page]:
        """The papers in the order of their names, those with results first."""
        found = []
        for paper in papers():
            shown = [Shown(report, self.today) for report in self.reports if report.artifact.paper == paper]
            if not shown:
                continue
            judged = [] if self.profile else judgements(paper, self.results)
            counts = Counter(each.verdict for each in judged)
            name, _, rest = title(paper).partition(",")
            found.append(Page(paper, name, rest.strip(), shown, [told_of(name, each) for each in judged],
                              {word: counts[word] for word in (HELD, NOT_HELD, UNTESTABLE)}))
        return found

    def make(self) -> None:
        """Make every page."""
        self.assets()
        self.overview()
        for paper in self.papers:
            self.put(f"{paper.id}/index.html", "paper.html", paper=paper, judged=paper.judged)
            for shown in paper.shown:
                self.artifact(paper, shown)
        self.methods()

    def assets(self) -> None:
        """Style, script, the widget that sorts tables, and the mark of the folder."""
        for name in ("style.css", "site.js"):
            self.files[f"assets/{name}"] = (html.STATIC / name).read_bytes()
        self.files["assets/datatables.js"] = widget()
        self.files[MADE] = b"recot page makes this folder anew; what else lies in it goes.\n"

    def overview(self) -> None:
        """The first page, and that of all claims."""
        shown = [each for paper in self.papers for each in paper.shown]
        verdicts = sum((Counter(each.verdicts) for each in shown), Counter())
        runs = {run.key: run.seconds for each in shown for run in each.report.runs.values()}
        index = [{"name": f"{paper.name}, {each['label']}: {each['title']}", "kind": "table or figure",
                  "href": f"{paper.id}/{each['name']}.html",
                  "text": f"{paper.name} {paper.rest} {each['label']} {each['name']} {each['title']}"}
                 for paper in self.papers for each in paper.artifacts]
        index += [{"name": method.name, "kind": f"model={method.preset}", "href": f"methods/{method.preset}.html",
                   "text": f"{method.name} {method.preset} {method.kind} {introduced(method.preset)}"}
                  for method, _ in self.presets]
        self.put("index.html", "index.html", papers=self.papers, runs=len(runs),
                 claiming=sum(any(paper.claims.values()) for paper in self.papers),
                 hours=sum(runs.values()) / 3600,
                 measured=sum(box.measured for each in shown for box in each.boxes), index=index,
                 verdicts={word: verdicts[word] for word in VERDICTS})
        counts = sum((Counter(paper.claims) for paper in self.papers), Counter())
        self.put("claims.html", "claims.html", papers=self.papers,
                 counts={word: counts[word] for word in (HELD, NOT_HELD, UNTESTABLE)})

    def artifact(self, paper: Page, shown: Shown) -> None:
        """The page of an artifact, its csv, and the picture of a case study."""
        report, artifact, boxes = shown.report, shown.artifact, shown.boxes
        picture = self.results / paper.id / f"{artifact.name}.svg"
        case = artifact.plot == "case" and picture.exists()
        if case:
            self.files[f"{paper.id}/{picture.name}"] = picture.read_bytes()
        said = [] if not boxes else [re.sub(r"\\(.)", r"\1", note) for note in notes(
            artifact, list(report.cells.values()), report.tests, report.runs, self.today, self.results / "tuning")]
        drawn = chart(report)
        self.files[f"{paper.id}/{artifact.name}.csv"] = guarded(report.lines)
        words = f"make tables PAPER={paper.id} TABLE={artifact.name}" + f" PROFILE={self.profile}" * bool(self.profile)
        self.put(f"{paper.id}/{artifact.name}.html", "artifact.html", paper=paper, artifact=shown.described,
                 sections=shown.sections, chart=drawn, crosses=any(box.paper for box in boxes), command=words,
                 picture=picture.name if case else "", marks=marks(artifact, boxes), fault=report.fault,
                 notes=[note for note in said if not note.startswith(("Bold", "*", "†", "Difference:"))],
                 cells=origins(shown))

    def methods(self) -> None:
        """The page of all methods, and one for each."""
        rows = self.occurrences()
        self.put("methods.html", "methods.html", methods=[method for method, _ in self.presets],
                 counts={method.preset: len(rows.get(method.preset, ())) for method, _ in self.presets})
        for method, config in self.presets:
            others = [other for other, its in self.presets if other.preset != method.preset
                      and its["model"]["_target_"] == config["model"]["_target_"]]
            self.put(f"methods/{method.preset}.html", "method.html", method=method, preset=source(method.preset),
                     others=others, head=introduced(method.preset), parts=list(classes(config)),
                     rows=rows.get(method.preset, []))

    def occurrences(self) -> dict[str, list[dict[str, Any]]]:
        """By preset, the numbers of rows that run it, by the first metric of each table."""
        found: dict[str, list[dict[str, Any]]] = {}
        for paper in self.papers:
            for shown in paper.shown:
                artifact = shown.artifact
                rows, columns = {row.id: row for row in artifact.rows}, {each.id: each for each in artifact.columns}
                for box in shown.boxes if artifact.shows_runs else ():
                    line = box.line
                    words = (*columns[line.column].overrides, *rows[line.row].overrides)
                    preset = [word.partition("=")[2] for word in words if word.startswith("model=")][-1:]
                    if box.measured and preset and line.metric == artifact.metrics[0]:
                        place = columns[line.column]
                        data = f"{place.name}, {artifact.axis[0]} {place.label}" if artifact.axis else place.name
                        found.setdefault(preset[0], []).append({
                            "table": f"{paper.name}, {label(artifact.name)}", "name": rows[line.row].name, "data": data,
                            "metric": line.metric, "box": box, "href": f"{paper.id}/{artifact.name}.html#{box.id}"})
        return found

    def write(self, out: Path) -> int:
        """Write the folder, whole or not at all, and beside it the same as a zip; the bytes of the folder.

        Raises:
            RequestError: there is a folder that something else made.
        """
        if out.exists() and any(out.iterdir()) and not (out / MADE).exists():
            raise RequestError(f"{out} holds files that recot page did not make; give an empty folder as --out")
        aside, old = (out.with_name(f".{out.name}.{name}") for name in ("new", "old"))
        for left in (aside, old):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        for name, content in self.files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)
        if out.exists():
            out.rename(old)
        aside.rename(out)
        shutil.rmtree(old, ignore_errors=True)
        write_whole(out.with_name(f"{out.name}.zip"), self.zipped)
        return sum(map(len, self.files.values()))

    def zipped(self, stream: Any) -> None:
        """Write all files as a zip, the same bytes for the same files."""
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(self.files.items()):
                archive.writestr(zipfile.ZipInfo(f"site/{name}"), content, zipfile.ZIP_DEFLATED)


def marks(artifact: Artifact, boxes: Sequence[Box]) -> dict[str, Any]:
    """Which marks the tables of an artifact have, for their legend."""
    names = {row.id: row.name for row in artifact.rows}
    reference = names.get(artifact.relative_to or "", "") if any(box.change for box in boxes) else ""
    return {"known": any(box.measured for box in boxes), "verdict": any(box.verdict for box in boxes),
            "best": any(box.best for box in boxes), "star": any(box.star for box in boxes), "change": reference,
            "beyond": artifact.shows_runs and any(row.beyond for row in artifact.rows),
            "dagger": any(box.dagger for box in boxes)}


def told_of(paper: str, judgement: Judgement) -> dict[str, Any]:
    """A claim of the paper of this name as templates show it."""
    claim, tightest = judgement.claim, judgement.tightest
    more = [{"holds": each.holds, "numbers": claims.numbers(each), "evidence": claims.evidence(each),
             "places": placed(each), "readings": [] if each.holds is None else linked(claim.paper, each.readings)}
            for each in judgement.comparisons]
    return {"id": f"claim-{claim.paper}-{claim.id}", "paper": paper, "text": claim.text, "verdict": judgement.verdict,
            "prose": claim.prose, "readings": linked(claim.paper, tightest.readings) if tightest else [],
            "evidence": spoken(judgement), "remark": claim.remarks.get(judgement.verdict, ""),
            "more": more if len(more) > 1 else []}


def linked(paper: str, readings: Sequence[Reading]) -> list[dict[str, str]]:
    """The cells of a comparison, each with a link and the word that follows."""
    words = {1: [""], 2: ["against", ""], 4: ["to", "against", "to", ""]}[len(readings)]
    return [{"name": "ours" if each.row == "statistics" else each.name, "value": claims.exact(each.value, each.metric),
             "after": f" {word} ", "href": f"{paper}/{each.table}.html#{anchor(each.row, each.column, each.metric)}"}
            for each, word in zip(readings, words, strict=True)]


def spoken(judgement: Judgement) -> str:
    """What stands behind a verdict."""
    if judgement.tightest is None:
        return "No cell is there yet."
    return f"{placed(judgement.tightest)}: {claims.evidence(judgement.tightest)}. {claims.count(judgement)}."


def placed(comparison: Comparison) -> str:
    """The metrics and data of a comparison."""
    return "; ".join(dict.fromkeys(f"{each.metric}, {each.data}" for each in comparison.readings))


def origins(shown: Shown) -> dict[str, Any]:
    """What the cells of an artifact open: facts of each, and of the runs behind them."""
    report, cells = shown.report, {}
    runs: dict[str, dict[str, str]] = {}
    for box in shown.boxes:
        if not box.measured:
            continue
        line = box.line
        facts = [("ours", box.ours + f" ± {box.spread} (deviation over seeds)" * bool(box.spread)),
                 ("six digits", f"{line.mean:g}"), ("seeds", ", ".join(map(str, line.seeds))),
                 ("paper", box.paper), ("difference", f"{box.delta}, {box.verdict}" if box.delta else ""),
                 (f"against {shown.artifact.relative_to}", box.change), ("significance", significance(shown, box)),
                 ("dagger", "made by code that has changed since" * box.dagger)]
        cells[box.id] = {"title": box.title, "facts": [fact for fact in facts if fact[1]], "keys": line.keys}
        runs |= {key: told(report.runs[key], shown.today) for key in line.keys if key in report.runs}
    return {"cells": cells, "runs": runs, "unlisted": UNLISTED}


def significance(shown: Shown, box: Box) -> str:
    """What is known of whether the number is there by chance."""
    test = tested(box.line, shown.report.tests, {row.id: row.name for row in shown.artifact.rows})
    if test or not shown.artifact.shows_runs:
        return test
    return "one seed, and no stored test" if len(box.line.seeds) < 2 else f"deviation over {len(box.line.seeds)} seeds"


def introduced(preset: str) -> str:
    """The comment that a preset begins with, without its marks."""
    lines = [line for line in source(preset).splitlines() if not line.startswith("# @package")]
    return " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))


def source(preset: str) -> str:
    """The text of a preset."""
    return (methods.PRESETS / f"{preset}.yaml").read_text(encoding="utf-8")


def classes(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the docstrings of a method's classes say: of its model, loss and denoiser."""
    for group, role in (("model", "What it is"), ("loss", "What it is trained on"), ("denoiser", "Its denoiser")):
        module, _, name = config[group].get("_target_", "").rpartition(".")
        found = definition(module, name) if module else None
        if found is None or name in ("Denoiser",):
            continue
        texts = [" ".join(text.split()) for text in (ast.get_docstring(found[1]) or "").split("\n\n")]
        departs = next((text for text in texts if text.startswith("Departures:")), "")
        said = [text for text in texts if text and not text.startswith((*ENDS, "Departures:"))]
        yield {"role": role, "name": f"{found[0]}.{name}", "paragraphs": said[:3],
               "departures": departs.removeprefix("Departures:").strip()}


def widget() -> bytes:
    """The table widget as a script that any page may load: browsers load no module from a file.

    Raises:
        RequestError: the package that holds it is not installed, or holds another one.
    """
    spec = importlib.util.find_spec("itables")
    if spec is None or spec.origin is None:
        raise RequestError("the page takes its tables from itables, which is not installed; install recot[page]")
    text = (Path(spec.origin).parent / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    script, found = re.subn(r"export\{[^}]*?\b([\w$]+) as jQuery\b[^}]*\}", r"window.recotTables=\1", text)
    if found != 1:
        raise RequestError(f"{spec.origin} holds no widget that is known; install recot[page] by constraints.txt")
    return f"(()=>{{\"use strict\";\n{script}\n}})();\n".encode()


def guarded(lines: Sequence[CellLine]) -> bytes:
    """The csv of an artifact for a spreadsheet: a text that it would run as a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CellLine.header())
    for line in lines:
        writer.writerow([cell if numeric(cell) else spreadsheet.guarded(cell) for cell in line.cells().values()])
    return text.getvalue().encode()


def numeric(text: str) -> bool:
    """Whether a text is a number and nothing else."""
    return bool(re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text))
