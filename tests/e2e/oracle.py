#!/usr/bin/env python3
"""The same job file and the same topics through real Flink and through Tributary: the same rows, and both as expected."""

import subprocess

import emergency
import lake
from harness import JOB, ROOT, SERVERS, Process, Stage


def flinks(folder, table):
    """Flink names its files part-..., without an ending."""
    return f"{folder}/{table}/**/part-*"


with Stage("oracle", "kafka") as stage:
    subprocess.run([SERVERS, "install", "flink"], check=True, stdout=subprocess.DEVNULL, env=stage.env)
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "100000", "--seed", "51")
    expected = emergency.expected_of(stage)

    flink = stage.work / "flink"
    env = {**stage.env, "LAKE": f"file://{flink}", "CHECKPOINTS": f"file://{stage.work}/flink-checkpoints"}
    # Watermarks after each row, as Tributary has them; in one lane rows of one partition keep their order.
    run = Process([ROOT / "tests/oracle/flink/run", JOB, "scan.watermark.emit.strategy=on-event"], env, stage.work / "flink.log")
    stage.processes.append(run)
    code = run.wait(600)
    stage.check("Flink runs the file to its end", code == 0, f"exit code {code}\n{run.tail()}")

    place = stage.place("local")
    emergency.run_to_end(stage, place, "Tributary")
    for table, wanted in expected.tables.items():
        theirs, ours = lake.rows(flink, table, flinks), lake.rows(place["LAKE"], table)
        problem = lake.difference(table, wanted, theirs)
        stage.check(f"Flink and the expectation agree: {table}, {len(wanted)} rows", not problem, problem)
        problem = lake.difference(table, theirs, ours)
        stage.check(f"Flink and Tributary agree: {table}, {len(theirs)} rows", not problem, problem)
