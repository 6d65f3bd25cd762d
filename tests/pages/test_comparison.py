"""A comparison as it is read: every way shows the same numbers, and nothing in a name runs or steers."""

import csv
import io
import re

import pytest
from rich.console import Console

from recot.artifacts.comparison import Comparison, Method, Value
from recot.pages import comparison as pages

BEST = Method("clrec loss.tau=0.1", (0, 1), ("a" * 16, "b" * 16), {
    "ndcg@20": Value(0.12345, 0.01, 0.1, 0.15), "recall@20": Value(0.2, 0.02, 0.15, 0.25, -0.05, 0.001, 0.002)}, 10.5,
    2.25, 501, "python -m recot.run model=clrec seed=0,1 -m")
HOSTILE = Method('=cmd <script>alert("x")</script>|*b*\n\x1b[2J', (0,), ("c" * 16,), {
    "ndcg@20": Value(0.05, None, None, None, -0.07345, 1e-9, 2e-9), "recall@20": Value(0.25)}, 0, 1.0, None,
    "@SUM(1) 'a|b'")
FOUND = Comparison("csv & co", "5" * 16, "test", ("ndcg@20", "recall@20"), (BEST, HOSTILE), 1234, 2)


def printed(comparison, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    pages.show(comparison, Console(file=stream, soft_wrap=True, markup=False))
    stream.seek(0)
    return stream.read()


def test_the_terminal_shows_a_row_for_each_method_and_below_it_what_to_type():
    text = printed(FOUND, "utf-8")
    (row,) = [line for line in text.splitlines() if "0.1235" in line]
    assert re.split(r"\s*[│┃]\s*", row)[1:-1] == [
        "clrec loss.tau=0.1", "2", "0.1235 ± 0.0100", "0.1000 to 0.1500", "", "0.2000 ± 0.0200", "10", "2.2", "501"]
    assert "< 0.0001" in text and f"  {BEST.command}\n" in text and "over 1,234 users by Student's t" in text
    assert "2 methods on csv & co (split 5555555555555555)" in text and "do not have the same seeds" in text
    assert "\x1b" not in text and r"\x1b[2J" in text


def test_a_terminal_without_other_letters_gets_plain_ones():
    text = printed(FOUND, "ascii")
    assert text.isascii() and "0.1235 +/- 0.0100" in text and "\\xb1" not in text


def test_markdown_has_every_value_and_no_name_breaks_its_tables():
    text = pages.markdown(FOUND)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    counts = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert counts == [10] * 4 + [10] * 6 + [4] * 4
    assert "| clrec loss.tau=0.1 | recall@20 | 0.2000 | 0.0200 | 0.1500 | 0.2500 | -0.0500 | 0.0010 | 0.0020 |" in rows
    assert "\\<script\\>" in text and "\x1b" not in text


def test_csv_has_a_line_for_each_value_in_full_and_no_text_that_a_spreadsheet_runs():
    lines = list(csv.DictReader(io.StringIO(pages.spreadsheet(FOUND))))
    assert [(line["method"], line["metric"]) for line in lines] == [
        (label, metric) for label in (BEST.label, "'" + HOSTILE.label) for metric in FOUND.metrics]
    assert lines[0]["mean"] == "0.12345" and lines[1]["p_holm"] == "0.002" and lines[2]["std"] == ""
    assert lines[2]["difference"] == "-0.07345"  # a number is none
    assert lines[2]["command"] == "'" + HOSTILE.command and lines[0]["keys"] == f"{'a' * 16} {'b' * 16}"


def test_the_page_escapes_names_needs_no_other_file_and_is_light_and_dark():
    text = pages.document(FOUND)
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert "<script" not in text and "csv &amp; co" in text
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in text
    assert not re.findall(r"\b(?:src|url)\b", text) and "prefers-color-scheme: dark" in text
    assert set(re.findall(r'href="(#|[^:"]*:)', text)) == {"#", "data:"}
    assert text.count("<caption>") == text.count("<table ") == 3 and 'lang="en"' in text
    assert text.count('<th scope="row">') == 2 + 4 + 2


@pytest.mark.parametrize("form", [pages.markdown, pages.document])
def test_both_pages_show_the_same_row(form):
    text = re.sub(r"<[^>]+>", " | ", form(FOUND))
    cells = ["clrec loss.tau=0.1", "2", "0.1235 ± 0.0100", "0.1000 to 0.1500", "0.2000 ± 0.0200", "10", "2.2", "501"]
    assert re.search(r"[ |]+".join(map(re.escape, cells)), text)
