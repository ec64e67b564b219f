#!/usr/bin/env python3
"""Two instances of one job: a frozen one that comes back is fenced off and shows nothing; a second start beside a living one gives
up and names it; a standby takes over when the first is killed."""

import signal

import emergency
import lake
from harness import Stage, until

EPOCHS = ("-D", "execution.checkpointing.interval=1 s")


def owner(stage, place):
    epochs = lake.checkpoints(place, stage.env)
    return epochs[-1]["owner"]["pid"] if epochs else None


def owned_by(stage, place, run):
    """Waits until `run` has committed an epoch, and that it has."""
    until(lambda: owner(stage, place) == run.pid or not run.running(), 60, f"process {run.pid} to commit an epoch")
    assert run.running(), f"it ended instead:\n{run.tail()}"


def beyond(stage, place, more):
    """Waits for so many further epochs."""
    now = lake.checkpoints(place, stage.env)[-1]["epoch"]
    until(lambda: lake.checkpoints(place, stage.env)[-1]["epoch"] >= now + more, 60, f"{more} more epochs")


def zombie(stage, kind):
    what = f"a frozen instance on {kind}"
    emergency.fresh_topics(stage)
    generator = emergency.flow(stage, 31)
    place = stage.place(kind)
    job = stage.job(f"zombie-{kind}.sql", rolling=("patient_data", "vitals_1m"))
    first = stage.run_job(job, place, *EPOCHS)
    owned_by(stage, place, first)
    beyond(stage, place, 2)
    first.send(signal.SIGSTOP)
    second = stage.run_job(job, place, *EPOCHS, "--takeover")
    owned_by(stage, place, second)
    beyond(stage, place, 2)
    shown = {path for path in lake.files(place["LAKE"], stage.env) if "/_tributary/" not in path}
    first.send(signal.SIGCONT)
    code = first.wait(60)
    stage.check(f"{what} exits 3 when it comes back", code == 3, f"exit code {code}\n{first.tail()}")
    stage.check(f"{what}: the second one still owns the job", second.running() and owner(stage, place) == second.pid, second.tail())
    gone = [path for path in shown if path not in set(lake.files(place["LAKE"], stage.env))]
    stage.check(f"{what}: nothing that was shown is gone", not gone, gone)
    emergency.ebb(generator)
    second.send(signal.SIGTERM)
    code = second.wait(60)
    stage.check(f"{what}: the second one ends well", code == 0, f"exit code {code}\n{second.tail()}")
    emergency.run_to_end(stage, place, what, job=job)
    emergency.compare(stage, place, what, emergency.expected_of(stage))
    emergency.check_audit(stage, place, what, job=job)


def second_start(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "30000", "--seed", "32")
    place = stage.place("local")
    job = stage.job("second.sql", rolling=("patient_data",))
    first = stage.run_job(job, place, *EPOCHS)
    owned_by(stage, place, first)
    second = stage.run_job(job, place, *EPOCHS)
    standby = stage.run_job(job, place, *EPOCHS, "--standby")
    code = second.wait(60)
    stage.check("a second start beside a living one exits 3", code == 3, f"exit code {code}\n{second.tail()}")
    stage.check("and names the process that owns the job", str(first.pid) in second.log(), second.tail())
    stage.check("the first one goes on, the standby waits", first.running() and standby.running() and owner(stage, place) == first.pid, standby.tail())
    first.kill()
    owned_by(stage, place, standby)
    stage.check("the standby takes over when the first is killed", True)
    standby.send(signal.SIGTERM)
    stage.check("the standby ends well", standby.wait(60) == 0, standby.tail())
    emergency.run_to_end(stage, place, "after the change of owners", job=job)
    emergency.compare(stage, place, "after the change of owners", emergency.expected_of(stage))


with Stage("zombie", "kafka", "minio") as stage:
    zombie(stage, "local")
    zombie(stage, "s3")
    second_start(stage)
