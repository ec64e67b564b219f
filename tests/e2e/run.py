#!/usr/bin/env python3
"""Runs the end-to-end scripts, some at a time, and says in the last line how many checks passed.

usage: run.py [--all] [FILTER]      FILTER: only scripts whose name contains it"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import LEFT_OUT

HERE = Path(__file__).resolve().parent
SCRIPTS = ("wrong", "bounded", "zombie", "outages", "kills", "kafka_sink", "document_sinks", "lookups", "ec2", "deploy", "catalog", "compact", "permissions", "credentials", "shares", "registry", "clouds", "files", "demos")
ONLY_WITH_ALL = ("versitygw", "oracle", "systems")
# Each has servers of its own, and the most of them wait for something most of the time.
AT_ONCE = 2
# Far beyond what a script needs on two cores: it is there so that nothing hangs for ever.
LIMIT_SECONDS = 1500


def run(name, everything):
    """What a script says, and how many of its checks passed and failed. A script that ends badly without a failed check counts as one; one
    that this machine lacks something for counts as none, but not where CI=true."""
    began = time.monotonic()
    command = [sys.executable, HERE / f"{name}.py", *(["--all"] if everything and name in ("kills", "kafka_sink", "document_sinks") else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})
    limit = threading.Timer(LIMIT_SECONDS, process.terminate)
    limit.start()
    said = process.communicate()[0]
    limit.cancel()
    passed, failed = (len(re.findall(f"^{word} ", said, re.MULTILINE)) for word in ("PASS", "FAIL"))
    code = process.returncode
    if code == LEFT_OUT and os.environ.get("CI") == "true":
        said += f"FAIL {name} was left out, which is a failure where CI=true\n"
        failed = 1
    elif code and code != LEFT_OUT and not failed:
        said += f"FAIL {name}.py ends with exit code {code}\n"
        failed = 1
    return f"== {name}\n{said}== {name}: {passed} passed, {failed} failed, {time.monotonic() - began:.0f} s", passed, failed


arguments = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
arguments.add_argument("--all", action="store_true")
arguments.add_argument("filter", nargs="?", default="")
arguments = arguments.parse_args()
chosen = [name for name in SCRIPTS + (ONLY_WITH_ALL if arguments.all else ()) if arguments.filter in name]
all_passed = all_failed = 0
with ThreadPoolExecutor(AT_ONCE) as pool:
    for said, passed, failed in pool.map(lambda name: run(name, arguments.all), chosen):
        print(said, flush=True)
        all_passed += passed
        all_failed += failed
print(f"{all_passed} passed, {all_failed} failed", flush=True)
sys.exit(1 if all_failed else 0)
