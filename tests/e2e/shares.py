"""Two processes share a job by `--partitions`: every record lands once, also when one of them is killed again and again, and nobody
reads what another does."""

import random
from pathlib import Path

import duckdb

import emergency
import topics
from harness import Stage, until

EVENTS, KILLS = 40_000, 6
JOB = """
SET 'pipeline.name' = 'shared';
SET 'execution.checkpointing.interval' = '300 ms';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE readings (patient_id STRING, `partition` INT METADATA, `offset` BIGINT METADATA)
WITH ('connector' = 'kafka', 'topic' = 'patient_data', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
      'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE copied (patient_id STRING, p INT, o BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${LAKE}/copied', 'format' = 'parquet', 'sink.rolling-policy.rollover-interval' = '1 s');
INSERT INTO copied SELECT patient_id, `partition`, `offset` FROM readings;
"""
SHARES = ("0-1", "2,3")

with Stage("shares", "kafka") as stage:
    path = stage.work / "shared.sql"
    path.write_text(JOB)
    place = stage.place("local")
    emergency.fresh_topics(stage)
    generator = emergency.flow(stage, 5, rate=4_000)

    def start(share):
        return stage.run_job(path, place, "--partitions", share)

    def rows():
        """The rows that can be read, and how many of them are different records."""
        files = list(Path(place["LAKE"], "copied").glob("*.parquet"))
        if not files:
            return 0, 0
        return duckdb.sql(f"SELECT count(*), count(DISTINCT (p, o)) FROM read_parquet({[str(file) for file in files]})").fetchall()[0]

    chance = random.Random(5)
    running = {share: start(share) for share in SHARES}
    for kill in range(KILLS):
        before = rows()[0]
        until(lambda: rows()[0] > before + chance.randrange(2_000), 60, "more rows")
        victim = chance.choice(SHARES)
        running[victim].kill()
        running[victim] = start(victim)
    until(lambda: rows()[0] > EVENTS, 60, f"{EVENTS} rows")
    emergency.ebb(generator)
    for share, process in running.items():
        process.send(2)
        stage.check(f"{share}: ends well", process.wait(60) == 0, process.tail())
    for share in SHARES:
        stage.check(f"{share}: reads the rest", stage.run_job(path, place, "--partitions", share, "--bounded").wait(60) == 0)
    sent = sum(1 for _ in topics.read(stage.kafka, topics.PATIENTS))
    stage.check(f"each of {sent} records is there once, through {KILLS} kills", rows() == (sent, sent), rows())

    for share, why in (("1-2", "'partitions-0-1'"), ("3", "'partitions-2-3'")):
        refused = stage.run_job(path, place, "--partitions", share)
        stage.check(f"{share}: refused beside the others", refused.wait(30) == 2 and why in refused.log(), refused.log())
    whole = stage.run_job(path, place)
    stage.check("the whole job is refused beside its shares", whole.wait(30) == 2 and "partitions-" in whole.log(), whole.log())
    twice = start("0-1")
    until(lambda: "going on from the last epoch" in twice.log(), 30, "the owner")
    second = start("0-1")
    stage.check("a share has one owner", second.wait(60) == 3, second.log())
    keyed = stage.run_job(emergency.JOB, stage.place("local"), "--partitions", "0-1")
    stage.check("windows and joins are refused", keyed.wait(30) == 2 and "brings the rows of a key together" in keyed.log(), keyed.log())
    last = stage.work / "last.sql"
    last.write_text("""
CREATE TABLE events (k STRING) WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'properties.group.id' = 'g', 'format' = 'json');
CREATE TABLE page (k STRING, n INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'tributary-json-file', 'path' = '${LAKE}/page.json');
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
INSERT INTO page SELECT k, 1 FROM events;
""")
    keyed = stage.run_job(last, stage.place("local"), "--partitions", "0-1")
    stage.check("so are documents", keyed.wait(30) == 2 and "keeps the last row of each key" in keyed.log(), keyed.log())
