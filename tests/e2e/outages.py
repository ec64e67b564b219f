#!/usr/bin/env python3
"""The broker goes away and comes back during a run, and so does the object store: the job warns, goes on, and is exact."""

import re
import signal

import emergency
import lake
from harness import Stage, until

WARNING = re.compile(r"\bWARN\b|\bwarning\b", re.IGNORECASE)


def outage(stage, server, kind):
    what = f"{server} away and back"
    emergency.fresh_topics(stage)
    place = stage.place(kind)
    job = stage.job(f"outage-{server}.sql", rolling=("patient_data", "vitals_1m"))
    run = stage.run_job(job, place, "-D", "execution.checkpointing.interval=1 s")
    emergency.generate(stage, "--count", "40000", "--seed", "41")

    def committed(more=0):
        epochs = lake.checkpoints(place, stage.env)
        return bool(epochs) and epochs[-1]["epoch"] > more and sum(b["records"] for b in epochs[-1]["ledger"]["sources"].values()) > 0

    until(lambda: committed() or not run.running(), 60, "an epoch with records")
    quiet = len(run.log())
    warned = None
    stage.servers("halt", server)
    try:
        warned = until(lambda: WARNING.search(run.log()[quiet:]) or not run.running(), 60, "a warning")
    except TimeoutError:
        pass
    stage.check(f"{what}: a warning is visible", run.running() and warned, run.tail())
    stage.servers("resume", server)
    back = lake.checkpoints(place, stage.env)[-1]["epoch"]
    emergency.generate(stage, "--count", "10000", "--seed", "42")
    try:
        until(lambda: committed(back + 1) or not run.running(), 120, "epochs after the outage")
    except TimeoutError as error:
        stage.check(f"{what}: epochs go on", False, f"{error}\n{run.tail()}")
    stage.check(f"{what}: the same process goes on", run.running(), run.tail(25))
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check(f"{what}: it ends well", code == 0, f"exit code {code}\n{run.tail()}")
    emergency.run_to_end(stage, place, what, job=job)
    expected = emergency.expected_of(stage, clean=False)
    local = lake.localised(place["LAKE"], stage.env, stage.work)
    for table in ("patient_data", "emergency_vehicle_data", "breaches"):
        problem = lake.difference(table, expected.tables[table], lake.rows(local, table))
        stage.check(f"{what}: {table}, {len(expected.tables[table])} rows", not problem, problem)
    emergency.check_audit(stage, place, what, job=job)


with Stage("outages", "kafka", "minio") as stage:
    outage(stage, "kafka", "local")
    outage(stage, "minio", "s3")
