#!/usr/bin/env python3
"""Avro behind a schema registry, on real Kafka and Apicurio: two versions of a schema in one table, bad records beside them, a registry
that goes away while a schema is needed, processes killed on the way, and what is written read by somebody else."""

import signal

import duckdb
from confluent_kafka import Producer

import topics
from avro import Gate, Registry, written
from harness import Stage, until

ORDERS, OUTPUT, LATEST = "avro-orders", "avro-output", "avro-latest"
HEAD = """
SET 'execution.checkpointing.interval' = '500 ms';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE orders (id BIGINT NOT NULL, note STRING, amount DOUBLE, tags ARRAY<STRING>, p INT METADATA FROM 'partition' VIRTUAL) WITH (
  'connector' = 'kafka', 'topic' = 'avro-orders', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'properties.group.id' = 'avro', 'scan.startup.mode' = 'earliest-offset',
  'format' = 'avro-confluent', 'avro-confluent.url' = '${REGISTRY}', 'avro-confluent.basic-auth.user-info' = 'me:${PASSWORD:-none}');
"""
READ = "SET 'pipeline.name' = 'avro-read';" + HEAD + """
CREATE TABLE kept (id BIGINT, note STRING, amount DOUBLE, tags ARRAY<STRING>, p INT) WITH (
  'connector' = 'filesystem', 'path' = '${LAKE}/kept', 'format' = 'parquet',
  'sink.rolling-policy.rollover-interval' = '1 s', 'sink.rolling-policy.check-interval' = '500 ms');
INSERT INTO kept SELECT id, note, amount, tags, p FROM orders;
"""
WRITE = """
CREATE TABLE written (id BIGINT NOT NULL, note STRING, amount DECIMAL(10, 2), tags ARRAY<STRING>{column}) WITH (
  'connector' = 'kafka', 'topic' = 'avro-output', 'properties.bootstrap.servers' = '${{KAFKA_BOOTSTRAP_SERVERS}}',
  'key.format' = 'avro-confluent', 'key.fields' = 'id', 'key.avro-confluent.url' = '${{REGISTRY}}',
  'key.avro-confluent.basic-auth.user-info' = 'me:${{PASSWORD:-none}}',
  'value.format' = 'avro-confluent', 'value.avro-confluent.url' = '${{REGISTRY}}',
  'value.avro-confluent.basic-auth.user-info' = 'me:${{PASSWORD:-none}}');
CREATE TABLE latest (p INT, n BIGINT, PRIMARY KEY (p) NOT ENFORCED) WITH (
  'connector' = 'upsert-kafka', 'topic' = 'avro-latest', 'properties.bootstrap.servers' = '${{KAFKA_BOOTSTRAP_SERVERS}}',
  'key.format' = 'raw', 'value.format' = 'avro-confluent', 'value.avro-confluent.url' = '${{REGISTRY}}',
  'value.avro-confluent.subject' = 'latest', 'value.avro-confluent.basic-auth.user-info' = 'me:${{PASSWORD:-none}}');
INSERT INTO written SELECT id, note, CAST(amount AS DECIMAL(10, 2)), tags{value} FROM orders;
INSERT INTO latest SELECT p, COUNT(*) FROM orders GROUP BY p;
"""


def write(column="", value=""):
    return "SET 'pipeline.name' = 'avro-write';" + HEAD + WRITE.format(column=column, value=value)


def record(*fields):
    return {"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": name, "type": of, **more} for name, of, more in fields]}


STRINGS = {"type": "array", "items": "string"}
ONE = record(("id", "int", {}), ("gone", "string", {}), ("amount", "float", {}))
TWO = record(("amount", "double", {}), ("id", "long", {}), ("note", ["null", "string"], {"default": None}), ("tags", STRINGS, {"default": []}))
THREE = record(("id", "long", {}), ("added", "long", {"default": 0}), ("note", "string", {}))


class Orders:
    """Writes orders, and knows what a table has to have of them."""

    def __init__(self, stage):
        self.producer = Producer({"bootstrap.servers": stage.kafka, "enable.idempotence": True})
        self.expected, self.next = [], 0

    def send(self, value, partition):
        self.producer.produce(ORDERS, value, partition=partition)

    def put(self, identity, schema, count):
        for _ in range(count):
            n, partition = self.next, self.next % 2
            self.next += 1
            row = {"id": n, "gone": "x", "amount": n / 4, "note": None if n % 5 == 0 and schema is TWO else f"ü{n}", "tags": ["a"] * (n % 3),
                   "added": 7}
            self.send(written(identity, schema, row), partition)
            has = [field["name"] for field in schema["fields"]]
            # NULL where the writer's schema does not have it.
            kept = {name: row[name] if name in has else None for name in ("id", "note", "amount", "tags")}
            self.expected.append((kept["id"], kept["note"], kept["amount"], kept["tags"], partition))
        self.flush()

    def flush(self):
        assert self.producer.flush(30) == 0, "the broker did not take all orders"


def kept(place):
    try:
        found = duckdb.sql(f"SELECT id, note, amount, tags, p FROM read_parquet('{place['LAKE']}/kept/**/*.parquet')").fetchall()
    except duckdb.IOException:
        return []
    return sorted(found)


def letters(place):
    try:
        return duckdb.sql(f"SELECT reason, error FROM read_parquet('{place['LAKE']}/dead_letters/**/*.parquet') ORDER BY \"offset\"").fetchall()
    except duckdb.IOException:
        return []


def reading(stage, registry, environment, orders, ids):
    job, place = stage.work / "read.sql", {**stage.place("local"), **environment}
    job.write_text(READ)
    orders.put(ids[1], ONE, 500)
    orders.put(ids[2], TWO, 500)
    whole = written(ids[2], TWO, {"id": 1, "amount": 1.0, "note": "cut off", "tags": []})
    for bad in (b'{"id": 1}', b"\0\x7f\0\0\1" + whole[5:], whole[:-3]):
        orders.send(bad, 0)
    orders.put(ids[1], ONE, 100)
    run = stage.run_job(job, place)
    until(lambda: len(kept(place)) >= 1100 or not run.running(), 90, "the rows of both versions")
    stage.check("records of two versions of a schema lie in one table", kept(place) == sorted(orders.expected), f"{len(kept(place))} rows\n{run.tail()}")
    until(lambda: len(letters(place)) >= 3 or not run.running(), 60, "three dead letters")
    found = letters(place)
    stage.check("each bad record is a dead letter that says why", [reason for reason, _ in found] == ["malformed"] * 3
                and all(part in error for (_, error), part in zip(found, ("0x7b", "schema 2130706433", "ends in the middle"))), found)

    # A version that nobody has seen comes while the registry is away.
    third = registry.register(ORDERS + "-value", THREE)
    stage.servers("halt", "apicurio")
    quiet = len(run.log())
    orders.put(third, THREE, 50)
    orders.put(ids[2], TWO, 50)
    until(lambda: "does not answer" in run.log()[quiet:] or not run.running(), 60, "a warning")
    stage.check("a registry that is away is warned of once", run.running() and run.log()[quiet:].count("does not answer") == 1, run.tail())
    before = len(kept(place))
    run.kill()
    again = stage.run_job(job, place)
    until(lambda: "does not answer" in again.log() or not again.running(), 60, "a warning of the next process")
    again.send(signal.SIGTERM)
    code = again.wait(30)
    stage.check("SIGTERM ends a job whose registry is away", code == 0, f"exit code {code}\n{again.tail()}")
    stage.check("meanwhile nothing is lost or judged", len(kept(place)) == before and len(letters(place)) == 3, letters(place))
    run = stage.run_job(job, place)
    until(lambda: "does not answer" in run.log() or not run.running(), 60, "a warning of the third process")
    stage.servers("resume", "apicurio")
    until(lambda: len(kept(place)) >= len(orders.expected) or not run.running(), 90, "the rows that waited")
    stage.check("then all of it is there, once", kept(place) == sorted(orders.expected) and len(letters(place)) == 3, run.tail())
    stage.check("and the job says that the registry is back", "answers again" in run.log(), run.tail())
    run.send(signal.SIGTERM)
    stage.check("the job ends well", run.wait(60) == 0, run.tail())
    audit = stage.tributary("audit", job, env=place)
    stage.check("the books balance", audit.wait(60) == 0, audit.tail())


def writing(stage, registry, environment, orders):
    job, place = stage.work / "write.sql", {**stage.place("local"), **environment}
    job.write_text(write())
    for step in ("after-commit", "during-publish", "after-publish"):
        orders.put(*orders.newest, 40)
        run = stage.tributary("run", job, "--http", "off", env={**place, "TRIBUTARY_KILL_AT": f"{step}:1"})
        code = run.wait(90)
        stage.check(f"the process dies {step}", code == -signal.SIGABRT and f"ending at {step}" in run.log(), f"exit code {code}\n{run.tail()}")
    orders.put(*orders.newest, 40)
    # Away when a process starts that has rows of an epoch to deliver.
    stage.servers("halt", "apicurio")
    run = stage.run_job(job, place)
    until(lambda: "takes no rows now" in run.log() or not run.running(), 60, "a warning")
    stage.check("a registry that is away delays what is written", run.running() and "schema registry does not answer" in run.log(), run.tail())
    stage.servers("resume", "apicurio")
    until(lambda: "takes rows again" in run.log() or not run.running(), 90, "the table to take rows")
    run.send(signal.SIGTERM)
    stage.check("it goes on when that is back, and ends well", run.wait(60) == 0, run.tail())
    run = stage.run_job(job, place, "--bounded")
    stage.check("run --bounded exits 0", run.wait(120) == 0, run.tail())
    found = []
    for message in topics.read(stage.kafka, OUTPUT):
        _, key = registry.read(message.key)
        identity, value = registry.read(message.value)
        found.append((value["id"], value["note"], value["amount"], value["tags"]))
        assert key == {"id": value["id"]}, f"key {key} of {value}"
    cents = lambda amount: None if amount is None else int(amount * 100 + 0.5) / 100
    wanted = [(n, note, cents(amount), tags) for n, note, amount, tags, _ in orders.expected]
    order = lambda rows: sorted(rows, key=lambda row: row[0])
    stage.check(f"each of {len(wanted)} rows was written once, and a stranger reads it", order(found) == order(wanted),
                [pair for pair in zip(order(found), order(wanted)) if pair[0] != pair[1]][:3])
    name = registry.schema(identity)
    stage.check("under the name that Flink gives it", (name["name"], name["namespace"]) == ("record", "org.apache.flink.avro.generated"), name)
    subjects = [registry.versions(subject) for subject in (OUTPUT + "-key", OUTPUT + "-value", "latest")]
    stage.check("each subject has one version", subjects == [[1]] * 3, subjects)
    last = {}
    for message in topics.read(stage.kafka, LATEST):
        last[int.from_bytes(message.key, "big")] = registry.read(message.value)[1]["n"]
    counts = {p: sum(1 for row in orders.expected if row[4] == p) for p in (0, 1)}
    stage.check("the compacted topic has the last count of each key", last == counts, f"{last}, not {counts}")

    # The table changes: first so that old readers stay able to read, then not.
    registry.keep_backward(OUTPUT + "-value")
    job.write_text(write(", more INT", ", CAST(1 AS INT)"))
    orders.put(*orders.newest, 10)
    run = stage.run_job(job, place, "--bounded")
    stage.check("a new column is a new version", run.wait(120) == 0 and registry.versions(OUTPUT + "-value") == [1, 2], run.tail())
    job.write_text(write(", more STRING NOT NULL", ", 'x'"))
    run = stage.run_job(job, place, "--bounded")
    code = run.wait(60)
    stage.check("what is not compatible ends the job, and names the subject", code == 2 and f"'{OUTPUT}-value'" in run.log(), f"exit code {code}\n{run.tail()}")


def strangers(stage, environment):
    job, place = stage.work / "read.sql", stage.place("local")
    for what, more, expected in (
        ("wrong credentials", {"PASSWORD": "guess"}, "basic-auth.user-info"),
        ("a URL that is no registry", {"REGISTRY": environment["REGISTRY"].replace("/ccompat/v7", "")}, "avro-confluent.url"),
    ):
        run = stage.run_job(job, {**place, **environment, **more}, "--bounded")
        code = run.wait(60)
        stage.check(f"{what} end the job, and it says what to do", code == 2 and expected in run.log() and "guess" not in run.log(), f"exit code {code}\n{run.tail()}")
    stage.check("and nothing of it became a dead letter", not letters(place), letters(place))


with Stage("registry", "kafka", "apicurio") as stage:
    url = stage.env["TRIBUTARY_TEST_REGISTRY"]
    registry, gate = Registry(url), Gate(url, "me:secret")
    environment = {"REGISTRY": gate.url, "PASSWORD": "secret"}
    topics.fresh(stage.kafka, ORDERS, OUTPUT, LATEST, partitions=2)
    ids = {1: registry.register(ORDERS + "-value", ONE), 2: registry.register(ORDERS + "-value", TWO)}
    orders = Orders(stage)
    orders.newest = (ids[2], TWO)
    reading(stage, registry, environment, orders, ids)
    writing(stage, registry, environment, orders)
    strangers(stage, environment)
