"""How long it takes from a record in Kafka to its row in a Parquet file that everybody can read, or to its record in another topic that
a reader of committed transactions sees.

usage: latency.py [SECONDS] [RATE] [parquet|kafka]      60 seconds at 50000 records a second, both one after the other

Run it with the Python of `infra/servers install python`. Epochs are a second apart, and files close at each. A record counts from the time that its
producer gave it, a row from the moment when its file was first seen in the table's folder, which is looked at every few milliseconds, or when a
consumer was given its record."""

import array
import os
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "e2e")]
import duckdb  # noqa: E402
from confluent_kafka import Consumer, TopicPartition  # noqa: E402
from harness import Stage, until  # noqa: E402
from topics import fresh  # noqa: E402

JOB = """
SET 'pipeline.name' = 'latency';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE readings (patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, sent TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = 'patient_data', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
      'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
"""
PARQUET = """
CREATE TABLE copied (patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, sent TIMESTAMP_LTZ(3))
WITH ('connector' = 'filesystem', 'path' = '${LAKE}/copied', 'format' = 'parquet', 'sink.rolling-policy.rollover-interval' = '1 ms');
"""
# The new record keeps the time of the old one, so a consumer knows its age without a look into it.
KAFKA = """
CREATE TABLE copied (patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, sent TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = 'copied', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}', 'format' = 'json');
"""
INSERT = "INSERT INTO copied SELECT patient_id, heart_rate, oxygen_saturation, vo2_max, sent FROM readings;\n"
# What comes while everything starts is not what a user waits for.
WARM_UP = 5
PARTITIONS = 4


class Folder(threading.Thread):
    """Notes when each file of a folder was first there."""
    job = PARQUET

    def __init__(self, stage, place):
        super().__init__(daemon=True)
        self.folder, self.seen, self.over, self.last = Path(f"{place['LAKE']}/copied"), {}, False, 0

    def run(self):
        while not self.over:
            now = time.time()
            try:
                with os.scandir(self.folder) as files:
                    for file in files:
                        if file.name.endswith(".parquet") and file.path not in self.seen:
                            self.seen[file.path] = self.last = now
            except FileNotFoundError:
                pass
            time.sleep(0.005)

    def ages(self):
        """The number of rows, and how old they were when they were seen: the median, 99 of 100, the oldest."""
        connection = duckdb.connect()
        connection.execute("CREATE TABLE seen (file TEXT, shown DOUBLE)")
        connection.executemany("INSERT INTO seen VALUES (?, ?)", list(self.seen.items()))
        return connection.execute(
            "WITH rows AS (SELECT filename, epoch(sent) AS sent FROM read_parquet(?, filename = true)), first AS (SELECT min(sent) AS sent FROM rows) "
            "SELECT count(*), median(shown - sent), quantile_cont(shown - sent, 0.99), max(shown - sent) "
            "FROM rows JOIN seen ON filename = file WHERE sent > (SELECT sent FROM first) + ?", [list(self.seen), WARM_UP]).fetchone()


class Topic(threading.Thread):
    """Reads a topic, and notes of each record when it was sent at first and when it came."""
    job = KAFKA

    def __init__(self, stage, place):
        super().__init__(daemon=True)
        fresh(stage.kafka, "copied", partitions=PARTITIONS)
        self.consumer = Consumer({"bootstrap.servers": stage.kafka, "group.id": "latency", "isolation.level": "read_committed"})
        self.consumer.assign([TopicPartition("copied", partition, 0) for partition in range(PARTITIONS)])
        self.sent, self.came, self.over, self.last = array.array("d"), array.array("d"), False, 0

    def run(self):
        while not self.over:
            records = self.consumer.consume(10_000, 0.005)
            if records:
                self.last = time.time()
                self.sent.extend(record.timestamp()[1] / 1000 for record in records)
                self.came.extend([self.last] * len(records))
        self.consumer.close()

    def ages(self):
        warm = min(self.sent) + WARM_UP
        ages = sorted(came - sent for sent, came in zip(self.sent, self.came) if sent > warm)
        return len(ages), ages[len(ages) // 2], ages[len(ages) * 99 // 100], ages[-1]


def measure(stage, reader, seconds, rate):
    place = stage.place("local")
    path = stage.work / "latency.sql"
    path.write_text(JOB + reader.job + INSERT)
    fresh(stage.kafka, "patient_data", "emergency_vehicle_data", partitions=PARTITIONS)
    reader = reader(stage, place)
    reader.start()
    job = stage.tributary("run", path, "--http", "off", env=place)
    generator = stage.tributary("generate", "emergency", "--to", f"kafka://{stage.kafka}", "--rate", str(rate), "--count", str(rate * seconds))
    stage.check("the generator keeps its rate", generator.wait(3 * seconds) == 0, generator.log())
    end = time.time()
    until(lambda: reader.last > end + 1.5 or time.time() > end + 10, 20, "the last rows")
    job.send(2)
    stage.check("the job ends well", job.wait(60) == 0, job.log())
    reader.over = True
    reader.join()
    rows, median, high, worst = reader.ages()
    said = f"{rows} rows at {rate} a second: median {median:.2f} s, 99th percentile {high:.2f} s, longest {worst:.2f} s"
    print(f"{type(reader).__name__.lower()}: {said}", flush=True)
    stage.check("half of the rows are there within 0.8 s, 99 of 100 within 1.5 s", median < 0.8 and high < 1.5, said)


READERS = {"parquet": Folder, "kafka": Topic}
seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
rate = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
with Stage("latency", "kafka") as stage:
    for name in sys.argv[3:] or READERS:
        measure(stage, READERS[name], seconds, rate)
