#!/usr/bin/env python3
"""Events from Kafka joined with a MongoDB collection that another job has filled: the job is killed at random moments and at steps of the protocol, the
server is stopped in the middle, and a signal ends the job while it is away. At the end the result is what pymongo and Python make of both.

usage: lookups.py [--kills N] [--seed N]"""

import argparse
import json
import random
import signal

import duckdb
import pymongo
from confluent_kafka import Producer

import topics
from deaths import die_at, die_at_random
from harness import Stage, until

CUSTOMERS, ORDERS, DATABASE = "lookup-customers", "lookup-orders", "lookups"
KNOWN, ASKED = 600, 900
FILL = """
SET 'pipeline.name' = 'fill-customers';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}-fill';
CREATE TABLE events (id BIGINT, name STRING, credit DOUBLE) WITH (
  'connector' = 'kafka', 'topic' = 'lookup-customers', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'properties.group.id' = 'fill-customers', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE customers (id BIGINT, name STRING, credit DOUBLE, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'mongodb', 'uri' = '${MONGO_URI}', 'database' = 'lookups', 'collection' = 'customers');
INSERT INTO customers SELECT id, name, credit FROM events;
"""
JOB = """
SET 'pipeline.name' = 'name-orders';
SET 'execution.checkpointing.interval' = '500 ms';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE orders (id BIGINT, customer BIGINT, kind STRING, amount DOUBLE, proc AS PROCTIME()) WITH (
  'connector' = 'kafka', 'topic' = 'lookup-orders', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'properties.group.id' = 'name-orders', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE customers (id BIGINT, name STRING, credit DOUBLE, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'mongodb', 'uri' = '${MONGO_URI}', 'database' = 'lookups', 'collection' = 'customers');
CREATE TABLE kinds (kind STRING, label STRING, rate DOUBLE) WITH (
  'connector' = 'mongodb', 'uri' = '${MONGO_URI}', 'database' = 'lookups', 'collection' = 'kinds',
  'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '100', 'lookup.partial-cache.expire-after-write' = '2 s');
CREATE TABLE named (id BIGINT, name STRING, label STRING) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/named', 'format' = 'parquet');
CREATE TABLE good (id BIGINT, name STRING) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/good', 'format' = 'parquet');
INSERT INTO named SELECT o.id, c.name, k.label FROM orders AS o
LEFT JOIN customers FOR SYSTEM_TIME AS OF o.proc AS c ON o.customer = c.id
LEFT JOIN kinds FOR SYSTEM_TIME AS OF o.proc AS k ON k.kind = o.kind AND k.rate < o.amount;
INSERT INTO good SELECT o.id, c.name FROM orders AS o
JOIN customers FOR SYSTEM_TIME AS OF o.proc AS c ON o.customer = c.id AND c.credit >= o.amount;
"""
# A rate that is a text costs the orders of its kind. Kinds are no key: one has two.
KINDS = [{"kind": "a", "label": "first", "rate": 10}, {"kind": "a", "label": "second", "rate": 50.0}, {"kind": "b", "label": "bee", "rate": 0},
         {"kind": "bad", "label": "odd", "rate": "much"}]


class Orders:
    """What was sent, in pieces."""

    def __init__(self, stage, seed):
        self.producer = Producer({"bootstrap.servers": stage.kafka, "linger.ms": 20, "enable.idempotence": True})
        self.rnd, self.sent = random.Random(seed), []

    def send(self, count):
        for _ in range(count):
            order = {"id": len(self.sent), "customer": self.rnd.choice([None, *range(ASKED)]), "kind": self.rnd.choice(["a", "b", "c", None]),
                     "amount": self.rnd.randrange(100)}
            if len(self.sent) % 500 == 7:
                order["kind"] = "bad"
            self.producer.produce(ORDERS, json.dumps(order), str(order["id"] % 50))
            self.sent.append(order)
        assert self.producer.flush(60) == 0, "the broker did not take all events"


def wanted(orders, database):
    """Both tables, and the orders that become dead letters, as Python joins them."""
    customers = {row["_id"]: row for row in database.customers.find()}
    named, good, bad = [], [], []
    for order in orders:
        customer = customers.get(order["customer"])
        if customer and customer["credit"] >= order["amount"]:
            good.append((order["id"], customer["name"]))
        kinds = list(database.kinds.find({"kind": order["kind"]})) if order["kind"] is not None else []
        if any(isinstance(kind["rate"], str) for kind in kinds):
            bad.append(order["id"])
            continue
        labels = [kind["label"] for kind in kinds if kind["rate"] < order["amount"]] or [None]
        named += [(order["id"], customer and customer["name"], label) for label in labels]
    return sorted(named, key=str), sorted(good), sorted(bad)


def rows(place, table, columns):
    found = duckdb.sql(f"SELECT {columns} FROM read_parquet('{place['LAKE']}/{table}/**/*.parquet', hive_partitioning = false)").fetchall()
    return sorted(found, key=str)


arguments = argparse.ArgumentParser()
arguments.add_argument("--kills", type=int, default=5)
arguments.add_argument("--seed", type=int, default=1)
arguments = arguments.parse_args()
with Stage("lookups", "kafka", "mongo") as stage:
    rnd = random.Random(arguments.seed)
    topics.fresh(stage.kafka, CUSTOMERS, ORDERS)
    stage.env["MONGO_URI"] = stage.env["TRIBUTARY_TEST_MONGO"] + "/?directConnection=true"
    database = pymongo.MongoClient(stage.env["MONGO_URI"])[DATABASE]
    place = stage.place("local")
    fill, job = stage.work / "fill.sql", stage.work / "job.sql"
    fill.write_text(FILL)
    job.write_text(JOB)

    code = (run := stage.run_job(job, place, "--bounded")).wait(60)
    stage.check("a collection that is not there ends the start, and is named",
                code == 2 and "job.sql:" in run.log() and "lookups.customers" in run.log() and "no such collection" in run.log(),
                f"exit code {code}\n{run.tail()}")

    producer = Producer({"bootstrap.servers": stage.kafka})
    for number in range(KNOWN):
        producer.produce(CUSTOMERS, json.dumps({"id": number, "name": f"n{number}", "credit": number % 97}), str(number))
    producer.flush(60)
    code = (run := stage.run_job(fill, place, "--bounded")).wait(90)
    stage.check("a job fills the collection", code == 0 and database.customers.count_documents({}) == KNOWN, f"exit code {code}\n{run.tail()}")
    database.kinds.insert_many(KINDS)

    orders = Orders(stage, arguments.seed)
    orders.send(2000)
    for step in ("after-state", "before-commit", "after-commit"):
        die_at(stage, job, place, step)
        orders.send(500)
    for _ in range(arguments.kills):
        if not die_at_random(stage, job, place, rnd):
            break
        orders.send(500)

    run = stage.run_job(job, place)
    until(lambda: "going on" in run.log(), 60, "the job to go on")
    stage.servers("halt", "mongo")
    orders.send(500)
    until(lambda: "does not answer" in run.log(), 60, "the job to say that the server is away")
    run.send(signal.SIGTERM)
    code = run.wait(30)
    stage.check("a signal ends the job while the server is away", code == 0 and "read again" in run.log(), f"exit code {code}\n{run.tail()}")
    run = stage.run_job(job, place)
    until(lambda: "does not answer" in run.log(), 60, "the next one to say it")
    stage.servers("resume", "mongo")
    until(lambda: "answers again" in run.log(), 90, "the job to say that it is back")
    orders.send(500)
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check("it waits for the server, says so once, and says that it is back",
                code == 0 and run.log().count("does not answer") == 1 and run.log().count("answers again") == 1, f"exit code {code}\n{run.log()}")

    code = (run := stage.run_job(job, place, "--bounded")).wait(120)
    stage.check("run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
    named, good, bad = wanted(orders.sent, database)
    found = rows(place, "named", "id, name, label")
    stage.check(f"{len(orders.sent)} orders give the {len(named)} rows of the left join", found == named, f"{len(found)} rows")
    found = rows(place, "good", "id, name")
    stage.check(f"and the {len(good)} of the inner one", found == sorted(good, key=str), f"{len(found)} rows")
    letters = rows(place, "dead_letters", "json_extract(decode(value), '$.id')::BIGINT, reason, source")
    stage.check(f"{len(bad)} orders that found a rate that is a text are dead letters",
                letters == sorted([(number, "lookup", "orders") for number in bad], key=str) and bad, letters[:5])
    audit = stage.tributary("audit", job, env=place)
    code = audit.wait(60)
    stage.check("the books balance", code == 0, f"exit code {code}\n{audit.tail()}")
