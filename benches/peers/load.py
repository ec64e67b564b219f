"""Loads N patient records and N/10 vehicle records, always the same ones, into two topics of four partitions, and makes the topic of alerts.

usage: load.py N BOOTSTRAP"""

import datetime
import random
import sys
import uuid

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

count, bootstrap = int(sys.argv[1]), sys.argv[2]
TOPICS = ("patient_data", "emergency_vehicle_data", "emergency-alerts")
admin = AdminClient({"bootstrap.servers": bootstrap})
for future in admin.create_topics([NewTopic(topic, 4, 1) for topic in TOPICS]).values():
    future.result()
producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.num.messages": 10000,
                     "queue.buffering.max.messages": 1_000_000, "compression.type": "lz4"})
random = random.Random(1)
start = datetime.datetime(2024, 3, 1)
ids = [str(uuid.UUID(int=random.getrandbits(128))) for _ in range(5000)]


def send(topic, key, value):
    while True:
        try:
            return producer.produce(topic, value, key)
        except BufferError:
            producer.poll(0.1)


for i in range(count):
    at = (start + datetime.timedelta(milliseconds=10 * i)).isoformat()
    patient = f"{'IOS' if i % 2 else 'ANDROID'}-{random.randrange(10000)}"
    latitude, longitude = 51.5 + random.random() / 10, -0.1 + random.random() / 10
    heart_rate, oxygen, vo2 = random.randint(50, 200), 80 + random.random() * 20, 15 + random.random() * 35
    alert = "true" if random.random() < 0.1 else "false"
    send("patient_data", patient,
         f'{{"id": "{ids[i % 5000]}", "patient_id": "{patient}", "heart_rate": {heart_rate}, "oxygen_saturation": {oxygen}, '
         f'"vo2_max": {vo2}, "location": {{"latitude": {latitude}, "longitude": {longitude}}}, "emergency_alert": {alert}, "timestamp": "{at}"}}')
    if i % 10 == 0:
        arrival = (start + datetime.timedelta(milliseconds=10 * i + random.randrange(600_000))).isoformat()
        send("emergency_vehicle_data", patient,
             f'{{"id": "{ids[(i + 7) % 5000]}", "vehicle_id": "BLS-{random.randrange(50)}", "vehicle_type": "Ambulance", '
             f'"vehicle_capacity": "Basic Life Support", "location": {{"latitude": {latitude + 0.01}, "longitude": {longitude}}}, '
             f'"patient_id": "{patient}", "dispatch_time": "{at}", "timestamp": "{arrival}"}}')
    if i % 100_000 == 0:
        producer.poll(0)
left = producer.flush(120)
sys.exit(f"{left} records were not taken" if left else 0)
