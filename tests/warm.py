"""A process that has imported the libraries of recot, and forks once for each command that it is asked to start.

A command of a test spends most of its time in importing torch, Lightning and pandas. A fork has them already; the
modules of recot itself are imported anew in each, so that nothing of one command reaches another. What such a process
cannot show (which libraries a command imports, how an interpreter starts) wants one of its own, see commands.python.
"""

import atexit
import json
import multiprocessing
import os
import runpy
import sys
import threading
import traceback

from recot.artifacts.workers import LIBRARIES


def become(asked):
    """Turn a fork into the process of the command: its folder, variables, streams and words."""
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for descriptor, place, flags in ((0, os.devnull, os.O_RDONLY), (1, asked["stdout"], os.O_WRONLY),
                                     (2, asked["stderr"], os.O_WRONLY)):
        opened = os.open(place, flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # the other holds what was read ahead
    sys.argv = asked["words"]
    sys.path[0] = asked["cwd"]
    real = multiprocessing.get_context  # processes that a command starts are forks too: they would import it all again
    multiprocessing.get_context = lambda method=None: real("fork" if method == "forkserver" else method)


def carry_out():
    """Run the command and end as an interpreter does, but for clearing all modules, which costs a second of CPU."""
    code = 0
    try:
        if sys.argv[0] == "-c":  # a program of a test may import what lies beside this file
            sys.path.insert(1, os.path.dirname(os.path.abspath(__file__)))
            exec(compile(sys.argv.pop(1), "-c", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    """Answer each line of standard input: a command with the id of the fork that runs it, an id with its exit code."""
    for name in (*LIBRARIES, "optuna"):
        __import__(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "recot"]:
        del sys.modules[name]
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        if isinstance(asked, int):
            print(os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            become(asked)
            carry_out()
        print(child, flush=True)


if __name__ == "__main__":
    main()
