#!/usr/bin/env python3
"""Wrong things that a user may do, each with its exit code and one clear message: the table is wrong.toml."""

import os
import socket
import stat
import subprocess
import tomllib
from pathlib import Path

import emergency
from harness import BINARY, JOB, Stage, until

NAMES = ("JOB", "WORK", "PORT", "READONLY")


def prepare(stage, case, number, fixed):
    """The job file of a case, and what stands for the names in it."""
    folder = stage.work / f"case{number}"
    folder.mkdir()
    text = case.get("job") or JOB.read_text()
    for before, after in case.get("replace", ()):
        assert before in text, f"{case['name']}: {JOB} no longer says {before}"
        text = text.replace(before, after)
    (folder / "job.sql").write_text(text)
    return {**fixed, "JOB": str(folder / "job.sql"), "WORK": str(folder)}


def fill(text, values):
    for name in NAMES:
        text = text.replace(name, values[name])
    return text


def run(stage, case, number, fixed):
    values = prepare(stage, case, number, fixed)
    place = {"LAKE": f"{values['WORK']}/lake", "CHECKPOINTS": f"{values['WORK']}/checkpoints"}
    place.update({name: fill(value, values) for name, value in case.get("environment", {}).items()})
    process = stage.tributary(*(fill(part, values) for part in case["command"]), env=place)
    code = process.wait(60)
    said = process.log()
    wanted = case.get("code", 2)
    problems = []
    if code not in (wanted if isinstance(wanted, list) else [wanted]):
        problems.append("it still runs after 60 s" if code is None else f"exit code {code}, not {wanted}")
        process.kill()
    problems += [f"it does not say {part!r}" for part in (fill(p, values) for p in case["says"]) if part not in said]
    messages = [line for line in said.splitlines() if line.startswith("error")]
    if case["command"] and len(messages) != 1:
        problems.append(f"{len(messages)} messages instead of one")
    if "panicked" in said or "RUST_BACKTRACE" in said:
        problems.append("it panicked")
    if len(said.splitlines()) > 30:
        problems.append(f"{len(said.splitlines())} lines")
    stage.check(case["name"], not problems, "; ".join(problems) + "\n" + process.tail(6))


def another_jobs_checkpoints(stage):
    """Its own check, for it takes a run that ends well first."""
    place = stage.place("local")
    emergency.run_to_end(stage, place, "a checkpoint folder of another job")
    other = stage.job("other.sql", changes=[("'pipeline.name' = 'emergency'", "'pipeline.name' = 'another'")])
    run = stage.run_job(other, place, "--bounded")
    code = run.wait(60)
    stage.check("a checkpoint folder of another job", code == 2 and "emergency" in run.log() and "another" in run.log(), f"exit code {code}\n{run.tail()}")


def nobody_listens(stage):
    """Both outputs go into a pipe whose reader is gone, as behind `| head`."""
    broken = stage.work / "broken.sql"
    broken.write_text("SELECT 1")
    for arguments, wanted in ((["check", JOB], 0), (["explain", JOB], 0), (["check", broken], 2), (["run", broken], 2), (["generate", "login", "--to", stage.work / "logins", "--count", "5"], 0)):
        reader, writer = os.pipe()
        os.close(reader)
        code = subprocess.run([BINARY, *arguments], env=stage.env, stdout=writer, stderr=writer, timeout=60).returncode
        os.close(writer)
        stage.check(f"{arguments[0]} {Path(arguments[1]).name} does its work where nobody listens", code == wanted, f"exit code {code}, not {wanted}")


def an_empty_variable(stage):
    nothing = {"TRIBUTARY_MEMORY": "", "TRIBUTARY_PARALLELISM": ""}
    run = stage.run_job(JOB, {**stage.place("local"), **nothing}, "--bounded")
    stage.check("variables that are set to nothing are not set", run.wait(60) == 0, run.tail())
    lake = stage.work / "empty-lake"
    lake.mkdir()
    run = stage.tributary("compact", "--lake", lake, "--offline", env=nothing)
    stage.check("compact does not take them as set either", run.wait(60) == 0, run.tail())


def generate_without_kafka(stage):
    run = stage.tributary("generate", "login", "--to", "kafka://127.0.0.1:1", "--count", "5")
    until(lambda: "Kafka cannot be reached" in run.log(), 30, "a word on what is missing")
    stage.check("generate says that Kafka cannot be reached, and tries on", run.running(), run.tail())
    run.kill()


with Stage("wrong", "kafka", "minio") as stage:
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "200")
    readonly = stage.work / "readonly"
    readonly.mkdir()
    readonly.chmod(stat.S_IRUSR | stat.S_IXUSR)
    # Root may write everywhere, but not into a file as if it were a folder.
    if os.access(readonly, os.W_OK):
        readonly = stage.work / "a-file"
        readonly.write_text("not a folder")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fixed = {"PORT": str(taken.getsockname()[1]), "READONLY": str(readonly)}
        for number, case in enumerate(tomllib.loads((Path(__file__).parent / "wrong.toml").read_text())["case"]):
            run(stage, case, number, fixed)
    another_jobs_checkpoints(stage)
    nobody_listens(stage)
    an_empty_variable(stage)
    generate_without_kafka(stage)
