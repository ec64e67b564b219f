#!/usr/bin/env python3
"""Every demo, as a stranger meets it: rows come within seconds, Ctrl-C ends it well, what it says is there is there, and the commands that it
prints at the end work. No server is needed, and none is there."""

import json
import re
import signal
import subprocess

import duckdb

from harness import Stage, until

NAMES = ("emergency", "medical-publish", "medical-entries", "retail", "login-analytics", "login-privacy")
# The tables of each in the lake. Dead letters are rare, but where a job keeps them there, they come soon.
TABLES = {
    "emergency": ("patient_data", "emergency_vehicle_data", "breaches", "vitals_1m", "emergency_responses", "dead_letters"),
    "medical-publish": (),
    "medical-entries": ("medical_entries",),
    "retail": ("user_activity", "sales", "inventory", "dead_letters"),
    "login-analytics": ("user_login", "login_anomalies", "dead_letters"),
    "login-privacy": ("masked_login",),
}
TOPICS = {
    "emergency": ("emergency-alerts",),
    "medical-publish": ("medical-entries", "dlq-topic"),
    "medical-entries": ("processed-entries", "dlq-topic"),
    "retail": (),
    "login-analytics": ("processed-user-login", "login-anomalies"),
    "login-privacy": ("processed-output", "cleaned-data", "summary-output", "processed-errors"),
}


class Demo:
    def __init__(self, stage, name):
        self.stage, self.name = stage, name
        self.lake = stage.work / name
        # No address of the environment counts, and a threshold does.
        env = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "MONGO_URI": "mongodb://127.0.0.1:1", "TOP_PRODUCTS": "3"}
        self.run = stage.tributary("demo", "--job", name, "--lake", self.lake, "--http", "127.0.0.1:0", env=env)

    def check(self, what, good, detail=""):
        return self.stage.check(f"{self.name}: {what}", good, detail or self.run.tail())

    def rows(self, table, what="count(*)"):
        """What DuckDB finds in a table; nothing where there is no file yet."""
        try:
            return duckdb.sql(f"SELECT {what} FROM read_parquet('{self.lake}/{table}/**/*.parquet', hive_partitioning = true)").fetchall()[0][0]
        except duckdb.IOException:
            return 0

    def lines(self, pattern, what="count(*)"):
        """The same of documents in files of JSON lines."""
        try:
            return duckdb.sql(f"SELECT {what} FROM read_json('{self.lake}/documents/{pattern}')").fetchall()[0][0]
        except duckdb.IOException:
            return 0

    def document(self, path):
        return json.loads((self.lake / path).read_text())

    def counts(self):
        """The numbers of the last line that it has shown."""
        shown = re.findall(r"^epoch .*$", self.run.log(), re.M)
        return {name: int(count) for name, count in re.findall(r"  (\w+) (\d+)(?=  )", shown[-1] + "  ")} if shown else {}

    def all_is_there(self):
        counts = self.counts()
        # What nobody answered is told a moment after the rest: only then is there an alert.
        unanswered = self.name != "emergency" or self.rows("emergency_responses", "count(*) FILTER (WHERE NOT answered)")
        return counts and all(counts.values()) and unanswered and all(self.rows(table) for table in TABLES[self.name])

    def end(self):
        """Ctrl-C, as soon as there is something of everything."""
        alive = lambda: self.all_is_there() or not self.run.running()
        try:
            until(alive, 90, f"rows in every table of {self.name}", pause=0.5)
        except TimeoutError as error:
            self.check(str(error), False, f"{self.counts()}\n{self.run.tail()}")
        self.check("rows come while it runs", self.run.running())
        self.run.send(signal.SIGINT)
        code = self.run.wait(30)
        self.check("Ctrl-C ends it with exit code 0", code == 0, f"exit code {code}\n{self.run.tail(40)}")
        for table in TABLES[self.name]:
            self.check(f"{table} has rows", self.rows(table) > 0)
        log = self.run.log()
        self.check("nothing is warned of", '"WARN"' not in log and '"ERROR"' not in log, "\n".join(re.findall(r".*(?:WARN|ERROR).*", log)))
        for topic in TOPICS[self.name]:
            last = re.search(rf"^  {topic} +(.+)$", log, re.M)
            self.check(f"a record of {topic} is shown", last and last[1] != "(none)")
        self.commands(log)

    def commands(self, log):
        """What it says at the end: how to look at the tables."""
        commands = re.findall(r"^  (\S+ query --lake .*)$", log, re.M)
        self.check(f"{len(commands)} commands are shown", (len(commands) > 1) == bool(TABLES[self.name]))
        for command in commands:
            asked = subprocess.run(command, shell=True, env=self.stage.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            answered = asked.returncode == 0 and len(asked.stdout.splitlines()) > 2
            self.check(f"it works: query {command.split(str(self.lake))[1][:60]}", answered, f"{command}\n{asked.stdout}")


def retail(demo):
    sales = demo.rows("sales")
    for collection, table, rows in (("raw_sales", "sales", sales), ("raw_activity", "user_activity", demo.rows("user_activity")),
                                    ("raw_inventory", "inventory", demo.rows("inventory"))):
        found = demo.lines(f"raw_data/{collection}/*.json", "count(DISTINCT _id)")
        demo.check(f"raw_data has each of the {rows} rows of {table}", found == rows, found)
    metrics = demo.document("documents/real_time_metrics.json")
    total = metrics["totals"]["total/sales"]
    demo.check("the total of real_time_metrics is that of the sales", total["events"] == sales and
               abs(total["amount"] - float(demo.rows("sales", "sum(total_amount)"))) < 0.01, total)
    alerts = metrics["alerts"].values()
    demo.check("there are alerts, and each has its reason", alerts and all(one["current_stock"] <= one["reorder_level"] for one in alerts), alerts)
    kinds = demo.lines("aggregated_data/*.json", "list(DISTINCT type ORDER BY type)")
    demo.check("aggregated_data has every kind", kinds == ["activity_by_type", "sales_by_category", "sales_by_payment_method", "sales_by_store",
                                                           "top_products"], kinds)
    places = demo.lines("aggregated_data/*.json", "max(place)")
    demo.check("TOP_PRODUCTS of the environment counts", places == 3, places)


def medical_entries(demo):
    entries, documents = demo.rows("medical_entries"), demo.lines("processed_entries/*.json")
    demo.check("most entries are documents", 0.8 * entries < documents < entries, f"{documents} of {entries}")
    without = demo.lines("processed_entries/*.json", "count(*) FILTER (WHERE len(illnesses) = 0 OR medicine IS NULL OR entry_time IS NULL)")
    demo.check("each has an illness, a medicine and a time", without == 0, without)


def login_analytics(demo):
    document, logins = demo.document("aggregated_data.json"), demo.rows("user_login")
    for heading in ("Logins by Device Type", "Logins by Locale", "Logins Over Time"):
        total = sum(document[heading].values())
        demo.check(f"{heading}: each of {logins} logins", total == logins, total)


def login_privacy(demo):
    plain = demo.rows("masked_login", "count(*) FILTER (WHERE NOT regexp_full_match(ip || device_id, '[0-9a-f]{128}'))")
    demo.check("nobody is named", plain == 0, plain)


MORE = {"retail": retail, "medical-entries": medical_entries, "login-analytics": login_analytics, "login-privacy": login_privacy}

with Stage("demos") as stage:
    for name in NAMES:
        demo = Demo(stage, name)
        demo.end()
        if name in MORE:
            MORE[name](demo)

    run = stage.tributary("demo", "--job", "login", "--duration", "3 s", "--http", "off", "--lake", stage.work / "short")
    code = run.wait(60)
    stage.check("--duration ends it, and a short name is taken", code == 0 and "jobs/login-analytics.sql" in run.log(), run.tail())
    for arguments, expected in ((("--job", "nonsense"), 2), (("--help",), 0)):
        run = stage.tributary("demo", *arguments)
        code = run.wait(60)
        named = [name for name in NAMES if name in run.log()]
        stage.check(f"demo {' '.join(arguments)}: exit code {expected} and all names", code == expected and named == list(NAMES), run.tail())
