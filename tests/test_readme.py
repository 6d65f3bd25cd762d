"""What the README tells people to type works, and what it says about recot is so."""

import csv
import os
import re
from pathlib import Path

import pytest
from commands import composed

from recot.pages import methods
from recot.request.compose import CONF

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [match.split("#")[0].split() for match in re.findall(r"^python -m recot\.run (.+=.+)$", TEXT, re.MULTILINE)
            if "plugins=" not in match]  # those of one's own code are in test_contributing.py
CHOICES = [(folder.name, file.stem) for folder in sorted(CONF.iterdir()) if folder.is_dir()
           and folder.name not in ("tuned", "recipe")  # which apply by themselves
           for file in sorted(folder.glob("*.yaml"))]


def between(begin):
    """What stands between two comments, of which the first begins so."""
    return re.search(rf"<!-- {re.escape(begin)}.*?-->\n(.*?)<!-- end of \w+ -->", TEXT, re.DOTALL).group(1)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_line_is_one_that_can_run(words):
    for choice in (0, -1):  # of a sweep: all its first and all its last values
        overrides = [f"{w.split('=')[0]}={w.split('=')[1].split(',')[choice]}" for w in words if "=" in w]
        assert composed(*overrides)[0]["model"]


def test_the_table_of_methods_is_what_the_presets_say():
    assert between("methods:") == methods.markdown(), "write the new table between the two comments of README.md"


def test_the_results_at_the_top_are_those_of_the_table():
    with (ROOT / "results" / "sclrec" / "table2.csv").open(encoding="utf-8", newline="") as stream:
        measured = {line["row"]: line for line in csv.DictReader(stream)
                    if (line["column"], line["metric"]) == ("gowalla", "ndcg@20")}
    shown = [re.split(r" *\| *", line)[1:-1] for line in between("results:").splitlines()[2:]]
    assert [name for name, *_ in shown] == ["BPRMF", "CLRec", "SCLRec", "CLRec, duplicates masked"]
    for row, (_, *numbers) in zip(("bprmf", "clrec", "sclrec", "clrec-mask"), shown, strict=True):
        line = measured[row]
        paper = [f"{float(line['paper']):.4f}", f"{100 * float(line['delta']):+.1f} %"] if line["paper"] else ["-", "-"]
        assert numbers == [f"{float(line['mean']):.4f}", *paper]


def test_the_page_that_is_shown_is_a_part_of_it():
    page = (ROOT / "results" / "sclrec" / "table2.md").read_text(encoding="utf-8").splitlines()
    assert between("page: sclrec table2").splitlines() == [
        line for line in page if line in set(between("page: sclrec table2").splitlines())][:5]


@pytest.mark.parametrize(("group", "name"), CHOICES, ids="=".join)
def test_every_choice_of_every_group_is_named(group, name):
    assert re.search(rf"[`=]{name}\b", TEXT), f"README.md does not name {group}={name}"


def test_every_variable_of_the_environment_is_named():
    files = [*(ROOT / "recot").rglob("*.py"), *CONF.rglob("*.yaml")]
    read = {name for file in files for name in re.findall(r"RECOT_[A-Z]+", file.read_text(encoding="utf-8"))}
    assert read == set(re.findall(r"^\| `(RECOT_[A-Z]+)`", TEXT, re.MULTILINE))


def test_every_folder_is_where_the_readme_says():
    told = re.findall(r"^\| `([\w/]+/)` \|", TEXT, re.MULTILINE)
    rooms = {f"recot/{os.path.basename(path.parent)}/" for path in (ROOT / "recot").glob("*/__init__.py")}
    assert {name for name in told if name.startswith("recot/")} == rooms | {"recot/"}
    assert all((ROOT / name).is_dir() for name in told)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_every_link_leads_somewhere(link):
    name, _, heading = link.partition("#")
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not heading or f"## {heading.replace('-', ' ')}" in text.lower()
