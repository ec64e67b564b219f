"""The whole emergency job, measured: its time, CPU and memory by settings, and how long it takes from its start to its first record.

usage: emergency.py [COUNT]      COUNT patient records (2000000) and a tenth as many vehicle records

Run it with the Python of `infra/servers install python`. It starts a Kafka of its own and loads seeded records into four-partition topics. Every run
begins from nothing and reads to the end, so that memory is looked at under full speed."""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent / "tests" / "e2e")]
from harness import BINARY, JOB, Stage, until  # noqa: E402
from measured import run  # noqa: E402

ROUNDS, STARTS = 2, 10


def place(stage):
    return {**stage.env, **stage.place("local")}


def at_full_speed(stage, interval, memory):
    command = [BINARY, "run", JOB, "--bounded", "--http", "off", "--memory", memory, "-D", f"execution.checkpointing.interval={interval}"]
    return min(run(command, place(stage), stage.work / "log") for _ in range(ROUNDS))


def first_record(stage):
    """Milliseconds from the start of the process until it says that it has read."""
    log = stage.work / "log"
    began = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen([BINARY, "run", JOB, "--http", "off"], env=place(stage), stdout=out, stderr=out)
    try:
        until(lambda: b"first records" in log.read_bytes(), 30, "a first record", pause=0.001)
        return 1000 * (time.monotonic() - began)
    finally:
        process.kill()
        process.wait()


count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
with Stage("benchmark", "kafka") as stage:
    subprocess.run([sys.executable, HERE / "peers" / "load.py", str(count), stage.kafka], check=True)
    print(f"\n{count + (count + 9) // 10} records, {os.cpu_count()} cores, better of {ROUNDS}\n")
    print("| epochs | `--memory` | wall s | CPU s | peak MB |\n|---|---|---:|---:|---:|", flush=True)
    for interval, memory in (("10 s", "512 MiB"), ("1 s", "512 MiB"), ("10 s", "256 MiB"), ("10 s", "1 GiB")):
        wall, cpu, peak = at_full_speed(stage, interval, memory)
        print(f"| {interval} | {memory} | {wall:.1f} | {cpu:.1f} | {peak:.0f} |", flush=True)
    starts = sorted(first_record(stage) for _ in range(STARTS))
    median = starts[STARTS // 2]
    said = f"median {median:.0f} ms, slowest {starts[-1]:.0f} ms of {STARTS}"
    stage.check("from the start to the first record in less than 150 ms, at most 300", median < 150 and starts[-1] < 300, said)
    print(said)
