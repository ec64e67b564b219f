#!/usr/bin/env python3
"""From Kafka to MongoDB and to a JSON document, killed at every named step of the protocol and at random moments: collection and document never
go back while it happens, and at the end each row is there once and each key has its last one.

usage: document_sinks.py [--kills N] [--seed N] [--all]"""

import argparse
import json
import random
import threading
import time
from pathlib import Path

import pymongo

import lake
import topics
from deaths import KEYS, Writer, die_at, die_at_random, drawn
from harness import Stage

INPUT, DATABASE = "document-input", "documents"
JOB = """
SET 'pipeline.name' = 'kafka-to-documents';
SET 'execution.checkpointing.interval' = '500 ms';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE events (id BIGINT, k STRING, note STRING) WITH (
  'connector' = 'kafka', 'topic' = 'document-input', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'properties.group.id' = 'kafka-to-documents', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE copied (id BIGINT, k STRING) WITH (
  'connector' = 'mongodb', 'uri' = '${MONGO_URI}', 'database' = 'documents', 'collection' = 'copied', 'tributary.mongodb.indexes' = 'k');
CREATE TABLE latest (k STRING, id BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (
  'connector' = 'mongodb', 'uri' = '${MONGO_URI}', 'database' = 'documents', 'collection' = 'latest');
CREATE TABLE page (k STRING, id BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (
  'connector' = 'tributary-json-file', 'path' = '${LAKE}/page.json', 'tributary.json-file.heading' = 'Latest');
CREATE TABLE numbers (k STRING, id BIGINT, note STRING, PRIMARY KEY (k) NOT ENFORCED) WITH (
  'connector' = 'tributary-json-file', 'path' = '${LAKE}/page.json');
INSERT INTO copied SELECT id, k FROM events;
INSERT INTO latest SELECT k, id FROM events;
INSERT INTO page SELECT k, id FROM events;
INSERT INTO numbers SELECT k, id, note FROM events;
"""


class Reader(threading.Thread):
    """Looks at collection and document all the while: no number of a key may go back, and the document is always whole."""

    def __init__(self, database, page):
        super().__init__(daemon=True)
        self.database, self.page = database, page
        self.looks, self.last, self.problems, self.ended = 0, {}, [], threading.Event()

    def run(self):
        while not self.ended.wait(0.1) and not self.problems:
            self.check("collection", latest(self.database))
            self.check("document", {key: number for key, number in document(self.page).get("Latest", {}).items()})
            self.looks += 1

    def check(self, where, found):
        for key, number in found.items():
            if self.last.get((where, key), -1) > number:
                self.problems.append(f"{where}: {key} went back from {self.last[where, key]} to {number}")
            self.last[where, key] = number

    def finish(self):
        self.ended.set()
        self.join()


def latest(database):
    return {row["_id"]: row["id"] for row in database.latest.find()}


def document(page):
    return json.loads(page.read_text()) if page.exists() else {}


arguments = argparse.ArgumentParser()
arguments.add_argument("--kills", type=int, default=16)
arguments.add_argument("--seed", type=int, default=1)
arguments.add_argument("--all", action="store_true", help="50 kills")
arguments = arguments.parse_args()
kills = 50 if arguments.all else arguments.kills
with Stage("document_sinks", "kafka", "mongo") as stage:
    rnd = random.Random(arguments.seed)
    topics.fresh(stage.kafka, INPUT)
    stage.env["MONGO_URI"] = stage.env["TRIBUTARY_TEST_MONGO"] + "/?directConnection=true"
    database = pymongo.MongoClient(stage.env["MONGO_URI"])[DATABASE]
    place = stage.place("local")
    page = Path(place["LAKE"]) / "page.json"
    job = stage.work / "kafka-to-documents.sql"
    job.write_text(JOB)
    # The server for tests keeps its documents in SQLite: no more than it can take beside everything else.
    writer, reader = Writer(stage, INPUT, rate=100), Reader(database, page)
    writer.start()
    reader.start()
    deaths, done, began = drawn(rnd, kills), 0, time.monotonic()
    for step in deaths:
        died = die_at(stage, job, place, step) if step else die_at_random(stage, job, place, rnd)
        if not died or reader.problems:
            break
        done += 1
    stage.check(f"{done} kills in {time.monotonic() - began:.0f} s, with {len(lake.checkpoints(place, stage.env))} epochs between them",
                done == len(deaths))
    sent = writer.finish()
    run = stage.run_job(job, place, "--bounded")
    code = run.wait(180)
    stage.check("run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
    reader.finish()
    stage.check(f"no key went back in {reader.looks} looks", not reader.problems and reader.looks > 0, reader.problems)
    numbers = sorted(row["id"] for row in database.copied.find())
    stage.check(f"the collection has each of {sent} rows once", numbers == list(range(sent)), f"{len(numbers)} rows, {len(set(numbers))} numbers")
    wanted = {}
    for number in range(sent):
        wanted[f"k{number * 7 % KEYS}"] = number
    stage.check(f"the collection has the last row of {len(wanted)} keys", latest(database) == wanted, latest(database))
    found = document(page)
    stage.check("so has the document, under both headings",
                found.get("Latest") == wanted and {k: v["id"] for k, v in found.get("numbers", {}).items()} == wanted, found.keys())
    audit = stage.tributary("audit", job, env=place)
    code = audit.wait(60)
    stage.check("the books balance", code == 0, f"exit code {code}\n{audit.tail()}")
    # Whoever is killed while it writes a file leaves it under a hidden name, which nobody reads.
    files = [path for path in lake.files(place["CHECKPOINTS"], stage.env) if not path.rsplit("/", 1)[1].startswith(".")]
    left = [path for path in files if "/staged/" in path]
    stage.check("nothing is left of what was staged", not left, left)
    parts = [path for path in files if "/documents/" in path]
    stage.check("of the document's parts there is one for each table", len(parts) == 2, parts)
