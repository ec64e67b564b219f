#!/usr/bin/env python3
"""The five systems end to end, each killed again and again while its events come, one in a hundred of them malformed and one late:
generator, real Kafka, the job, and out to real Kafka, MongoDB, Parquet on S3 and files. Every row of every output is compared with a
computation of our own over the same records.

usage: systems.py [--count N] [--kills N] [--seed N] [NAME...]     NAME: emergency, publish, medical, retail, analytics, privacy"""

import argparse
import json
import random
import time
from collections import Counter

import duckdb
import pymongo

import emergency_expected
import lake
import systems_expected
import topics
from harness import ROOT, Stage
from systems_expected import where

TROUBLE = ("--malformed", "0.01", "--late", "0.01")
SOON = ("-D", "execution.checkpointing.interval=1 s")


class System:
    """One job, where it reads and writes, and how it is brought to an end through kills."""

    def __init__(self, stage, options, name, inputs, outputs):
        self.stage, self.options, self.name, self.inputs = stage, options, name, inputs
        self.job = ROOT / "jobs" / f"{name}.sql"
        self.random = random.Random(f"{options.seed} {name}")
        topics.fresh(stage.kafka, *inputs, *outputs, partitions=3)
        folder = stage.work / name
        self.place = {**stage.place("s3"), "ENTRIES": str(folder / "entries"), "AGGREGATED_DATA": str(folder / "aggregated_data.json"), "MONGO_URI": stage.env.get("TRIBUTARY_TEST_MONGO", ""),
                      "MONGO_DATABASE": name.replace("-", "_")}

    def check(self, what, good, detail=""):
        return self.stage.check(f"{self.name}: {what}", good, detail)

    def same(self, what, expected, found):
        """The same rows, equally often."""
        wanted, found = Counter(map(canonical, expected)), Counter(map(canonical, found))
        lost, extra = wanted - found, found - wanted
        self.check(f"{what}, {sum(wanted.values())} rows", wanted and not lost and not extra,
                   f"{sum(found.values())} found; missing {sum(lost.values())}: {list(lost)[:2]}\ntoo many {sum(extra.values())}: {list(extra)[:2]}")

    def run(self, world, to=None):
        """Kills the job while events come, and then lets it run to the end."""
        rate = max(self.options.count // 40, 1000)
        generator = self.stage.tributary("generate", world, "--to", to or f"kafka://{self.stage.kafka}", "--rate", rate,
                                         "--count", self.options.count, "--seed", self.options.seed, *TROUBLE)
        self.kill()
        code = generator.wait(300)
        self.check("the generator ends well", code == 0, generator.tail())
        self.finish()

    def kill(self):
        seen, began = [], time.monotonic()
        for number in range(self.options.kills):
            run = self.stage.run_job(self.job, self.place, *SOON)
            # Some die before they have claimed, most while epochs come and go.
            ended = run.wait(self.random.choice([self.random.uniform(0.05, 0.6), self.random.uniform(1, 5), self.random.uniform(2, 6)]))
            if ended is not None:
                self.check(f"start {number + 1} goes on until it is killed", False, f"exit code {ended}\n{run.tail()}")
                return
            run.kill()
            seen.append(len(lake.checkpoints(self.place, self.stage.env)))
        if seen:
            self.check(f"{len(seen)} kills in {time.monotonic() - began:.0f} s, epochs then {seen}", len(set(seen)) > len(seen) / 3)

    def finish(self):
        run = self.stage.run_job(self.job, self.place, "--bounded")
        # The MongoDB server of the tests takes a thousand rows a second at best.
        code = run.wait(900)
        self.check("run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
        audit = self.stage.tributary("audit", self.job, env=self.place)
        code = audit.wait(60)
        self.check("audit exits 0", code == 0, f"exit code {code}\n{audit.tail()}")
        self.local = lake.localised(self.place["LAKE"], self.stage.env, self.stage.work)

    # ---- What came in and out ----

    def records(self):
        return [record for topic in self.inputs for record in topics.read(self.stage.kafka, topic)]

    def topic(self, name):
        return [json.loads(record.value) for record in topics.read(self.stage.kafka, name)]

    def parquet(self, table, columns):
        try:
            return duckdb.sql(f"SELECT {columns} FROM {lake.scan(self.local, table)}").fetchall()
        except duckdb.IOException as error:
            if "No files found" in str(error):
                return []
            raise

    def letters(self):
        """The dead letters beside the tables: those of malformed records, and the places of rows that were late, with how often."""
        rows = self.parquet("dead_letters", "reason, topic, \"partition\", \"offset\"")
        late, malformed = Counter(), []
        for reason, *place in rows:
            if reason == "late":
                late[tuple(place)] += 1
            else:
                malformed.append(tuple(place))
        return malformed, late

    def documents(self, collection):
        """What a reader sees of a collection, by its ids; without the fields that are the sink's own."""
        client = pymongo.MongoClient(self.place["MONGO_URI"])
        try:
            found = list(client[self.place["MONGO_DATABASE"]][collection].find({}))
        finally:
            client.close()
        there = [document for document in found if not document.get("_deleted")]
        self.check(f"{collection}: every _id is there once", len({document["_id"] for document in there}) == len(there))
        return {document.pop("_id"): {name: value for name, value in document.items() if not name.startswith("_") and value is not None}
                for document in there}

    def same_documents(self, what, expected, found):
        self.same(what, [{"_id": name, **fields} for name, fields in expected.items()], [{"_id": name, **fields} for name, fields in found.items()])


def canonical(row):
    if isinstance(row, dict):
        return json.dumps({name: value for name, value in row.items() if value is not None}, sort_keys=True, default=str)
    return json.dumps(row, default=str)


# ---- The systems ----

def emergency(stage, options):
    system = System(stage, options, "emergency", (topics.PATIENTS, topics.DISPATCHES), (topics.ALERTS,))
    system.run("emergency")
    malformed, late = system.letters()
    expected = emergency_expected.compute(system.records(), late=set(late))
    system.same("malformed records", map(where, expected.malformed + expected.refused), malformed)
    may_be_late = set(map(where, expected.may_be_late))
    system.check(f"{len(late)} rows were late, and could be", late and set(late) <= may_be_late, list(set(late) - may_be_late)[:3])
    responses(system, expected, lake.rows(system.local, "emergency_responses"))
    lake.check_tables(stage, system.name, expected, system.local)


def responses(system, expected, found):
    """What answered which breach. Where one of both was late it may have missed the other, and then the breach is unanswered."""
    wanted = expected.tables.pop("emergency_responses")
    sure = [[row for row in rows if row[0] not in expected.unsure] for rows in (wanted, found)]
    problem = lake.difference("emergency_responses", *sure)
    system.check(f"emergency_responses, {len(sure[0])} rows", sure[0] and not problem, problem)
    ids = [{row[0] for row in rows if row[0] in expected.unsure} for rows in (wanted, found)]
    system.check(f"{len(ids[0])} breaches with something late are there", ids[0] == ids[1], ids[0] ^ ids[1])
    missed = {emergency_expected.unanswered(row[:5], row[-2:]) for row in wanted}
    answers = [row for row in wanted if row[0] in expected.unsure]
    strange = [row for row in found if row[0] in expected.unsure and row not in missed
               and all(lake.difference("emergency_responses", [one], [row]) for one in answers if one[0] == row[0])]
    system.check("and say either what answered them, or that nothing did", not strange, strange[:2])
    unanswered = sorted(row[0] for row in found if not row[5])
    alerts = sorted(alert["breach_id"] for alert in system.topic(topics.ALERTS))
    system.check(f"{topics.ALERTS}: {len(alerts)}, one for each unanswered breach", alerts == unanswered, set(alerts) ^ set(unanswered))


def publish(stage, options):
    system = System(stage, options, "medical-publish", (), ("medical-entries", "dlq-topic"))
    made = stage.tributary("generate", "medical", "--to", system.place["ENTRIES"], "--count", options.count, "--seed", options.seed, *TROUBLE)
    system.check("the generator ends well", made.wait(120) == 0, made.tail())
    system.kill()
    system.finish()
    with open(f"{system.place['ENTRIES']}/medical-entries.csv", newline="") as file:
        rows = systems_expected.lines(file.read())[1:]
    good = [row for row in rows if len(row) == 3]
    found = topics.read(stage.kafka, "medical-entries")
    system.same("medical-entries", good, [systems_expected.lines(record.value.decode())[0] for record in found])
    system.same("keys", [row[0] for row in good], [record.key.decode() for record in found])
    letters = system.topic("dlq-topic")
    system.check(f"dlq-topic, {len(rows) - len(good)} letters", len(letters) == len(rows) - len(good) > 0 and all(one["reason"] for one in letters), letters[:2])


def medical(stage, options):
    system = System(stage, options, "medical-entries", ("medical-entries",), ("processed-entries", "dlq-topic"))
    system.run("medical")
    expected = systems_expected.medical(system.records())
    system.same("processed-entries", expected.processed, system.topic("processed-entries"))
    system.same_documents("processed_entries", expected.documents, system.documents("processed_entries"))
    system.same("lake", expected.lake.elements(), [
        (*row[:5], None if row[5] == "__HIVE_DEFAULT_PARTITION__" else row[5])
        for row in system.parquet("medical_entries", "patient_id, medical_entry, \"timestamp\", \"partition\", \"offset\", dt")])
    found = {(one["topic"], one["partition"], one["offset"]): one for one in system.topic("dlq-topic")}
    system.same("dlq-topic", expected.letters, found)
    wrong = [one for place, one in found.items() if not one["reason"] or expected.letters.get(place) not in (None, one["error"])]
    system.check("each letter says why", not wrong, wrong[:2])


def retail(stage, options):
    system = System(stage, options, "retail", ("user_activity", "sales", "inventory"), ())
    system.run("retail")
    malformed, late = system.letters()
    expected = systems_expected.retail(system.records(), set(late))
    system.same("malformed records", map(where, expected.bad), malformed)
    system.check(f"{len(late)} rows were late, and could be", late and set(late) <= expected.may_be_late, list(set(late) - expected.may_be_late)[:3])
    raw = system.documents("raw_data")
    times = [document.pop("ingestion_time", None) for document in raw.values()]
    system.check("every event has its ingestion time", all(times))
    system.same_documents("raw_data", expected.raw, raw)
    system.same_documents("aggregated_data", expected.minutes, system.documents("aggregated_data"))
    system.same_documents("real_time_metrics", {**expected.totals, **expected.alerts}, system.documents("real_time_metrics"))
    for table, rows in expected.rows.items():
        found = system.parquet(table, "count(*)")
        system.check(f"lake: {table}, {rows} rows", found == [(rows,)], found)


def analytics(stage, options):
    system = System(stage, options, "login-analytics", ("user-login",), ("processed-user-login", "login-anomalies"))
    system.run("login")
    malformed, late = system.letters()
    expected = systems_expected.analytics(system.records(), set(late))
    system.same("malformed records", map(where, expected.bad), malformed)
    system.check(f"{len(late)} rows were late, and could be", late and set(late) <= expected.may_be_late, list(set(late) - expected.may_be_late)[:3])
    system.same("processed-user-login", expected.valid, system.topic("processed-user-login"))
    names = ("window_start", "window_end", "logins", "users", "threshold")
    system.same("login-anomalies", [dict(zip(names, row)) for row in expected.anomalies], system.topic("login-anomalies"))
    system.same("lake: anomalies", expected.anomalies, system.parquet(
        "login_anomalies", "CAST(window_start AS VARCHAR), CAST(window_end AS VARCHAR), logins, users, threshold"))
    found = system.parquet("user_login", "count(*)")
    system.check(f"lake: user_login, {len(expected.valid)} rows", found == [(len(expected.valid),)], found)
    with open(system.place["AGGREGATED_DATA"]) as file:
        document = json.load(file)
    system.check("aggregated_data.json", document == expected.document, f"expected {str(expected.document)[:300]}\nfound    {str(document)[:300]}")


def privacy(stage, options):
    system = System(stage, options, "login-privacy", ("user-login",), ("processed-output", "cleaned-data", "processed-errors", "summary-output"))
    system.place["HASH_KEY"] = "a secret of this test"
    system.run("login")
    expected = systems_expected.privacy(system.records(), system.place["HASH_KEY"])
    system.same("processed-output", expected.kept, system.topic("processed-output"))
    system.same("cleaned-data", expected.others, system.topic("cleaned-data"))
    columns = ", ".join(f'"{name}"' for name in systems_expected.LOGIN)
    system.same("lake: masked_login", [tuple(row[name] for name in systems_expected.LOGIN) for row in expected.kept + expected.others],
                system.parquet("masked_login", columns))
    errors = system.topic("processed-errors")
    system.same("processed-errors", map(where, expected.bad), [(one["topic"], one["partition"], one["offset"]) for one in errors])
    system.check("each error says why", all(one["reason"] and one["error"] for one in errors))
    summaries = sorted(system.topic("summary-output"), key=lambda one: one["processed"])
    valid = len(expected.kept) + len(expected.others)
    system.check(f"{valid // 1000} summaries, one for each thousand",
                 [one["processed"] for one in summaries] == list(range(1000, valid + 1, 1000)), [one["processed"] for one in summaries][:5])
    off = [one for one in summaries if sum(one["device_types"].values()) != one["processed"] or sum(one["locales"].values()) != one["processed"]]
    system.check("every summary adds up", not off, off[:2])
    for before, after in zip(summaries, summaries[1:]):
        grown = all(Counter(before[name]) <= Counter(after[name]) for name in ("device_types", "locales")) and before["filtered"] <= after["filtered"]
        if not grown:
            system.check("summaries only grow", False, (before, after))
            break
    last = summaries[-1]
    system.check("the last summary is what had come by then", Counter(last["device_types"]) <= expected.device_types
                 and Counter(last["locales"]) <= expected.locales and 0 <= len(expected.others) - last["filtered"] <= valid % 1000, last)


SYSTEMS = {"emergency": emergency, "publish": publish, "medical": medical, "retail": retail, "analytics": analytics, "privacy": privacy}
arguments = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
arguments.add_argument("--count", type=int, default=100_000)
arguments.add_argument("--kills", type=int, default=10)
arguments.add_argument("--seed", type=int, default=31)
arguments.add_argument("names", nargs="*", choices=[*SYSTEMS, []], default=[])
arguments = arguments.parse_args()
with Stage("systems", "kafka", "minio", "mongo") as stage:
    for name in arguments.names or SYSTEMS:
        SYSTEMS[name](stage, arguments)
