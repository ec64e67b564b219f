"""Kafka topics as bytes: made anew, and read from end to end without any help of the engine."""

from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness import until

PATIENTS, DISPATCHES, ALERTS = "patient_data", "emergency_vehicle_data", "emergency-alerts"


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


def fresh(bootstrap, *names, partitions=4):
    """Empty topics of these names, whatever was there before."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    there = [name for name in names if name in admin.list_topics(timeout=20).topics]
    if there:
        for future in admin.delete_topics(there).values():
            future.result()
        until(lambda: not set(there) & set(admin.list_topics(timeout=20).topics), 30, f"{there} to be deleted")

    def created():
        try:
            for future in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
                future.result()
            return True
        except KafkaException as error:  # the deletion is still under way in the broker
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise
            return False

    until(created, 30, f"{names} to be created")


def ends(bootstrap, topic):
    """The offset behind the last record of each partition, committed or not: the broker tells partitions of a commit a moment behind its answer."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "e2e-reader", "isolation.level": "read_uncommitted"})
    try:
        count = len(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        return [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1] for p in range(count)]
    finally:
        consumer.close()


def read(bootstrap, topic):
    """Every record of a topic that a reader of committed transactions sees, up to the ends of this moment."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "e2e-reader", "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "enable.partition.eof": False, "isolation.level": "read_committed"})
    try:
        goal = dict(enumerate(ends(bootstrap, topic)))
        consumer.assign([TopicPartition(topic, p, 0) for p in goal])
        records, done = [], set(p for p, end in goal.items() if end == 0)
        silent = 0
        while len(done) < len(goal):
            messages = consumer.consume(10000, timeout=0.5)
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                if message.offset() < goal[message.partition()]:
                    records.append(Record(topic, message.partition(), message.offset(), message.key(), message.value()))
            # The position also passes over what no reader sees, such as the end marks of transactions.
            for at in consumer.position([TopicPartition(topic, p) for p in goal]):
                if at.offset >= goal[at.partition]:
                    done.add(at.partition)
            silent = 0 if messages else silent + 1
            assert silent < 60, f"{topic} gave nothing for 30 s: at {consumer.position([TopicPartition(topic, p) for p in goal])} of {goal}"
        return records
    finally:
        consumer.close()
