"""What a program took."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

PAUSE = 0.1


class Taken(NamedTuple):
    """Seconds of the clock and of processors, the peak of resident memory in MB, and after how many seconds the first output was there."""
    wall: float
    cpu: float
    memory: float
    first: float | None


def resident(session):
    """MB that all processes of a session hold at this moment. Only Linux tells."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == session:
            pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def high_water(pid):
    """MB that a process has held at most so far, as the system has seen it. What the system says at the end is no use: it counts the memory
    of whoever started the program among the program's."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def run(command, env, log):
    """Wall and CPU seconds and the peak of resident memory in MB."""
    return watched(command, env, log, lambda: False)[:3]


def watched(command, env, log, appeared):
    """Runs a program in a session of its own and counts it with all that it started: processors' time as the system adds it up, memory as
    the largest sum over its processes. `appeared` is asked until it sees the first output."""
    first, peak, ended = None, 0.0, threading.Event()

    def watch():
        nonlocal first, peak
        while not ended.wait(PAUSE):
            # Between two looks one process alone may have held more than all of them at a look.
            peak = max(peak, resident(process.pid), high_water(process.pid))
            if first is None and appeared():
                first = time.monotonic() - began

    began = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen([str(c) for c in command], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        ended.set()
        watcher.join()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed with {process.returncode}:\n{Path(log).read_text(errors='replace')[-3000:]}")
    # What came in the last moment came at the end.
    if first is None and appeared():
        first = wall
    return Taken(wall, usage.ru_utime + usage.ru_stime, peak, first)
