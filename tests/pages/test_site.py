"""The results page: what is written, and what a browser makes of it, opened from a file as its readers do."""

import csv
import io
import json
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import browser, needs_browser
from commands import command
from lines import FIGURE, NOISE, ROWS, csv_rows, mean
from playwright.sync_api import expect

from recot.artifacts import load
from recot.artifacts.report import Report, report
from recot.artifacts.spec import Column
from recot.pages import html, methods, site
from recot.pages.site import Site, guarded, label
from recot.record.lines import CellLine, PairedLine, RunLine
from recot.request.compose import composed
from recot.request.errors import RequestError

RESULTS = Path(__file__).parents[2] / "results"
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"


def presets(*names):
    """Some methods, each with its config, in place of all."""
    both = {name: composed(f"model={name}") for name in names}
    return [(methods.method(name), each[0]) for name, each in both.items()]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The pages of two papers of the repository and of two methods, with a dagger at every run of SCLRec."""
    folder = tmp_path_factory.mktemp("ours") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "papers", lambda: ("prorec", "sclrec"))
        reports = [report(artifact, RESULTS) for paper in ("prorec", "sclrec") for artifact in load.load(paper)]
        today = {key: "changed" for each in reports if each.artifact.paper == "sclrec" for key in each.runs}
        made = Site(RESULTS, reports, presets("sclrec", "markov"), today)
        made.make()
    made.write(folder)
    return folder


TOY = replace(FIGURE, kind="results", name="table1", axis=None, plot=None, tests=True, rows=(
    replace(ROWS[0], name=HOSTILE, overrides=("model=bprmf",)), *ROWS[1:]), title=f"Title {HOSTILE}", note=HOSTILE,
    columns=(Column("gowalla", "gowalla", f"Data {HOSTILE}", ("data=gowalla",)),), printed="model")
RUN = RunLine("k0", "gowalla", "bprmf", "bpr", "none", "none", 0, 97, 86, 300, 12.5, 13.0, 512.0, "x86_64", 2,
              "abc123", "old", "", "split-1", "digest-1", {}, "2026-11-22T10:00:00Z",
              f"python -m recot.run model=bprmf {HOSTILE}")
LINES = csv_rows(TOY, {("bprmf", "gowalla"): mean(0.25, paper=0.2, delta=0.25, verdict="differs"),
                       ("full", "gowalla"): mean(0.3, std=0.01, paper=0.3, delta=0.0, verdict="match", seeds=(0, 1),
                                                 keys=("k0", "k1"))})
TESTS = [PairedLine("table1", "gowalla", "recall@20", "full", "bprmf", 0.05, 1234, 0.001, 0.004, ("k0", "k0"))]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Writes the pages of a toy paper: a function of its reports."""
    monkeypatch.setattr(site, "papers", lambda: ("toy",))
    monkeypatch.setattr(site, "title", lambda paper: f"Toy {HOSTILE}, a paper")
    monkeypatch.setattr(site, "judgements", lambda paper, results: [])

    def write(*reports, today=(("k0", "new"),), presets=()):
        made = Site(tmp_path, reports, presets, dict(today))
        made.make()
        made.write(tmp_path / "site")
        return made.files

    return write


class Links(HTMLParser):
    """The addresses and ids of a page, its tables, and what they lack."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids, self.tables, self.captions, self.unscoped, self.unsaid = [], [], 0, 0, 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[name] for name in ("href", "src") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.unscoped += tag == "th" and "scope" not in given
        words = given.get("alt" if tag == "img" else "aria-label")
        self.unsaid += (tag == "img" or given.get("role") == "img") and not words


def test_every_link_leads_to_a_file_of_the_folder_and_to_an_element_of_it(ours):
    pages = {file.relative_to(ours): Links(file.read_text()) for file in ours.rglob("*.html")}
    assert len(pages) > 15
    for page, found in pages.items():
        for address in found.addresses:
            if address.startswith("data:"):
                continue
            path, _, name = address.partition("#")
            file = ((ours / page).parent / unquote(path)).resolve() if path else (ours / page).resolve()
            assert file.is_file(), f"{page}: {address}"
            other = pages.get(file.relative_to(ours.resolve()))
            assert not name or unquote(name) in other.ids, f"{page}: {address}"


def test_tables_have_captions_and_scopes_and_pictures_have_words(ours):
    for file in ours.rglob("*.html"):
        found = Links(file.read_text())
        assert found.tables == found.captions and not found.unscoped and not found.unsaid, file
        assert len(set(found.ids)) == len(found.ids), file


def test_the_numbers_of_a_table_are_those_of_its_csv(ours):
    text = (ours / "sclrec" / "table2.html").read_text()
    content = json.loads(re.search(r'<script type="application/json" id="cells">(.*?)</script>', text, re.DOTALL)[1])
    facts = [dict(cell["facts"]) for cell in content["cells"].values()]
    lines = [line for line in report(load.load("sclrec")[1], RESULTS).cells.values() if line.mean is not None]
    assert sorted(each["six digits"] for each in facts) == sorted(f"{line.mean:g}" for line in lines)
    assert sorted(each["paper"] for each in facts if "paper" in each) == sorted(
        f"{line.paper:.4f}" for line in lines if line.paper is not None)
    assert {key for cell in content["cells"].values() for key in cell["keys"]} == set(content["runs"])
    run = next(iter(content["runs"].values()))
    assert {"seed", "command", "split", "commit", "device", "epochs"} <= set(run)


def test_the_whole_folder_is_small_and_the_zip_holds_the_same(ours):
    files = {f"site/{file.relative_to(ours)}": file.read_bytes() for file in ours.rglob("*") if file.is_file()}
    assert sum(map(len, files.values())) < 15e6
    with zipfile.ZipFile(ours.parent / "site.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_a_page_of_no_results_says_how_to_make_some(toy):
    pages = toy(Report(TOY))
    assert b"There are no results yet" in pages["index.html"] and b"make tables" in pages["index.html"]
    assert b"make tables PAPER=toy TABLE=table1" in pages["toy/table1.html"]
    assert b"No claim is judged here" in pages["claims.html"]


def test_names_from_files_are_text_wherever_they_stand(toy):
    pages = toy(Report(TOY, LINES, TESTS, {"k0": RUN}), presets=presets("bprmf"))
    shown = [text for name, text in pages.items() if name.endswith(".html") and b"hacked" in text]
    assert len(shown) == 4
    for text in shown:
        assert b"<script>window" not in text and b"<img src=x" not in text


def test_the_marks_of_a_cell_say_what_the_csv_and_the_tests_say(toy):
    text = toy(Report(TOY, LINES, TESTS, {"k0": RUN}))["toy/table1.html"].decode()
    bprmf, full = re.findall(r'<td id="(?:bprmf|full)-.*?</td>', text, re.DOTALL)
    assert "†" in bprmf and "+25.0 % differs" in bprmf and "paper 0.2000" in bprmf and 'class="best"' not in bprmf
    assert 'class="best"' in full and "<sup>*</sup>" in full and "± 0.0100" in full and "0.0 % match" in full
    content = json.loads(re.search(r'id="cells">(.*?)</script>', text, re.DOTALL)[1])
    test = next(dict(cell["facts"])["significance"] for cell in content["cells"].values())
    assert test == f"{ROWS[1].name} against {HOSTILE}: +0.0500 over 1,234 users, paired t-test p = 0.001, after " + (
        "Holm's correction 0.004")


def test_without_a_csv_cell_the_spec_says_what_is_not_run(toy):
    text = toy(Report(TOY, LINES[:1]))["toy/table1.html"].decode()
    assert text.count("not run yet") == len(TOY.rows) - 1


def test_a_damaged_csv_is_named_on_its_own_page(toy):
    pages = toy(Report(TOY, fault="table1.csv, line 3: it is odd"))
    assert b"table1.csv, line 3: it is odd" in pages["toy/table1.html"]


@pytest.mark.parametrize(("cell", "written"), [("=1+1", "'=1+1"), ("+a", "'+a"), ("-a", "'-a"), ("@a", "'@a"),
                                               ("\ta", "'\ta"), ("a=1", "a=1")])
def test_a_csv_to_take_away_runs_nothing_in_a_spreadsheet(cell, written):
    text = guarded([CellLine("t", cell, "c", "m", (0,), -0.5, None, 1e-07, -0.01, "close", ("0" * 16,))]).decode()
    row = list(csv.DictReader(io.StringIO(text)))[0]
    assert row["row"] == written and row["mean"] == "-0.5" and row["delta"] == "-0.01" and row["paper"] == "1e-07"


def test_a_folder_of_others_is_left_alone_and_one_of_ours_is_made_anew(toy, tmp_path):
    toy(Report(TOY))
    (tmp_path / "site" / "old.html").write_text("of a table that is no more")
    toy(Report(TOY))
    assert not (tmp_path / "site" / "old.html").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"site", "site.zip"}
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(RequestError, match="holds files that recot page did not make; give an empty folder as --out"):
        Site(tmp_path, [], [], {}).write(other)
    assert (other / "thesis.tex").read_text() == "mine"


def test_without_the_widget_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"itables, which is not installed; install recot\[page\]"):
        site.widget()


def test_another_widget_is_refused(monkeypatch, tmp_path):
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "dt_bundle.js").write_text("let a=1;export{a as DataTable};")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(site.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(RequestError, match=r"holds no widget that is known; install recot\[page\] by constraints.txt"):
        site.widget()


def test_a_preset_is_introduced_by_all_lines_of_its_first_comment(monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "PRESETS", tmp_path)
    (tmp_path / "a.yaml").write_text("# @package _global_\n# A: B, C 2020. One\n# and another.\nx: 1\n# not this\n")
    assert site.introduced("a") == "A: B, C 2020. One and another."


@pytest.mark.parametrize(("name", "called"), [("table2", "Table 2"), ("fig2a", "Figure 2a"), ("text_2", "Text 2"),
                                              ("fig2_left_out", "Figure 2 left out"), ("extra", "extra")])
def test_an_artifact_is_called_as_papers_call_it(name, called):
    assert label(name) == called


def test_a_standalone_page_has_style_and_script_inside():
    text = html.page("base.html", standalone=True)
    assert "--ground" in text and "DataTables sorts" in text
    assert [each for each in Links(text).addresses if not each.startswith(("data:", "#"))] == []


def test_marked_words_of_a_docstring_are_code_and_all_else_is_text():
    assert html.prose("see :func:`~recot.a` and ``b < c`` <i>") == (
        "see <code>recot.a</code> and <code>b &lt; c</code> &lt;i&gt;")


def test_the_command_makes_the_pages_without_runs_and_data(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "toy.yaml").write_text(
        "title: Toy\nseeds: [0]\ndata: {planted: P}\nartifacts:\n  table1: {kind: results, title: T, data: [planted], "
        "metrics: [recall@20], rows: {a: {name: A, run: model=popularity}}}\n")
    done = command(tmp_path, "recot.page", RECOT_EXPERIMENTS=str(tmp_path / "experiments"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ pages, \d\.\d MB: results/site/index\.html", done.stderr)
    assert "There are no results yet" in (tmp_path / "results" / "site" / "index.html").read_text()
    assert (tmp_path / "results" / "site.zip").exists()


@pytest.fixture(scope="class")
def opened(tmp_path_factory):
    """A browser for the tests of a class; Playwright drives one at a time."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(opened, ours):
    """A function that opens a page; in the end nothing was complained of or asked of a network."""
    opened.complaints.clear()
    yield lambda path: opened.page.goto(f"{ours.as_uri()}/{path}") and opened.page
    assert opened.complaints == [] and opened.requests == []


@needs_browser
class TestInABrowser:
    """Opened in Chromium from a file."""

    def column(self, page, number):
        return [float(text) for text in page.eval_on_selector_all(
            "table", f"tables => [...tables[0].tBodies[0].rows].map(row => row.cells[{number}].dataset.order)")]

    def test_a_head_sorts_its_column_by_mouse_and_by_key(self, page):
        table = page("sclrec/table2.html").locator("table").first
        head = table.locator("thead th").nth(1)
        before = self.column(table.page, 1)
        head.click()
        expect(head).to_have_attribute("aria-sort", "ascending")
        assert self.column(table.page, 1) == sorted(before) != before
        head.locator("[tabindex]").first.focus()
        table.page.keyboard.press("Enter")
        expect(head).to_have_attribute("aria-sort", "descending")
        assert self.column(table.page, 1) == sorted(before, reverse=True)

    def test_rows_are_filtered_by_name_verdict_and_number(self, page):
        shown = page("sclrec/table2.html")
        rows = shown.locator("section.data").first.locator("tbody tr")
        shown.get_by_label("Rows", exact=True).fill("clrec")
        names = rows.locator("th").all_inner_texts()
        assert len(names) > 3 and all("clrec" in name.lower() for name in names)
        assert re.fullmatch(r"\d+ of \d+ rows", shown.locator("#rows").inner_text())
        shown.get_by_label("Rows", exact=True).fill("")
        shown.get_by_label("Verdict").select_option("match")
        assert rows.count() == rows.filter(has=shown.locator(".chip.match")).count() > 0
        shown.get_by_label("Verdict").select_option("")
        shown.get_by_label("only rows with a number").check()
        assert rows.count() == rows.filter(has=shown.locator("button")).count() > 0

    def test_a_number_opens_where_it_comes_from_by_key_and_gives_the_focus_back(self, page):
        shown = page("prorec/table2.html")
        button = shown.locator("button.cell").first
        button.focus()
        shown.keyboard.press("Enter")
        expect(shown.locator("dialog")).to_be_visible()
        text = shown.locator("dialog").inner_text()
        for word in ("python -m recot.run data=amusic protocol=denoise model=nce seed=4", "0, 1, 2, 3, 4", "split",
                     "commit", "x86_64", "significance", "0.0375", "+41.2 %, differs"):
            assert word in text
        shown.keyboard.press("Escape")
        expect(shown.locator("dialog")).to_be_hidden()
        expect(button).to_be_focused()

    def test_a_point_of_a_picture_says_its_value(self, page):
        shown = page("sclrec/fig2.html")
        shown.locator(".point").first.hover()
        assert re.fullmatch(r"BPRMF, noise 0: 0\.0776", shown.locator("#tip").inner_text())

    def test_a_claim_leads_to_its_cell_also_where_that_is_folded_away(self, page):
        shown = page("claims.html")
        shown.get_by_label("Show").select_option("not held")
        assert set(shown.locator(".claim:visible .verdict").all_inner_texts()) == {"not held"}
        link = shown.locator(".claim:visible .decides a").first
        number = link.locator("b").inner_text()
        link.click()
        assert number in shown.locator("td:target").inner_text()
        folded = shown.locator("details.empty td[id]").first.get_attribute("id")
        shown.goto(shown.url.partition("#")[0] + f"#{folded}")
        assert shown.locator(f"[id='{folded}']").is_visible()

    def test_a_method_is_found_by_its_name(self, page):
        shown = page("index.html")
        shown.get_by_label("Name, paper or preset").fill("zhuang transport plan")
        shown.locator("#found a").first.click()
        assert shown.locator("h1").inner_text() == "SCLRec" and "Departures:" in shown.locator("main").inner_text()

    def test_the_first_key_leads_to_the_content(self, page):
        shown = page("sclrec/table2.html")
        shown.keyboard.press("Tab")
        expect(shown.locator(".skip")).to_be_focused()
        shown.keyboard.press("Enter")
        expect(shown.locator("#main")).to_be_focused()

    def test_no_name_runs_as_script(self, opened, toy, tmp_path):
        toy(Report(TOY, LINES, TESTS, {"k0": RUN}), presets=presets("bprmf"))
        shown = opened.page
        for path in ("index.html", "toy/index.html", "toy/table1.html", "methods/bprmf.html"):
            shown.goto(f"{(tmp_path / 'site').as_uri()}/{path}")
            if path == "index.html":
                shown.get_by_label("Name, paper or preset").fill("title")
            if path == "toy/table1.html":
                shown.locator("button.cell").first.click()
                assert HOSTILE in shown.locator("dialog").inner_text()
            assert shown.evaluate("window.hacked") is None and shown.locator("img").count() == 0
        assert opened.complaints == [] and opened.requests == []


PAGES = ["index.html", "claims.html", "methods.html", "methods/sclrec.html", "sclrec/index.html", "sclrec/table2.html",
         "sclrec/fig2.html", "prorec/table2.html", "prorec/fig3.html", "prorec/table1.html"]


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_pages_are_accessible_and_as_wide_as_the_window(ours, tmp_path, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with browser(tmp_path, width, scheme) as opened:
        for path in PAGES:
            opened.page.goto(f"{ours.as_uri()}/{path}")
            found = Axe().run(opened.page, options={"resultTypes": ["violations"], "preload": False}).response
            assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == [], path
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, path
            if opened.page.locator("button.cell").count():
                opened.page.locator("button.cell").first.click()
                found = Axe().run(opened.page, options={"resultTypes": ["violations"], "preload": False}).response
                assert [each["id"] for each in found["violations"]] == [], f"the dialog of {path}"
        assert opened.complaints == [] and opened.requests == []


@needs_browser
def test_without_scripts_tables_and_pictures_are_there(ours, tmp_path):
    with browser(tmp_path, scripts=False) as opened:
        opened.page.goto(f"{ours.as_uri()}/sclrec/fig2.html")
        assert "0.0776" in opened.page.locator("table").first.inner_text()
        assert opened.page.locator("svg .point title").first.text_content() == "BPRMF, noise 0: 0.0776"
        assert not opened.page.get_by_label("Rows", exact=True).is_visible()


def test_a_figure_has_a_panel_and_words_for_each_data_set(toy):
    text = toy(Report(FIGURE, NOISE))["toy/fig2.html"].decode()
    assert text.count("<figure>") == 4  # two data sets, each with values and changes
    assert "GOWALLA: recall@20 by share of added interactions. BPRMF from 0.2000 at 0 to 0.1700 at 0.2" in text
