"""How long it takes from a record in Kafka to its row in a Parquet file that everybody can read.

usage: latency.py [SECONDS] [RATE]      60 seconds at 50000 records a second

Run it with the Python of `infra/servers install python`. Epochs are a second apart, and files close at each. A record counts from the time that its
producer gave it, a row from the moment when its file was first seen in the table's folder, which is looked at every few milliseconds."""

import os
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "e2e")]
import duckdb  # noqa: E402
from harness import Stage, until  # noqa: E402
from topics import fresh  # noqa: E402

JOB = """
SET 'pipeline.name' = 'latency';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE readings (patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, sent TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')
WITH ('connector' = 'kafka', 'topic' = 'patient_data', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
      'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
CREATE TABLE copied (patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, sent TIMESTAMP_LTZ(3))
WITH ('connector' = 'filesystem', 'path' = '${LAKE}/copied', 'format' = 'parquet', 'sink.rolling-policy.rollover-interval' = '1 ms');
INSERT INTO copied SELECT patient_id, heart_rate, oxygen_saturation, vo2_max, sent FROM readings;
"""
# What comes while everything starts is not what a user waits for.
WARM_UP = 5


class Watcher(threading.Thread):
    """Notes when each file of a folder was first there."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.seen, self.over = Path(folder), {}, False

    def run(self):
        while not self.over:
            now = time.time()
            try:
                with os.scandir(self.folder) as files:
                    for file in files:
                        if file.name.endswith(".parquet"):
                            self.seen.setdefault(file.path, now)
            except FileNotFoundError:
                pass
            time.sleep(0.005)


seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
rate = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
with Stage("latency", "kafka") as stage:
    path = stage.work / "latency.sql"
    path.write_text(JOB)
    place = stage.place("local")
    fresh(stage.kafka, "patient_data", "emergency_vehicle_data")
    watcher = Watcher(f"{place['LAKE']}/copied")
    watcher.start()
    job = stage.tributary("run", path, "--http", "off", env=place)
    generator = stage.tributary("generate", "emergency", "--to", f"kafka://{stage.kafka}", "--rate", str(rate), "--count", str(rate * seconds))
    stage.check("the generator keeps its rate", generator.wait(3 * seconds) == 0, generator.log())
    end = time.time()
    until(lambda: max(watcher.seen.values(), default=0) > end + 1.5 or time.time() > end + 10, 20, "the last rows")
    job.send(2)
    stage.check("the job ends well", job.wait(60) == 0, job.log())
    watcher.over = True
    watcher.join()
    files = [(file, seen) for file, seen in watcher.seen.items()]
    connection = duckdb.connect()
    connection.execute("CREATE TABLE seen (file TEXT, shown DOUBLE)")
    connection.executemany("INSERT INTO seen VALUES (?, ?)", files)
    rows, median, high, worst = connection.execute(
        "WITH rows AS (SELECT filename, epoch(sent) AS sent FROM read_parquet(?, filename = true)), first AS (SELECT min(sent) AS sent FROM rows) "
        "SELECT count(*), median(shown - sent), quantile_cont(shown - sent, 0.99), max(shown - sent) "
        "FROM rows JOIN seen ON filename = file WHERE sent > (SELECT sent FROM first) + ?", [[file for file, _ in files], WARM_UP]).fetchone()
    said = f"{rows} rows at {rate} a second: median {median:.2f} s, 99th percentile {high:.2f} s, longest {worst:.2f} s"
    print(said)
    stage.check("half of the rows are there within 0.8 s, 99 of 100 within 1.5 s", median < 0.8 and high < 1.5, said)
