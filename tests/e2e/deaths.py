"""How a job that goes from a topic to somewhere is fed and killed: at every named step of the protocol, and at random moments."""

import json
import signal
import threading
import time

from confluent_kafka import Producer

KEYS = 50
AT_THE_START = ("after-claim", "after-republish", "after-recover")
IN_EPOCHS = ("before-state", "after-state", "before-commit", "after-commit", "before-publish", "during-publish", "after-publish",
             "after-expire", "before-acknowledge")


class Writer(threading.Thread):
    """Sends numbered events until it is stopped. All events of a key go to one partition, so they stay in order."""

    def __init__(self, stage, topic, rate):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": stage.kafka, "linger.ms": 20, "enable.idempotence": True})
        self.topic, self.rate, self.sent, self.ended = topic, rate, 0, threading.Event()

    def run(self):
        began = time.monotonic()
        while not self.ended.wait(0.02):
            for _ in range(int((time.monotonic() - began) * self.rate) - self.sent):
                key = f"k{self.sent * 7 % KEYS}"
                event = {"id": self.sent, "k": key, "note": "x" * 200}
                self.producer.produce(self.topic, json.dumps(event), key)
                self.sent += 1
            self.producer.poll(0)

    def finish(self):
        self.ended.set()
        self.join()
        assert self.producer.flush(60) == 0, "the broker did not take all events"
        return self.sent


def drawn(rnd, kills):
    """Each step once, and random moments for the rest, in any order."""
    deaths = list(AT_THE_START + IN_EPOCHS)
    deaths += [None] * max(0, kills - len(deaths))
    rnd.shuffle(deaths)
    return deaths


def die_at(stage, job, place, step):
    """Lets the process end itself at a step."""
    times = 1 if step in AT_THE_START else 2
    run = stage.tributary("run", job, "--http", "off", env={**place, "TRIBUTARY_KILL_AT": f"{step}:{times}"})
    code = run.wait(90)
    run.kill()
    return stage.check(f"the process dies {step}", code == -signal.SIGABRT and f"ending at {step}" in run.log(), f"exit code {code}\n{run.tail()}")


def die_at_random(stage, job, place, rnd):
    """Kills the process before it has claimed, just behind that, or while epochs come and go."""
    run = stage.run_job(job, place)
    ended = run.wait(rnd.choice([rnd.uniform(0.05, 0.5), rnd.uniform(0.5, 2), rnd.uniform(1, 5), rnd.uniform(1, 5)]))
    run.kill()
    if ended is not None:
        stage.check("the job goes on until it is killed", False, f"exit code {ended}\n{run.tail()}")
    return ended is None
