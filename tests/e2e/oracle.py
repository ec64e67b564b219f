#!/usr/bin/env python3
"""The same job file and the same topics through real Flink and through Tributary: the same rows, and both as expected."""

import subprocess

import changelog
import emergency
import lake
from harness import BINARY, JOB, ROOT, SERVERS, Process, Stage

CHANGES = ROOT / "tests/oracle/changes.sql"


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

    # Results that change, and windows that overlap: both print every step, and where the steps lead must be the same.
    changelog.write_orders(stage.work / "orders", 2500)
    printed = {}
    for name, command in {
        "Flink": [ROOT / "tests/oracle/flink/run", CHANGES],
        "Tributary": [BINARY, "run", CHANGES, "--bounded", "--http", "off"],
    }.items():
        env = {**stage.env, "INPUT": f"file://{stage.work}/orders", "CHECKPOINTS": f"file://{stage.work}/{name}-changes"}
        run = Process(command, env, stage.work / f"{name}-changes.log")
        stage.processes.append(run)
        code = run.wait(300)
        stage.check(f"{name} runs the changing queries to their end", code == 0, f"exit code {code}\n{run.tail()}")
        printed[name], below = changelog.held(run.log())
        stage.check(f"{name} takes nothing back that was not there", not below, ", ".join(below))
    for table, theirs in printed["Flink"].items():
        ours = printed["Tributary"].get(table, {})
        problem = "\n".join(f"{row}: Flink {theirs[row]}, Tributary {ours.get(row, 0)}" for row in {*theirs, *ours} if theirs[row] != ours.get(row, 0))
        stage.check(f"Flink and Tributary agree: {table}, {sum(theirs.values())} rows", not problem, problem[:2000])
    stage.check("Tributary prints what Flink prints, and no more", printed["Flink"].keys() == printed["Tributary"].keys(), str(printed.keys()))
