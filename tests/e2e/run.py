#!/usr/bin/env python3
"""Runs the end-to-end scripts one after another, and says in the last line how many checks passed.

usage: run.py [--all] [FILTER]      FILTER: only scripts whose name contains it"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from harness import LEFT_OUT

HERE = Path(__file__).resolve().parent
SCRIPTS = ("wrong", "bounded", "zombie", "outages", "kills", "kafka_sink", "document_sinks", "lookups", "ec2", "deploy", "catalog", "compact", "permissions", "credentials", "shares", "registry", "clouds", "files", "demos")
ONLY_WITH_ALL = ("versitygw", "oracle", "systems")
# Far beyond what a script needs on two cores: it is there so that nothing hangs for ever.
LIMIT_SECONDS = 1500


def run(name, everything):
    """How many checks of a script passed and failed. A script that ends badly without a failed check counts as one; one that this machine
    lacks something for counts as none, but not where CI=true."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    command = [sys.executable, HERE / f"{name}.py", *(["--all"] if everything and name in ("kills", "kafka_sink", "document_sinks") else [])]
    passed = failed = 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    limit = threading.Timer(LIMIT_SECONDS, process.terminate)
    limit.start()
    for line in process.stdout:
        print(line, end="", flush=True)
        passed += bool(re.match("PASS ", line))
        failed += bool(re.match("FAIL ", line))
    code = process.wait()
    limit.cancel()
    if code == LEFT_OUT and os.environ.get("CI") == "true":
        print(f"FAIL {name} was left out, which is a failure where CI=true")
        failed = 1
    elif code and code != LEFT_OUT and not failed:
        print(f"FAIL {name}.py ends with exit code {code}")
        failed = 1
    print(f"== {name}: {passed} passed, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    return passed, failed


arguments = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
arguments.add_argument("--all", action="store_true")
arguments.add_argument("filter", nargs="?", default="")
arguments = arguments.parse_args()
chosen = [name for name in SCRIPTS + (ONLY_WITH_ALL if arguments.all else ()) if arguments.filter in name]
results = [run(name, arguments.all) for name in chosen]
passed, failed = sum(p for p, _ in results), sum(f for _, f in results)
print(f"{passed} passed, {failed} failed", flush=True)
sys.exit(1 if failed else 0)
