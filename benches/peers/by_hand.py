"""What people write by hand: confluent-kafka, pyarrow.json and a Parquet writer; both topics, up to the ends of now, in two processes.

It remembers nothing: started again after a crash it writes everything twice, and one malformed record costs the batch that it is in.
From the environment: LAKE, a file:// address, and KAFKA_BOOTSTRAP_SERVERS."""

import multiprocessing
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

PROCESSES = 2
PLACE = pa.struct([("latitude", pa.float64()), ("longitude", pa.float64())])
TIME = pa.timestamp("us")
SCHEMAS = {
    "patient_data": pa.schema([
        ("id", pa.string()), ("patient_id", pa.string()), ("heart_rate", pa.int32()), ("oxygen_saturation", pa.float64()), ("vo2_max", pa.float64()),
        ("location", PLACE), ("emergency_alert", pa.bool_()), ("timestamp", TIME)]),
    "emergency_vehicle_data": pa.schema([
        ("id", pa.string()), ("vehicle_id", pa.string()), ("vehicle_type", pa.string()), ("vehicle_capacity", pa.string()), ("location", PLACE),
        ("patient_id", pa.string()), ("dispatch_time", TIME), ("timestamp", TIME)]),
}
BATCH, ROW_GROUP = 10_000, 130_000


def copy(topic, share, folder, bootstrap):
    """The partitions of one process into one file."""
    # The queue is large and asks again at once when it was full, or the consumer waits a second each time.
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "by-hand", "enable.auto.commit": False, "fetch.queue.backoff.ms": 5,
                         "queued.max.messages.kbytes": 131_072, "queued.min.messages": 1_000_000, "check.crcs": False})
    ours = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in consumer.list_topics(topic).topics[topic].partitions][share::PROCESSES]
    left = sum(high - low for low, high in map(consumer.get_watermark_offsets, ours))
    consumer.assign(ours)
    parse = pa.json.ParseOptions(explicit_schema=SCHEMAS[topic], unexpected_field_behavior="ignore")
    # Each process has a core: threads within it would only take turns.
    read = pa.json.ReadOptions(use_threads=False, block_size=16 << 20)
    folder.mkdir(parents=True, exist_ok=True)
    hidden, tables, rows = folder / f".part-{share}.parquet", [], 0
    with pa.parquet.ParquetWriter(hidden, SCHEMAS[topic]) as writer:
        while left:
            values = [message.value() for message in consumer.consume(min(BATCH, left), 1) if message.error() is None]
            if not values:
                continue
            left -= len(values)
            tables.append(pa.json.read_json(pa.BufferReader(b"\n".join(values)), read, parse))
            rows += len(values)
            if rows >= ROW_GROUP or not left:
                writer.write_table(pa.concat_tables(tables))
                tables, rows = [], 0
    hidden.rename(folder / f"part-{share}.parquet")
    consumer.close()


def main(share):
    for topic in SCHEMAS:
        copy(topic, share, Path(os.environ["LAKE"].removeprefix("file://")) / topic, os.environ["KAFKA_BOOTSTRAP_SERVERS"])


processes = [multiprocessing.Process(target=main, args=(share,)) for share in range(PROCESSES)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(max(process.exitcode != 0 for process in processes))
