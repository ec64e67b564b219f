#!/usr/bin/env python3
"""The broker goes away and comes back during a run, and so does the object store: the job warns, goes on, and is exact. A start that waits
for one of them can be ended."""

import re
import signal

import emergency
import lake
from harness import JOB, Stage, until

WARNING = re.compile(r"\bWARN\b|\bwarning\b", re.IGNORECASE)


def outage(stage, server, kind):
    what = f"{server} away and back"
    emergency.fresh_topics(stage)
    place = stage.place(kind)
    job = stage.job(f"outage-{server}.sql", rolling=("patient_data", "vitals_1m"))
    run = stage.run_job(job, place, "-D", "execution.checkpointing.interval=1 s")
    generator = emergency.flow(stage, 41)

    def records():
        epochs = lake.checkpoints(place, stage.env)
        return sum(book["records"] for book in epochs[-1]["ledger"]["sources"].values()) if epochs else 0

    until(lambda: records() > 0 or not run.running(), 60, "an epoch with records")
    quiet = len(run.log())
    warned = None
    stage.servers("halt", server)
    try:
        warned = until(lambda: WARNING.search(run.log()[quiet:]) or not run.running(), 60, "a warning")
    except TimeoutError:
        pass
    stage.check(f"{what}: a warning is visible", run.running() and warned, run.tail())
    stage.servers("resume", server)
    before = records()
    try:
        until(lambda: records() > before + 10_000 or not run.running(), 120, "epochs with records that came after the outage")
    except TimeoutError as error:
        stage.check(f"{what}: epochs go on", False, f"{error}\n{run.tail()}")
    emergency.ebb(generator)
    stage.check(f"{what}: the same process goes on", run.running(), run.tail(25))
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check(f"{what}: it ends well", code == 0, f"exit code {code}\n{run.tail()}")
    emergency.run_to_end(stage, place, what, job=job)
    emergency.compare(stage, place, what, emergency.expected_of(stage))
    emergency.check_audit(stage, place, what, job=job)


def stopped_while_it_starts(stage, server, kind):
    what = f"a start without {server}"
    stage.servers("halt", server)
    run = stage.run_job(JOB, stage.place(kind))
    until(lambda: WARNING.search(run.log()) or not run.running(), 60, "a warning")
    run.send(signal.SIGTERM)
    code = run.wait(20)
    stage.check(f"{what}: SIGTERM ends it well", code == 0, f"exit code {code}\n{run.tail()}")
    stage.servers("resume", server)


with Stage("outages", "kafka", "minio") as stage:
    stopped_while_it_starts(stage, "kafka", "local")
    stopped_while_it_starts(stage, "minio", "s3")
    outage(stage, "kafka", "local")
    outage(stage, "minio", "s3")
