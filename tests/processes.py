"""Looks at the processes of this machine."""

import os
import time

from commands import PATIENCE


def child_processes(pid):
    """Python processes started by ``pid``, but the tracker of shared resources, which ends by itself."""
    found = []
    for folder in os.listdir("/proc"):
        if folder.isdigit():
            try:
                with open(f"/proc/{folder}/stat") as stat, open(f"/proc/{folder}/cmdline") as line:
                    if stat.read().rsplit(")", 1)[1].split()[1] == str(pid) and "resource_tracker" not in line.read():
                        found.append(int(folder))
            except OSError:
                continue
    return found


def alive(pid):
    """Whether one of its threads is; the first may be over while another still holds the files and their locks."""
    try:
        threads = [f"/proc/{pid}/task/{thread}/stat" for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return False
    return any(state(thread) not in ("", "Z", "X") for thread in threads)


def state(stat):
    """The letter of a process or thread in a file ``stat`` of proc(5); empty where it is gone."""
    try:
        with open(stat) as stream:
            return stream.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def wait_for(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")
