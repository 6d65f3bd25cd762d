"""How long runs are said to take before they start."""

from __future__ import annotations

import json

import pytest

from recot.artifacts.estimates import Estimates
from recot.artifacts.jobs import Job
from recot.record.ledger import write
from recot.record.lines import RunLine
from recot.record.store import Runs

CLREC = {"data": "gowalla", "model": "clrec", "loss": "infonce", "denoiser": "none"}


@pytest.fixture()
def estimates(tmp_path):
    """Of five runs of CLRec, at 10 s an epoch, and one closed form."""
    lines = [CLREC | {"epochs": 20, "max_epochs": 20, "seconds": 200}] * 3
    lines += [CLREC | {"epochs": epochs, "max_epochs": 300, "seconds": 10 * epochs} for epochs in (150, 180)]
    lines.append(CLREC | {"model": "itemknn", "loss": "none", "epochs": 0, "max_epochs": 0, "seconds": 7})
    folder = tmp_path / "results" / "sclrec"
    folder.mkdir(parents=True)
    write(folder / "runs.csv", RunLine, [RunLine(f"{n:016x}", **line) for n, line in enumerate(lines)])
    return Estimates(tmp_path / "results", Runs(tmp_path / "runs"))


def job(max_epochs: int, **choices: str) -> Job:
    return Job("ab", "", {"trainer": {"max_epochs": max_epochs}}, CLREC | choices)


@pytest.mark.parametrize(("max_epochs", "seconds"), [
    (20, 200),  # as the trials of a study
    (300, 1650),  # 150 and 180 epochs of 300
    (30, 300),  # nothing was allowed 30 epochs: all of them
])
def test_a_run_takes_as_many_epochs_as_those_that_were_allowed_as_many(estimates, tmp_path, max_epochs, seconds):
    assert estimates.seconds(job(max_epochs)) == seconds


def test_a_closed_form_takes_what_it_took(estimates, tmp_path):
    assert estimates.seconds(job(300, model="itemknn", loss="none")) == 7


def test_of_what_was_never_run_nothing_is_said(estimates, tmp_path):
    assert estimates.seconds(job(300, data="ml1m")) is None


def test_what_is_done_is_taken_off(estimates, tmp_path):
    runs = Runs(tmp_path / "runs")
    folder = runs.folder("ab")
    folder.mkdir(parents=True)
    (folder / "epochs.csv").write_text("epoch,loss\n" + "1,1.0\n" * 15)
    (folder / "last.ckpt").write_bytes(b"")
    assert estimates.seconds(job(20)) == 50


RECORD = CLREC | {"key": "zz", "status": "done", "noise": "none", "split": "s", "command": "c", "config": {}, "seed": 0,
                  "valid": {}, "test": {}, "epochs": 1, "seconds": 9e9}


@pytest.mark.parametrize("content", ["{", "[]", "1", "{}", json.dumps({**RECORD, "seconds": "long"}), json.dumps(
    {name: value for name, value in RECORD.items() if name != "config"})])
def test_a_file_that_is_no_record_is_passed_over(estimates, tmp_path, caplog, content):
    (tmp_path / "runs" / "zz").mkdir(parents=True)
    (tmp_path / "runs" / "zz" / "record.json").write_text(content)
    again = Estimates(tmp_path / "results", Runs(tmp_path / "runs"))
    assert again.seconds(job(20)) == estimates.seconds(job(20))
    assert str(tmp_path / "runs" / "zz" / "record.json") in caplog.text and "delete it" in caplog.text


def test_a_damaged_list_of_runs_costs_its_own_estimates(estimates, tmp_path, caplog):
    (tmp_path / "results" / "other").mkdir()
    (tmp_path / "results" / "other" / "runs.csv").write_text("key\n")
    again = Estimates(tmp_path / "results", Runs(tmp_path / "runs"))
    assert again.seconds(job(20)) == estimates.seconds(job(20)) and "runs.csv, line 1" in caplog.text
