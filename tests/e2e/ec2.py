#!/usr/bin/env python3
"""infra/ec2's start, status and stop: first with a stand-in for the binary, then with the true one and a true job."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import emergency
import lake
from harness import BINARY, JOB, ROOT, Stage, until

HERE = Path(__file__).resolve().parent


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Machine:
    """A machine with its environment file."""

    def __init__(self, stage, name, **settings):
        self.stage = stage
        self.run_folder = stage.work / name
        lines = {"TRIBUTARY_RUN": self.run_folder, "TRIBUTARY_HTTP": f"127.0.0.1:{free_port()}", **settings}
        self.file = stage.work / f"{name}.env"
        self.file.write_text("# A comment, and a blank line.\n\n" + "".join(f"{key}={value}\n" for key, value in lines.items()))

    def do(self, script, *more):
        done = subprocess.run([ROOT / "infra/ec2" / script, self.file, *more], env=self.stage.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180)
        return done.returncode, done.stdout

    def check(self, what, script, code, *says, more=()):
        found, said = self.do(script, *more)
        self.stage.check(what, found == code and all(part in said for part in says), f"exit code {found}, not {code}; it should say {says}:\n{said}")

    def pid(self, job):
        return int((self.run_folder / f"{job}.pid").read_text().split()[0])

    def kill(self, job):
        os.kill(self.pid(job), signal.SIGKILL)


def with_stub(stage):
    job = stage.work / "stub.sql"
    job.write_text("-- nothing\n")
    machine = Machine(stage, "stub", TRIBUTARY=HERE / "stub_job.py", JOB=job, LAKE="s3://a lake/$(not executed)")
    machine.check("status before the start", "status", 3, "does not run")
    machine.check("stop before the start is no failure", "stop", 0, "does not run")
    machine.check("start waits until it is ready", "start", 0, "stub is up", more=("--parallelism", "1"))
    log = (stage.work / "stub" / "stub.log").read_text()
    stage.check("values are taken as they stand, options are passed on", "s3://a lake/$(not executed)" in log and "'--parallelism', '1'" in log, log)
    machine.check("status while it runs", "status", 0, "running")
    machine.check("a second start is refused", "start", 2, "runs already")
    machine.check("stop", "stop", 0, "is stopped")
    machine.check("status after the stop", "status", 3)
    machine.check("start again", "start", 0)
    machine.kill("stub")
    until(lambda: machine.do("status")[0] == 3, 10, "the killed stub to be gone")
    machine.check("start after a crash, over the old pid file", "start", 0)
    machine.check("and stop again", "stop", 0)

    machine = Machine(stage, "fails", TRIBUTARY=HERE / "stub_job.py", JOB=job, STUB="fails")
    machine.check("a job that ends at once", "start", 1, "ended at once", "the stub fails")
    machine = Machine(stage, "deaf", TRIBUTARY=HERE / "stub_job.py", JOB=job, STUB="deaf", START_SECONDS=2, STOP_SECONDS=1)
    machine.check("a job that never becomes ready", "start", 1, "not ready")
    machine.check("its status", "status", 1, "not healthy")
    machine.check("a job that does not stop is named, not killed", "stop", 1, "still runs")
    machine.kill("stub")
    machine = Machine(stage, "nothing", TRIBUTARY=HERE / "stub_job.py", JOB=stage.work / "nowhere.sql")
    machine.check("a job file that is not there", "start", 2, "nowhere.sql")
    machine = Machine(stage, "binary", TRIBUTARY=stage.work / "no-binary", JOB=job)
    machine.check("a binary that is not there", "start", 2, "no-binary")
    machine.file.write_text("export LAKE=here\nLAKE: here\n")
    machine.check("a line that is no setting", "start", 2, "NAME=value")
    machine.file.unlink()
    machine.check("no environment file", "start", 2, "usage")


def with_the_binary(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "5000", "--seed", "61")
    place = stage.place("local")
    machine = Machine(stage, "true", TRIBUTARY=BINARY, JOB=JOB, KAFKA_BOOTSTRAP_SERVERS=stage.kafka, **place)
    machine.check("the true job starts", "start", 0, "is up", more=("-D", "execution.checkpointing.interval=1 s"))
    machine.check("the true job is healthy", "status", 0, "running")
    until(lambda: any(sum(book["records"] for book in epoch["ledger"]["sources"].values()) > 0 for epoch in lake.checkpoints(place, stage.env)), 60, "an epoch with records")
    machine.check("the true job stops", "stop", 0, "is stopped")
    expected = emergency.expected_of(stage)
    shown = lake.rows(place["LAKE"], "patient_data")
    stage.check(f"and has published all {len(shown)} readings", not lake.difference("patient_data", expected.tables["patient_data"], shown), len(shown))


with Stage("ec2", "kafka") as stage:
    with_stub(stage)
    with_the_binary(stage)
