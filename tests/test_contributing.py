"""Every example of CONTRIBUTING.md works as it stands."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PATIENCE, command, environment

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGES = {page.split("\n", 1)[0]: page for page in TEXT.split("\n## Add ")[1:]}
FILE = re.compile(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def written(folder, page):
    """The example of a page, in a folder of its own."""
    for name, content in FILE.findall(PAGES[page]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    lists = ({"user": f"user {number}", "items": [f"song {(number + step) % 9}" for step in range(4)]}
             for number in range(30))
    (folder / "playlists.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lists), encoding="utf-8")
    return [line for block in COMMANDS.findall(PAGES[page]) for line in block.splitlines()]


def in_a_shell(folder, line):
    """The finished process of a line as it stands on the page."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(line, shell=True, cwd=folder, env=environment(folder, PATH=path), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)


def carried_out(folder, line):
    """The same in a fork of a process that has imported the libraries, see warm.py."""
    before, words = line.split("python -m ")
    return command(folder, *shlex.split(words), **dict(word.split("=", 1) for word in shlex.split(before)))


@pytest.mark.parametrize(("page", "shown"), [
    ("a method", "averages on planted"), ("an objective", "(loss margin"), ("a denoiser", "denoiser capped"),
    ("a method made of stages", "rescaled on planted"), ("a data set", "itemknn on playlists")])
def test_the_example_of_a_page_runs_as_it_stands(page, shown, tmp_path):
    [line] = written(tmp_path, page)
    done = carried_out(tmp_path, line)
    assert done.returncode == 0, done.stderr[-2000:]
    assert shown in done.stdout


def test_the_example_of_a_paper_has_its_printed_numbers_beside_ours(tmp_path):
    to_list, to_make = written(tmp_path, "a paper")
    listed, made = in_a_shell(tmp_path, to_list), carried_out(tmp_path, to_make)
    assert "0 of 3 cells, 3 to run" in listed.stdout and (listed.returncode, made.returncode) == (0, 0), made.stderr
    table = (tmp_path / "my_results" / "margins" / "table1.md").read_text(encoding="utf-8")
    assert re.search(r"^\| BPR \| ours \| .*\d.*\n\|  \| paper \| 0\.1500 ", table, re.MULTILINE), table
    assert "| Popularity | ours |" in table


def test_every_page_has_an_example_that_is_run():
    assert set(PAGES) == {"a method", "a method made of stages", "an objective", "a denoiser", "a data set", "a paper"}


def test_a_class_of_ones_own_is_refused_where_its_package_is_not_trusted(tmp_path):
    [line] = written(tmp_path, "a method")
    refused = carried_out(tmp_path, line.replace("'plugins=[mine]'", ""))
    assert refused.returncode == 2 and "plugins=[mine]" in refused.stderr


@pytest.mark.parametrize(("page", "word", "remedy"), [
    ("an objective", "loss.margin=0", "give more than 0"), ("a denoiser", "denoiser.cap=0.5", "give 1 or more")])
def test_a_value_out_of_range_is_refused_with_its_remedy(page, word, remedy, tmp_path):
    [line] = written(tmp_path, page)
    refused = carried_out(tmp_path, f"{line} {word}")
    assert refused.returncode == 2 and remedy in refused.stderr
