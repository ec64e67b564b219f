#!/usr/bin/env python3
"""From Kafka to Kafka, killed at every named step of the protocol and at random moments: a reader of committed transactions sees each row
once, while it happens and at the end, and the compacted topic has the last row of each key.

usage: kafka_sink.py [--kills N] [--seed N] [--all]"""

import argparse
import json
import random
import signal
import threading
import time

from confluent_kafka import Consumer, TopicPartition

import lake
import topics
from deaths import KEYS, Writer, die_at, die_at_random, drawn
from harness import Stage, until

INPUT, OUTPUT, LATEST = "sink-input", "sink-output", "sink-latest"
PARTITIONS = 4
JOB = """
SET 'pipeline.name' = 'kafka-to-kafka';
SET 'execution.checkpointing.interval' = '500 ms';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE events (id BIGINT, k STRING, note STRING) WITH (
  'connector' = 'kafka', 'topic' = 'sink-input', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'properties.group.id' = 'kafka-to-kafka', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE copied (id BIGINT, k STRING, note STRING) WITH (
  'connector' = 'kafka', 'topic' = 'sink-output', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'format' = 'json', 'key.format' = 'raw', 'key.fields' = 'k');
CREATE TABLE latest (k STRING, id BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (
  'connector' = 'upsert-kafka', 'topic' = 'sink-latest', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'key.format' = 'raw', 'value.format' = 'json');
INSERT INTO copied SELECT id, k, note FROM events;
INSERT INTO latest SELECT k, id FROM events;
"""


class Reader(threading.Thread):
    """A consumer of committed transactions that looks on all the while: no number may come twice, and within a key none may go back."""

    def __init__(self, stage):
        super().__init__(daemon=True)
        self.consumer = Consumer({"bootstrap.servers": stage.kafka, "group.id": "sink-reader", "enable.auto.commit": False,
                                  "isolation.level": "read_committed"})
        self.consumer.assign([TopicPartition(OUTPUT, p, 0) for p in range(PARTITIONS)])
        self.seen, self.last, self.problems, self.ended = set(), {}, [], threading.Event()

    def run(self):
        while not self.ended.is_set() and not self.problems:
            for message in self.consumer.consume(5000, timeout=0.1):
                if message.error():
                    continue
                row = json.loads(message.value())
                number, key = row["id"], message.key().decode()
                where = f"partition {message.partition()}, offset {message.offset()}, headers {message.headers()}"
                if number in self.seen:
                    self.problems.append(f"row {number} came twice: {where}")
                if self.last.get(key, -1) > number:
                    self.problems.append(f"row {number} of {key} came behind {self.last[key]}: {where}")
                if key != row["k"]:
                    self.problems.append(f"row {number} has the key {key}, not {row['k']}: {where}")
                self.seen.add(number)
                self.last[key] = number
        self.consumer.close()

    def finish(self):
        self.ended.set()
        self.join()


def latest(stage):
    """What a reader of the compacted topic makes of it: the last value of each key."""
    table = {}
    for record in sorted(topics.read(stage.kafka, LATEST), key=lambda record: (record.partition, record.offset)):
        table[record.key.decode()] = json.loads(record.value)["id"]
    return table


arguments = argparse.ArgumentParser()
arguments.add_argument("--kills", type=int, default=16)
arguments.add_argument("--seed", type=int, default=1)
arguments.add_argument("--all", action="store_true", help="50 kills")
arguments = arguments.parse_args()
kills = 50 if arguments.all else arguments.kills
with Stage("kafka_sink", "kafka") as stage:
    rnd = random.Random(arguments.seed)
    topics.fresh(stage.kafka, INPUT, OUTPUT, LATEST, partitions=PARTITIONS)
    place = stage.place("local")
    job = stage.work / "kafka-to-kafka.sql"
    job.write_text(JOB)
    deaths = drawn(rnd, kills)
    writer, reader = Writer(stage, INPUT, rate=2000), Reader(stage)
    writer.start()
    reader.start()
    done, began = 0, time.monotonic()
    for step in deaths:
        died = die_at(stage, job, place, step) if step else die_at_random(stage, job, place, rnd)
        if not died or reader.problems:
            break
        done += 1
    stage.check(f"{done} kills in {time.monotonic() - began:.0f} s, with {len(lake.checkpoints(place, stage.env))} epochs between them",
                done == len(deaths))
    # The last one runs through more rows before it is stopped in good order.
    run = stage.run_job(job, place)
    before = len(reader.seen)
    until(lambda: len(reader.seen) > before + 2000 or reader.problems or not run.running(), 120, "the reader to see more rows")
    sent = writer.finish()
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check("SIGTERM ends the last one well", code == 0, f"exit code {code}\n{run.tail()}")
    run = stage.run_job(job, place, "--bounded")
    code = run.wait(120)
    stage.check("run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
    until(lambda: len(reader.seen) >= sent or reader.problems, 60, f"the reader to see {sent} rows")
    reader.finish()
    stage.check(f"the reader saw each of {sent} rows once, in the order of its key", not reader.problems and reader.seen == set(range(sent)),
                reader.problems or f"{len(reader.seen)} seen, {sorted(set(range(sent)) - reader.seen)[:5]} are missing")
    numbers = sorted(json.loads(record.value)["id"] for record in topics.read(stage.kafka, OUTPUT))
    stage.check(f"a second reader sees the same {sent} rows", numbers == list(range(sent)), f"{len(numbers)} records, {len(set(numbers))} rows")
    wanted = {}
    for number in range(sent):
        wanted[f"k{number * 7 % KEYS}"] = number
    found = latest(stage)
    stage.check(f"the compacted topic has the last row of {len(wanted)} keys", found == wanted,
                [(key, wanted.get(key), found.get(key)) for key in wanted if wanted.get(key) != found.get(key)][:3])
    audit = stage.tributary("audit", job, env=place)
    code = audit.wait(60)
    stage.check("the books balance", code == 0, f"exit code {code}\n{audit.tail()}")
    left = [path for path in lake.files(place["CHECKPOINTS"], stage.env) if "/staged/" in path]
    stage.check("nothing is left of what was staged", not left, left)
