#!/usr/bin/env python3
"""1,000 small files become few while Trino, the engine that Athena is made from, counts through the catalog in a loop: the count never wavers,
though the compaction dies at every step and is killed at random moments, and rows come late. Then plain folders, with nobody reading.

usage: compact.py [--seed N]"""

import argparse
import json
import random
import threading
from collections import Counter

import duckdb

import lake
from glue import Glue
from harness import Stage, until
from trino import Trino

FILES, ROWS, HOURS = 1000, 40, 10
DATABASE, TABLE = "compaction", "readings"
# The steps of src/lake/compact/steps.rs. After the last the next run would find nothing to do.
STEPS = ("after-claim", "during-merge", "after-merge", "after-ready", "before-aside", "during-aside", "after-aside", "after-moved", "after-grace",
         "after-record", "during-copy", "during-delete", "after-replace", "after-replaced", "during-return", "after-return", "after-returned",
         "after-second-grace", "during-clean", "after-clean")
GRACE = ("--grace", "8 s", "--older-than", "0 s", "--sort", "id")
JOB = """
SET 'pipeline.name' = 'compaction';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
SET 'tributary.glue.database' = '%(database)s';
CREATE TABLE incoming (id BIGINT, at TIMESTAMP(3), place ROW<latitude DOUBLE, longitude DOUBLE>, note STRING)
WITH ('connector' = 'filesystem', 'path' = '%(incoming)s', 'format' = 'json');
CREATE TABLE readings (id BIGINT, at TIMESTAMP(3), place ROW<latitude DOUBLE, longitude DOUBLE>, note STRING, dt STRING, `hour` STRING)
PARTITIONED BY (dt, `hour`) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/readings', 'format' = 'parquet',
  'sink.rolling-policy.file-size' = '1 b');
INSERT INTO readings SELECT id, at, place, note, DATE_FORMAT(at, 'yyyy-MM-dd'), DATE_FORMAT(at, 'HH') FROM incoming;
"""


class Counting(threading.Thread):
    """Counts in a loop. No count may be lower than the one before, nor any row be there twice."""

    def __init__(self, trino):
        super().__init__(daemon=True)
        self.trino, self.ended = trino, threading.Event()
        self.looks, self.seen, self.problems = 0, Counter(), []

    def run(self):
        before = 0
        while not self.ended.wait(0.02) and not self.problems:
            try:
                rows, ids = self.trino.rows(f"SELECT count(*), count(DISTINCT id) FROM {TABLE}")[0]
            except Exception as error:  # a query that fails is what we are looking for
                self.problems.append(f"look {self.looks}: {error}")
                break
            if rows != ids or rows < before:
                self.problems.append(f"look {self.looks}: {rows} rows, {ids} ids; before there were {before}")
            before, self.looks = rows, self.looks + 1
            self.seen[rows] += 1

    def look(self):
        """Waits for a count that has begun after this call; the one under way may have begun before."""
        enough = self.looks + 2
        until(lambda: self.looks >= enough or self.problems, 120, "Trino to count")

    def finish(self):
        self.ended.set()
        self.join()


class Scene:
    def __init__(self, stage, kind, database):
        self.stage, self.place, self.next = stage, stage.place(kind), 0
        self.incoming = stage.work / f"incoming-{kind}"
        self.incoming.mkdir()
        self.job = stage.work / f"compaction-{kind}.sql"
        self.job.write_text(JOB % {"database": database, "incoming": self.incoming})

    def file(self, hour, rows):
        """A file of rows, whose ids go on from the last."""
        ids = range(self.next, self.next + rows)
        self.next += rows
        line = {"at": f"2024-03-01 {hour:02}:15:00.000", "place": {"latitude": 51.5, "longitude": None}, "note": None}
        (self.incoming / f"{ids.start:08}.json").write_text("".join(json.dumps({"id": i, **line, "note": f"n{i}" if i % 3 else None}) + "\n" for i in ids))

    def ingest(self):
        """Everything that is there becomes visible."""
        run = self.stage.run_job(self.job, self.place, "--bounded")
        self.stage.check(f"the job takes in {self.next} rows", run.wait(300) == 0, run.tail())

    def fill(self):
        for number in range(FILES):
            self.file(number % HOURS, ROWS)
        self.ingest()
        # The files of the latest epoch are left alone, so there has to be another.
        self.file(HOURS, 1)
        self.ingest()

    def files(self):
        """How many files each partition has."""
        paths = [path for path in lake.files(f"{self.place['LAKE']}/{TABLE}", self.stage.env) if path.endswith(".parquet")]
        return Counter(path.split("/hour=")[1].split("/")[0] for path in paths)

    def compact(self, *options, kill_at=None):
        env = {**self.place, **({"TRIBUTARY_KILL_AT": kill_at} if kill_at else {})}
        return self.stage.tributary("compact", self.job, *GRACE, *options, env=env)

    def check_end(self, what):
        local = lake.localised(self.place["LAKE"], self.stage.env, self.stage.work)
        rows, ids, total = duckdb.sql(f"SELECT count(*), count(DISTINCT id), sum(id) FROM {lake.scan(local, TABLE)}").fetchall()[0]
        self.stage.check(f"{what}: each of {self.next} rows is in the folders once", rows == ids == self.next and total == rows * (rows - 1) // 2, (rows, ids, total))
        aside = lake.files(f"{self.place['LAKE']}/_tributary/compacted", self.stage.env)
        self.stage.check(f"{what}: nothing is left aside", not aside, aside[:5])
        run = self.compact()
        code = run.wait(60)
        self.stage.check(f"{what}: nothing more is to be compacted", code == 0 and "nothing to compact" in run.log(), run.tail())


def registered(stage, rnd):
    scene = Scene(stage, "s3", DATABASE)
    scene.fill()
    before = scene.files()
    stage.check(f"{sum(before.values())} small files in {len(before)} partitions", sum(before.values()) >= FILES, before)
    glue, trino = Glue(stage.env["AWS_ENDPOINT_URL_GLUE"]), Trino(stage.env["TRINO_URL"], DATABASE)

    def locations():
        return {values: partition["StorageDescriptor"]["Location"] for values, partition in glue.partitions(DATABASE, TABLE).items()}

    home = locations()

    run = scene.compact("--dry-run")
    stage.check("a dry run shows the table and changes nothing", run.wait(60) == 0 and TABLE in run.log() and scene.files() == before, run.tail())

    counting = Counting(trino)
    counting.start()
    counting.look()
    for step in STEPS:
        run = scene.compact(kill_at=step)
        run.wait(120)
        if f"ending at {step}" not in run.log():
            stage.check(f"it dies {step}", False, run.tail())
        counting.look()
        if step == "after-moved":
            aside = [place for place in locations().values() if "/_tributary/compacted/" in place]
            stage.check(f"the catalog leads {len(aside)} partitions aside", len(aside) == HOURS, locations())
            # Rows that come while the catalog leads aside.
            for hour in (3, 4):
                scene.file(hour, ROWS)
            scene.ingest()
    run = scene.compact()
    code = run.wait(180)
    stage.check(f"it comes to its end after {len(STEPS)} deaths, one at each step", code == 0, run.tail())
    after = scene.files()
    stage.check(f"then there are {sum(after.values())} files", sum(after.values()) <= 3 * len(before) and max(after.values()) <= 3, after)

    # The rows that came late, and the file of the epoch before, become closed with the next epoch; now it is killed when nobody expects it.
    for _ in range(30):
        scene.file(rnd.randrange(HOURS), ROWS)
    scene.ingest()
    scene.file(HOURS + 1, 1)
    scene.ingest()
    kills, code = 0, None
    while code is None and kills < 12:
        run = scene.compact()
        code = run.wait(rnd.uniform(0.05, 6))
        if code is None:
            run.kill()
            kills += 1
    if code is None:
        run = scene.compact()
        code = run.wait(180)
    stage.check(f"it comes to its end after {kills} kills at any moment", code == 0, run.tail())

    last = until(lambda: counting.problems or counting.seen[scene.next], 60, "a count of every row") if counting.is_alive() else None
    counting.finish()
    stage.check(f"Trino counted {counting.looks} times: {dict(counting.seen)}", not counting.problems and last, counting.problems)
    scene.check_end("registered")
    stage.check("every partition lies where it did", home.items() <= locations().items(), locations())
    audit = stage.tributary("audit", scene.job, env=scene.place)
    stage.check("the job's books balance, and it starts again", audit.wait(30) == 0, audit.tail())
    scene.ingest()


def plain(stage, kind):
    scene = Scene(stage, kind, "")
    scene.fill()
    before = scene.files()
    run = scene.compact()
    stage.check(f"{kind}: a plain folder wants --offline", run.wait(60) == 2 and "--offline" in run.log(), run.tail())
    for step in ("during-merge", "after-ready", "during-copy", "during-delete:30", "after-replaced", "during-clean"):
        run = scene.compact("--offline", kill_at=step)
        run.wait(120)
        if "ending at" not in run.log():
            stage.check(f"{kind}: it dies {step}", False, run.tail())
    run = scene.compact("--offline")
    stage.check(f"{kind}: it comes to its end after deaths", run.wait(120) == 0, run.tail())
    after = scene.files()
    stage.check(f"{kind}: {sum(before.values())} files became {sum(after.values())}", sum(after.values()) <= 2 * len(before), after)
    # The lake alone, although the last file is one that the next start of the job publishes again.
    run = stage.tributary("compact", "--lake", scene.place["LAKE"], "--offline", *GRACE)
    stage.check(f"{kind}: a lake without its job", run.wait(60) == 0, run.tail())
    run = scene.compact("--offline")
    stage.check(f"{kind}: and once more", run.wait(60) == 0, run.tail())
    scene.ingest()
    local = lake.localised(scene.place["LAKE"], stage.env, stage.work)
    rows, ids = duckdb.sql(f"SELECT count(*), count(DISTINCT id) FROM {lake.scan(local, TABLE)}").fetchall()[0]
    stage.check(f"{kind}: the job starts again, and each of {scene.next} rows is there once", rows == ids == scene.next, (rows, ids))


arguments = argparse.ArgumentParser()
arguments.add_argument("--seed", type=int, default=1)
arguments = arguments.parse_args()
with Stage("compact", "minio", "moto", "trino") as stage:
    plain(stage, "local")
    registered(stage, random.Random(arguments.seed))
