#!/usr/bin/env python3
"""The lake on the other clouds: gs:// on the XML API of Google Cloud Storage as infra/gcs serves it, az:// on Azurite. The emergency job is
killed again and again on each; then its tables are read back by a job, asked by `query`, and compacted. What is wrong is said.

usage: clouds.py [--kills N] [--seed N] [--store gs|az]"""

import argparse
import json
import random

import emergency
import lake
from harness import Stage
from kills import kills

READ_BACK = """
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}-back';
CREATE TABLE patient_data (id STRING, heart_rate INT, dt STRING, `hour` STRING) PARTITIONED BY (dt, `hour`) WITH (
  'connector' = 'filesystem', 'path' = '${LAKE}/patient_data', 'format' = 'parquet'
);
CREATE TABLE back (id STRING, heart_rate INT, dt STRING) WITH (
  'connector' = 'filesystem', 'path' = '${LAKE}-back/back', 'format' = 'json'
);
INSERT INTO back SELECT id, heart_rate, dt FROM patient_data;
"""


def read_back(stage, place, kind, rows):
    """The lake as a source, and JSON as a sink, on the same cloud."""
    job = stage.work / f"back-{kind}.sql"
    job.write_text(READ_BACK)
    run = stage.run_job(job, place, "--bounded")
    code = run.wait(120)
    stage.check(f"{kind}: read back, exits 0", code == 0, f"exit code {code}\n{run.tail()}")
    store, _ = lake.filesystem(place["LAKE"], stage.env)
    found = []
    for path in lake.files(f"{place['LAKE']}-back/back", stage.env):
        with store.open_input_stream(path) as stream:
            found += [json.loads(line) for line in stream.read().splitlines()]
    wanted = sorted((row[0], row[2], row[10]) for row in rows)
    stage.check(f"{kind}: read back, {len(wanted)} rows", sorted((row["id"], row["heart_rate"], row["dt"]) for row in found) == wanted,
                f"{len(found)} found")


def ask(stage, place, kind, rows):
    query = stage.tributary("query", "SELECT count(*) AS n FROM patient_data", "--lake", place["LAKE"], "--format", "json")
    stage.check(f"{kind}: query counts {len(rows)} rows", query.wait(60) == 0 and f'"n":{len(rows)}' in query.log().replace(" ", ""), query.tail())


def compacted(stage, place, kind, expected):
    job = stage.job(f"compact-{kind}.sql")
    def count():
        return sum(path.endswith(".parquet") for path in lake.files(place["LAKE"], stage.env))

    before = count()
    run = stage.tributary("compact", job, "--offline", "--older-than", "0 s", "--grace", "0 s", env=place)
    code = run.wait(300)
    after = count()
    stage.check(f"{kind}: compact makes {after} files of {before}", code == 0 and after < before, f"exit code {code}\n{run.tail()}")
    emergency.compare(stage, place, f"{kind}, compacted", expected, dead_letters=False)


def wrong(stage, kind):
    """A bucket that is not there, and a catalog that cannot know of the tables."""
    nowhere = {"LAKE": f"{kind}://tributary-none/lake", "CHECKPOINTS": f"{kind}://tributary-none/checkpoints"}
    run = stage.run_job(stage.job(), nowhere, "--bounded")
    code = run.wait(60)
    stage.check(f"{kind}: a bucket that is not there is named", code == 2 and '"tributary-none": make it' in run.log(), f"exit code {code}\n{run.tail()}")
    run = stage.tributary("check", stage.job(), env={**stage.place(kind), "GLUE_DATABASE": "emergency"})
    code = run.wait(60)
    stage.check(f"{kind}: tables for Athena are refused", code == 2 and "Athena look at S3 only" in run.log(), f"exit code {code}\n{run.tail()}")


arguments = argparse.ArgumentParser()
arguments.add_argument("--kills", type=int, default=12)
arguments.add_argument("--seed", type=int, default=3)
arguments.add_argument("--store", choices=("gs", "az"), help="only there")
arguments = arguments.parse_args()
with Stage("clouds", "kafka", "minio", "gcs", "azurite") as stage:
    rnd = random.Random(arguments.seed)
    for kind in (arguments.store,) if arguments.store else ("gs", "az"):
        place, expected = kills(stage, kind, arguments.kills, 6 * arguments.kills, rnd, options=("--parallelism", "1"))
        rows = expected.tables["patient_data"]
        ask(stage, place, kind, rows)
        read_back(stage, place, kind, rows)
        compacted(stage, place, kind, expected)
        wrong(stage, kind)
