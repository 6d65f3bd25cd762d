"""Runs in a queue whose work is quick: they take a moment, or what a test asks of them, and import no torch."""

import importlib
import os
import textwrap

from processes import alive

from recot.artifacts import slurm
from recot.artifacts.jobs import Job
from recot.artifacts.slurm import Slurm, executor
from recot.record.store import Runs

WORK = """
    import os, signal, time
    from recot.artifacts.slurm import Task
    from recot.record.store import Runs

    class Quick(Task):
        def work(self):
            runs = Runs(self.job.config["paths"]["runs"])
            key, folder = self.job.key, runs.folder(self.job.key)
            with (folder / "starts").open("a") as stream:
                stream.write(f"{os.getpid()}\\n")
            if self.job.command == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.job.command == "raises":
                runs.put(key, {"status": "failed", "error": "ArithmeticError: no luck"})
                raise ArithmeticError("no luck")
            if self.job.command == "goes on" and not (folder / "last.ckpt").exists():
                time.sleep(0.02)
                (folder / "last.ckpt").touch()
                time.sleep(3600)
            if self.job.command == "hangs":
                time.sleep(3600)
            while self.job.command == "waits" and not (folder / "go").exists():
                time.sleep(0.05)
            runs.put(key, {"status": "done", "key": key, "command": "", "config": {}, "model": "", "split": ""})
"""


def of_processes(ids):
    """The state of jobs of the local executor, whose ids are those of processes."""
    return {name: "RUNNING" for name in ids if alive(name)}


class Queue:
    """A folder of runs and launchers that share it.

    Attributes:
        jobs: what was submitted, in order.
    """

    def __init__(self, folder, monkeypatch):
        name = f"quick_{folder.name.replace('-', '_')}"
        (folder / f"{name}.py").write_text(textwrap.dedent(WORK))
        monkeypatch.syspath_prepend(folder)
        paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        self.runs, self.task, self.jobs = Runs(folder / "runs"), importlib.import_module(name).Quick, []

    def launcher(self, limit=None, cluster="local", cpus=1, **settings):
        submitter = executor(self.runs.root, 2, limit, {"mem_gb": 1, "cpus_per_task": cpus}, cluster)
        submit = submitter._executor._submit_command

        def noted(command):
            self.jobs.append(submit(command))
            return self.jobs[-1]

        submitter._executor._submit_command = noted
        said = slurm.states if cluster == "slurm" else of_processes
        return Slurm(self.runs, submitter, **{"task": self.task, "states": said, "pause": 0.05, "patience": 0.0}
                     | settings)

    def job(self, key, command):
        return Job(key, command, {"paths": {"runs": str(self.runs.root)}, "force": False, "seed": 0}, {})

    def log(self, number):
        return self.runs.root / slurm.FOLDER / f"{self.jobs[number].job_id}_0_log.out"

    def starts(self, key):
        file = self.runs.folder(key) / "starts"
        return file.read_text().split() if file.exists() else []
