"""What a program took."""

import os
import subprocess
import sys
import time
from pathlib import Path


def run(command, env, log):
    """Wall and CPU seconds and the peak of resident memory in MB, of a program and what it waited for."""
    began = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen([str(c) for c in command], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed with {process.returncode}:\n{Path(log).read_text(errors='replace')[-3000:]}")
    # Linux counts in KiB, macOS in bytes.
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)
