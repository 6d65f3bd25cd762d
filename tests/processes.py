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
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")
