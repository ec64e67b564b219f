#!/usr/bin/env python3
"""Killed at random moments, again and again, while data flows: no row is lost and none is there twice. A reader looks on all the
while and never sees half a file or a row twice, nor a row that was there vanish.

usage: kills.py [--kills N] [--seed N] [--store local|s3] [--all]"""

import argparse
import random
import signal
import threading
import time

import duckdb
import pyarrow.parquet as parquet

import emergency
import lake
from harness import Stage, until

ROLLING = ("patient_data", "vitals_1m")  # the other tables keep their files open, so their rows are carried in the checkpoints


class Reader(threading.Thread):
    """Reads the ids of patient_data in a loop. Each look must be whole, without doubles, and hold all of the look before."""

    def __init__(self, stage, place):
        super().__init__(daemon=True)
        self.stage, self.place = stage, place
        self.ended = threading.Event()
        self.looks, self.rows, self.problems = 0, 0, []

    def ids(self):
        if "://" not in self.place["LAKE"]:
            connection = duckdb.connect()
            try:
                return [row[0] for row in connection.sql(f"SELECT id FROM {lake.scan(self.place['LAKE'], 'patient_data')}").fetchall()]
            except duckdb.IOException as error:
                if "No files found" in str(error):
                    return []
                raise
            finally:
                connection.close()
        store, _ = lake.filesystem(self.place["LAKE"], self.stage.env)
        found = []
        for path in lake.files(self.place["LAKE"] + "/patient_data", self.stage.env):
            found += parquet.read_table(path, filesystem=store, columns=["id"]).column("id").to_pylist()
        return found

    def run(self):
        before = set()
        # The pause leaves the processors to those who are watched.
        while not self.ended.wait(0.05) and not self.problems:
            try:
                found = self.ids()
            except Exception as error:  # whatever a stranger's reader stumbles over is what we are looking for
                self.problems.append(f"look {self.looks}: {type(error).__name__}: {error}")
                break
            now = set(found)
            if len(now) != len(found):
                self.problems.append(f"look {self.looks}: {len(found)} rows, but {len(now)} ids")
            if before - now:
                self.problems.append(f"look {self.looks}: {len(before - now)} rows have vanished, such as {next(iter(before - now))}")
            before, self.rows, self.looks = now, len(now), self.looks + 1

    def finish(self):
        self.ended.set()
        self.join()


def kills(stage, kind, wanted, seconds, rnd, options=()):
    what = f"{wanted} kills on {kind}"
    emergency.fresh_topics(stage)
    place = stage.place(kind)
    job = stage.job(f"kills-{kind}.sql", rolling=ROLLING)
    rate = 1500
    # Enough for the whole time, and stopped when the kills are done.
    generator = stage.tributary("generate", "emergency", "--to", f"kafka://{stage.kafka}", "--rate", str(rate), "--count", str(rate * seconds * 3), "--seed", "21")
    reader = Reader(stage, place)
    reader.start()
    done, seen, began = 0, [], time.monotonic()
    while done < wanted:
        run = stage.run_job(job, place, "-D", "execution.checkpointing.interval=1 s", *options)
        # Some die before they have claimed, some at once afterwards, most while epochs come and go.
        moment = rnd.choice([rnd.uniform(0.05, 0.6), rnd.uniform(0.6, 3), rnd.uniform(2, 6), rnd.uniform(2, 6)])
        ended = run.wait(moment)
        if ended is not None:
            stage.check(f"{what}: start {done + 1} goes on until it is killed", False, f"exit code {ended}\n{run.tail()}")
            break
        run.kill()
        done += 1
        seen.append(len(lake.checkpoints(place, stage.env)))
        if time.monotonic() - began > seconds and done < wanted:
            break
    stage.check(f"{what}: {done} done in {time.monotonic() - began:.0f} s, epochs then {seen}",
                done >= min(wanted, 20) and len(set(seen)) > done / 3, "too few kills met a running job")
    generator.send(signal.SIGTERM)
    generator.wait(30)

    run = stage.run_job(job, place, "-D", "execution.checkpointing.interval=1 s", *options)
    committed = seen[-1] if seen else 0
    until(lambda: len(lake.checkpoints(place, stage.env)) > committed + 2 or not run.running(), 60, "the last start to commit epochs")
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check(f"{what}: SIGTERM ends the last one well", code == 0, f"exit code {code}\n{run.tail()}")
    emergency.run_to_end(stage, place, what, job=job, options=options)
    expected = emergency.expected_of(stage)
    final = until(lambda: reader.problems or reader.rows == len(expected.tables["patient_data"]), 60, "the reader to see every row") if reader.is_alive() else None
    reader.finish()
    stage.check(f"{what}: {reader.looks} looks of a reader were whole, up to {reader.rows} rows", not reader.problems and final, reader.problems)
    emergency.compare(stage, place, what, expected)
    emergency.compare_alerts(stage, what, expected)
    emergency.check_audit(stage, place, what, job=job)
    return place, expected


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=24)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--store", choices=("local", "s3"), help="only there")
    arguments.add_argument("--all", action="store_true", help="60 kills on each store")
    arguments = arguments.parse_args()
    count = 60 if arguments.all else arguments.kills
    with Stage("kills", "kafka", "minio") as stage:
        rnd = random.Random(arguments.seed)
        if arguments.store != "s3":
            kills(stage, "local", count, 5 * count, rnd)
        if arguments.store != "local":
            kills(stage, "s3", count, 5 * count, rnd, options=("--parallelism", "1"))


if __name__ == "__main__":
    main()
