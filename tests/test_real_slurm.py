"""What a real Slurm does with runs. tests/device/slurm.sh starts one of one node.

Without Slurm these tests are skipped; RECOT_SLURM=1 makes its absence a failure.
"""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from commands import TINY, Started, command
from processes import wait_for
from queued import Queue

SMOKE = ("--profile", "smoke", "--paper", "sclrec", "--table", "table2", "--launcher", "slurm")
WHY = "no Slurm answers here; tests/device/slurm.sh says how to start one"


def answers():
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None and subprocess.run(
        ["squeue", "--noheader"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not os.environ.get("RECOT_SLURM") and not answers(), reason=WHY)


def test_a_sweep_through_the_launcher_of_hydra_ends_with_its_comparison(tmp_path):
    done = command(tmp_path, "recot.run", "-m", *TINY, "model=popularity,itemknn", "hydra/launcher=submitit_slurm",
                   "hydra.launcher.timeout_min=10", "hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1")
    assert done.returncode == 0 and "2 methods on planted" in done.stdout, done
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 2
    assert len(list(tmp_path.glob("runs/.sweep/.submitit/*/*_log.out"))) == 2


def test_tables_are_made_by_the_queue_and_a_command_that_was_stopped_finds_its_jobs_there(tmp_path):
    words = (*SMOKE, "--row", "popularity,bprmf", "--seeds", "0", "--jobs", "1", "--slurm", "mem_gb=1 timeout_min=10")
    first = Started(tmp_path, "recot.tables", *words)
    wait_for(lambda: len(list(tmp_path.glob("runs/.slurm/*.json"))) == 2)
    os.kill(first.pid, signal.SIGINT)
    stopped = first.finished()
    assert stopped.returncode == 130 and "2 runs submitted, 0 were in the queue" in stopped.stderr
    assert re.search(r"runs stay in the queue, and the same command waits for them .*`scancel \d+`", stopped.stderr)
    again = command(tmp_path, "recot.tables", *words)
    assert again.returncode == 0 and not re.search(r"[1-9] runs submitted", again.stderr), again.stderr
    records = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/record.json")]
    assert {record["model"]: record["status"] for record in records} == {"bprmf": "done", "popularity": "done"}
    assert len(list(tmp_path.glob("runs/.slurm/*_log.out"))) == 2 and not list(tmp_path.glob("runs/.slurm/*.json"))
    assert "| BPRMF | ours | " in (tmp_path / "results" / "smoke" / "sclrec" / "table2.md").read_text()


def test_a_job_that_makes_place_for_another_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    queue, told = Queue(tmp_path, monkeypatch), []
    launcher = queue.launcher(cluster="slurm", pause=0.5)
    launcher.begin([(queue.job("a", "goes on"), queue.runs.claim("a"))])
    number = launcher.queued["a"].id
    wait_for(lambda: (queue.runs.folder("a") / "last.ckpt").exists())
    subprocess.run(["scancel", "--signal=USR2", number], check=True)
    wait_for(lambda: launcher.states([number]) == {number: "PENDING"})
    subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], check=True)  # or it waits two minutes
    while launcher.busy:
        told += launcher.ended()
    assert [outcome.error for outcome in told] == [None] and len(queue.starts("a")) == 2 and len(queue.jobs) == 1


def test_a_job_that_is_taken_out_of_the_queue_has_failed_and_its_log_is_named(tmp_path, monkeypatch):
    queue, told = Queue(tmp_path, monkeypatch), []
    launcher = queue.launcher(cluster="slurm", pause=0.5)
    launcher.begin([(queue.job("a", "hangs"), queue.runs.claim("a"))])
    wait_for(lambda: queue.starts("a"))
    subprocess.run(["scancel", launcher.queued["a"].id], check=True)
    while launcher.busy:
        told += launcher.ended()
    assert "left the queue without a record (CANCELLED)" in told[0].error and told[0].error.endswith(f"{queue.log(0)}")


def test_a_job_that_asks_for_more_than_there_is_is_named(tmp_path, monkeypatch, caplog):
    queue = Queue(tmp_path, monkeypatch)
    launcher = queue.launcher(cluster="slurm", pause=0.5, cpus=1 + os.cpu_count())
    launcher.begin([(queue.job("a", "ends well"), queue.runs.claim("a"))])
    number = launcher.queued["a"].id
    try:
        wait_for(lambda: not [*launcher.ended()] and "will not start as it is" in caplog.text)
        assert f"job {number} will not start as it is: PENDING (" in caplog.text
    finally:
        subprocess.run(["scancel", number], check=True)


def test_what_slurm_refuses_is_said_in_one_line(tmp_path):
    done = command(tmp_path, "recot.tables", *SMOKE, "--row", "popularity", "--slurm", "partition=nowhere")
    assert done.returncode == 1 and "sbatch: error: invalid partition specified: nowhere" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("runs/.slurm/*.json"))
