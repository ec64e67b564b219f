"""How cost grows with the work: one thing is varied at a time, everything else stays.

usage: scaling.py [NAME...]      partitions, skew, keys, window, record, interval, state; all of them without a name

Run it with the Python of `infra/servers install python`. `partitions`, `skew` and `record` start a Kafka of their own; the others read generated rows, so that
nothing but Tributary is measured. Each line is one run from nothing to the end; of `skew`, which never ends, to the last record."""

import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent / "tests" / "e2e")]
from harness import BINARY, Stage, until  # noqa: E402
from measured import run  # noqa: E402

# Generated rows whose number says everything else: a row is 10 ms later than the one before, and keys go round.
ROWS = """
CREATE TABLE {name} (id BIGINT, text STRING, ts AS TO_TIMESTAMP_LTZ(id * 10, 3), k AS MOD(id * 7919, {keys}), WATERMARK FOR ts AS ts)
WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}', 'rows-per-second' = '1000000000', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
      'fields.id.end' = '{last}', 'fields.text.length' = '{text}');
"""
TUMBLE = """
CREATE TABLE counts (k BIGINT, n BIGINT, total BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO counts SELECT k, COUNT(*), SUM(id) FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '6' HOUR)) GROUP BY window_start, window_end, k;
"""
JOIN = """
CREATE TABLE pairs (a BIGINT, b BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO pairs SELECT a.id, b.id FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '{seconds}' SECOND AND a.ts + INTERVAL '{seconds}' SECOND;
"""
RAW = """
CREATE TABLE records (id BIGINT, text STRING) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '${{KAFKA_BOOTSTRAP_SERVERS}}',
  'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE copied (id BIGINT, text STRING) WITH ('connector' = 'filesystem', 'path' = '${{LAKE}}/copied', 'format' = 'parquet');
INSERT INTO copied SELECT id, text FROM records;
"""


def rows(name, count, keys, text=10):
    return ROWS.format(name=name, rows=count, last=count - 1, keys=keys, text=text)


def written(stage, job):
    path = stage.work / "job.sql"
    path.write_text("SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';\n" + job)
    return path


def measure(stage, what, job, count, interval="10 s"):
    path = written(stage, job)
    command = [BINARY, "run", path, "--bounded", "--http", "off", "-D", f"execution.checkpointing.interval={interval}"]
    wall, cpu, peak = run(command, {**stage.env, **stage.place("local")}, stage.work / "log")
    read = int(re.search(r"(\d+) records in", (stage.work / "log").read_text())[1])
    if read != count:
        sys.exit(f"{what}: {read} of {count} records were read")
    print(f"| {what} | {count} | {wall:.1f} | {1e6 * cpu / count:.2f} | {peak:.0f} |", flush=True)


def keys(stage):
    for number in (100, 10_000, 100_000, 1_000_000):
        measure(stage, f"{number} keys", rows("a", 4_000_000, number) + TUMBLE, 4_000_000)


def window(stage):
    both = rows("a", 3_000_000, 3_000_000) + rows("b", 3_000_000, 3_000_000)
    for minutes in (1, 10, 60, 360):
        measure(stage, f"rows within {minutes} min of each other", both + JOIN.format(seconds=30 * minutes), 6_000_000)


def interval(stage):
    both = rows("a", 2_000_000, 2_000_000) + rows("b", 2_000_000, 2_000_000) + JOIN.format(seconds=900)
    for every in ("200 ms", "1 s", "10 s", "60 s"):
        measure(stage, f"an epoch every {every}", both, 4_000_000, every)


def state(stage):
    """A row has 400 bytes of text, so that the rows that a join keeps are what counts; an epoch each second has to write what is new of them."""
    for megabytes in (10, 100, 400, 1_000):
        kept = megabytes * 1_000_000 // 450
        count = max(2 * kept, 1_000_000)
        both = rows("a", count, count, 400) + rows("b", count, count)
        # Both sides keep their rows for as long; only those of the left are large.
        job = both + JOIN.format(seconds=kept // 100).replace("SELECT a.id, b.id", "SELECT CHAR_LENGTH(a.text), b.id").replace("a BIGINT", "a INT")
        measure(stage, f"about {megabytes} MB kept by the join", job, 2 * count, "1 s")


def load(*what):
    """In a process of its own: the system counts the memory of whoever starts a program among the program's."""
    loader = multiprocessing.Process(target=fill, args=what)
    loader.start()
    loader.join()
    if loader.exitcode:
        sys.exit("the records could not be loaded")


def fill(kafka, topic, partitions, count, size, filled=None):
    from confluent_kafka import Producer
    from topics import fresh
    fresh(kafka, topic, partitions=partitions)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 50, "compression.type": "lz4", "queue.buffering.max.kbytes": 500_000})
    noise = os.urandom(max(size, 2_000)).hex()
    for number in range(count):
        at = number % 1_000
        value = f'{{"id": {number}, "text": "{noise[at:at + max(size - 25, 1)]}"}}'
        while True:
            try:
                producer.produce(topic, value, partition=number % (filled or partitions))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def partitions(stage):
    for number in (1, 4, 16, 64):
        load(stage.kafka, f"of-{number}", number, 1_000_000, 200)
        measure(stage, f"{number} partitions", RAW.format(topic=f"of-{number}"), 1_000_000)


def skew(stage):
    """One partition has all the records, the others of the topic have none and stay open."""
    for number in (1, 4, 16):
        load(stage.kafka, f"skew-{number}", number, 1_000_000, 200, 1)
        job = stage.tributary("run", written(stage, RAW.format(topic=f"skew-{number}")), "--http", "127.0.0.1:0", env=stage.place("local"))
        began = time.monotonic()
        address = until(lambda: re.search(r"http://[\d.:]+/", job.log()), 30, "the address of its metrics")[0]
        done = f'topic="skew-{number}",partition="0"}} 1000000\n'
        until(lambda: done in urlopen(f"{address}metrics").read().decode(), 300, "the last record")
        print(f"| one of {number} partitions has all | 1000000 | {time.monotonic() - began:.1f} | | |", flush=True)
        job.send(signal.SIGTERM)
        job.wait(60)


def record(stage):
    for size in (100, 1_000, 10_000, 100_000):
        count = min(1_000_000, 400_000_000 // size)
        load(stage.kafka, f"size-{size}", 4, count, size)
        measure(stage, f"records of {size} bytes", RAW.format(topic=f"size-{size}"), count)


DIMENSIONS = {f.__name__: f for f in (partitions, skew, keys, window, record, interval, state)}
chosen = [DIMENSIONS[name] for name in sys.argv[1:]] or list(DIMENSIONS.values())
with Stage("scaling", *(["kafka"] if {partitions, skew, record} & set(chosen) else [])) as stage:
    for dimension in chosen:
        print(f"\n| {dimension.__name__} | records | wall s | CPU µs a record | peak MB |\n|---|---:|---:|---:|---:|", flush=True)
        dimension(stage)
    stage.check("every run came to its end", True)
