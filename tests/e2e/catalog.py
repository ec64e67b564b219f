#!/usr/bin/env python3
"""What Athena sees: the tables and partitions of a job are in a Glue catalog without a hand at work, and Trino, the engine that Athena is
made from, reads the same there as DuckDB does in the files. A catalog that is away, busy or broken never stops the data and is told
later, also after a crash; nothing is registered twice; a job that changed its table is let in or refused.

usage: catalog.py [PART...]      registered, types, projected, away, killed, changed; all without one"""

import json
import signal
import sys
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import duckdb

import emergency
import engines
import every_type
import lake
from glue import Glue
from glue_proxy import GlueProxy
from harness import Stage, until
from trino import Trino

HOURS = {"dt": "string", "hour": "string"}
KEYS = {name: HOURS for name in lake.TABLES} | {"dead_letters": {"dt": "string"}}
HIVE = {"VARCHAR": "string", "INTEGER": "int", "BIGINT": "bigint", "DOUBLE": "double", "BOOLEAN": "boolean", "TIMESTAMP": "timestamp",
        "VARCHAR[]": "array<string>", lake.PLACE: "struct<latitude:double,longitude:double>"}
COLUMNS = {name: {column: HIVE[kind] for column, kind in table.columns.items() if column not in HOURS} for name, table in lake.TABLES.items()}
COLUMNS["dead_letters"] = {"reason": "string", "error": "string", "source": "string", "topic": "string", "partition": "int", "offset": "bigint",
                           "timestamp": "timestamp", "key": "binary", "value": "binary"}
FORMATS = ("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat", "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
           "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe")
# The generated data covers minutes: so that there are many partitions, they are told apart by these.
MINUTES = (("'HH'", "'mm'"),)
EPOCHS = ("-D", "execution.checkpointing.interval=1 s")


class Scene:
    """A lake, a checkpoint folder and a database that are new, with a proxy between the job and Glue."""

    def __init__(self, stage, database):
        self.stage, self.database = stage, database
        self.glue = Glue(stage.env["AWS_ENDPOINT_URL_GLUE"])
        self.trino = Trino(stage.env["TRINO_URL"], database)
        self.proxy = GlueProxy(stage.env["AWS_ENDPOINT_URL_GLUE"])
        self.place = {**stage.place("s3"), "AWS_ENDPOINT_URL_GLUE": self.proxy.url}
        self.options = ("-D", f"tributary.glue.database={database}")

    def folders(self, table):
        """By its values, where each partition of a table lies in the lake: NULL has Hive's name for it."""
        paths = [path for path in lake.files(f"{self.place['LAKE']}/{table}", self.stage.env) if path.endswith(".parquet")]
        folders = {path.rsplit("/", 1)[0] for path in paths}
        return {tuple(unquote(part.split("=", 1)[1]) for part in folder.split("/") if "=" in part): f"s3://{folder}" for folder in folders}

    def registered(self, table):
        return {values: partition["StorageDescriptor"]["Location"].rstrip("/") for values, partition in self.glue.partitions(self.database, table).items()}

    def lacking(self, tables=tuple(KEYS)):
        """Where the catalog and the lake differ, in words: empty when each partition is registered, where it lies, and no other."""
        there = self.glue.tables(self.database)
        problems = [f"there is no table {table}" for table in tables if table not in there]
        for table in set(tables) & set(there):
            lie, are = self.folders(table), self.registered(table)
            if lie != are:
                problems.append(f"{table}: {len(lie)} in the lake, {len(are)} registered; {sorted(lie.items() ^ are.items())[:2]}")
        return "\n".join(problems)

    def twice(self):
        """What Glue was made to create more than once."""
        again = [f"{what} {count} times" for what, count in self.proxy.partitions_created().items() if count > 1]
        for action in ("CreateDatabase", "CreateTable"):
            names = [json.dumps(call.arguments.get("DatabaseInput", call.arguments.get("TableInput")).get("Name")) for call in self.proxy.done(action)]
            again += [f"{action} {name} {names.count(name)} times" for name in set(names) if names.count(name) > 1]
        return "\n".join(again)

    def check_whole(self, what, tables=tuple(KEYS)):
        lacking, twice = self.lacking(tables), self.twice()
        count = sum(len(self.folders(table)) for table in tables)
        self.stage.check(f"{what}: each of {count} partitions is registered", count and not lacking, lacking)
        self.stage.check(f"{what}: nothing was registered twice", not twice, twice)

    def check_counts(self, what):
        """Every row that DuckDB finds, Trino finds by way of the catalog."""
        local = lake.localised(self.place["LAKE"], self.stage.env, self.stage.work)
        tables = [table for table in KEYS if self.folders(table)]
        files = {table: duckdb.sql(f"SELECT count(*) FROM {lake.scan(local, table)}").fetchall()[0][0] for table in tables}
        seen = dict(self.trino.rows(" UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in tables)))
        self.stage.check(f"{what}: Trino counts {sum(files.values())} rows in {len(tables)} tables", files == seen, f"{seen}\nin the files: {files}")

    def check_definition(self, what, table, columns, keys):
        there = self.glue.table(self.database, table)
        if not self.stage.check(f"{what}: {table} is in the catalog", there):
            return
        storage = there["StorageDescriptor"]
        found = [{column["Name"]: column["Type"] for column in some} for some in (storage["Columns"], there.get("PartitionKeys", []))]
        self.stage.check(f"{what}: {table}, {len(columns)} columns and {len(keys)} partition keys", [list(some.items()) for some in found] == [list(columns.items()), list(keys.items())],
                         f"{found}\nexpected {columns}\n{keys}")
        formats = (storage.get("InputFormat"), storage.get("OutputFormat"), storage.get("SerdeInfo", {}).get("SerializationLibrary"))
        wrong = [] if formats == FORMATS else [f"formats {formats}"]
        wrong += [f"it lies at {storage['Location']}"] if storage["Location"].rstrip("/") != f"{self.place['LAKE']}/{table}" else []
        wrong += [f"TableType {there.get('TableType')}"] if there.get("TableType") != "EXTERNAL_TABLE" else []
        wrong += [f"parameters {there.get('Parameters')}"] if not {"EXTERNAL": "TRUE", "classification": "parquet"}.items() <= there.get("Parameters", {}).items() else []
        # Trino and Athena stumble over one that is missing, in the table and in each partition.
        buckets = [storage, *(partition["StorageDescriptor"] for partition in self.glue.partitions(self.database, table).values())]
        wrong += ["NumberOfBuckets is missing"] if any(one.get("NumberOfBuckets") not in (-1, 0) for one in buckets) else []
        self.stage.check(f"{what}: {table}, its formats, place and properties", not wrong, "\n".join(wrong))


# ---- 1: everything is registered, and read ----

def registered(stage):
    what = "registered"
    scene = Scene(stage, "emergency")
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "60000", "--seed", "61", "--malformed", "0.002")
    scene.glue.call("CreateCrawler", Name="crawler", Role="arn:aws:iam::123456789012:role/crawler", DatabaseName="emergency",
                    Targets={"S3Targets": [{"Path": scene.place["LAKE"]}]})
    job = stage.job("registered.sql", changes=[("/vitals_1m', 'format' = 'parquet'", "/vitals_1m', 'format' = 'parquet', 'sink.partition-commit.policy.kind' = 'metastore,success-file'")])
    options = (*scene.options, "-D", "tributary.glue.crawler=crawler")
    emergency.run_to_end(stage, scene.place, what, job=job, options=options)
    local = emergency.compare(stage, scene.place, what, emergency.expected_of(stage))

    names = set(scene.glue.tables("emergency"))
    stage.check(f"{what}: the five tables and the dead letters, and nothing else", names == set(KEYS), names)
    for table, keys in KEYS.items():
        scene.check_definition(what, table, COLUMNS[table], keys)
    scene.check_whole(what)
    for table, keys in KEYS.items():
        engines.compare(stage, f"{what}: Trino and DuckDB agree", scene.trino, local, table, keys)

    marks = {path.rsplit("/", 1)[0] for path in lake.files(scene.place["LAKE"], stage.env) if path.endswith("/_SUCCESS")}
    marks = {f"s3://{folder}" for folder in marks}
    stage.check(f"{what}: _SUCCESS is in each complete partition of the table that asks for it", marks == set(scene.folders("vitals_1m").values()), marks)

    stage.check(f"{what}: the crawler was started once", len(scene.proxy.done("StartCrawler")) == 1, scene.proxy.calls("StartCrawler"))
    # Its run ends; the next may begin ten minutes after the first.
    transition(stage, {"progression": "time", "seconds": 1})
    until(lambda: scene.glue.crawler("crawler")["State"] == "READY", 30, "the crawler to end")
    before = (len(scene.proxy.done("CreateTable")), scene.proxy.partitions_created(), scene.glue.tables("emergency"))
    emergency.run_to_end(stage, scene.place, "run again with nothing new", job=job, options=options)
    after = (len(scene.proxy.done("CreateTable")), scene.proxy.partitions_created(), scene.glue.tables("emergency"))
    stage.check("run again with nothing new: Glue is as it was", before == after, after)
    emergency.generate(stage, "--count", "5000", "--seed", "62")
    emergency.run_to_end(stage, scene.place, "run again with new data", job=job, options=options)
    stage.check("run again with new data: the crawler has to wait for its ten minutes", len(scene.proxy.done("StartCrawler")) == 1)
    scene.check_whole("run again with new data")
    scene.check_counts("run again with new data")


def transition(stage, how):
    """How the crawlers of the test server go on by themselves."""
    body = json.dumps({"model_name": "glue::crawl", "transition": how}).encode()
    urllib.request.urlopen(f"{stage.env['AWS_ENDPOINT_URL_GLUE']}/moto-api/state-manager/set-transition", body).close()


def types(stage):
    """A column of every type, and partition keys of every type with all that a folder's name escapes."""
    what = "every type"
    scene = Scene(stage, "types")
    job = every_type.prepare(stage.work / "types")
    emergency.run_to_end(stage, scene.place, what, job=job, options=scene.options)
    scene.check_definition(what, "every_type", every_type.COLUMN_TYPES, every_type.KEY_TYPES)
    scene.check_whole(what, ["every_type"])
    local = lake.localised(scene.place["LAKE"], stage.env, stage.work)
    engines.compare(stage, f"{what}: Trino and DuckDB agree", scene.trino, local, "every_type", every_type.KEY_TYPES)

    scene = Scene(stage, "timeless")
    job = every_type.prepare(stage.work / "timeless", extra="a_time TIME")
    run = stage.run_job(job, scene.place, "--bounded", *scene.options)
    code = run.wait(60)
    stage.check("TIME, which Hive has not, is refused by the name of its column", code == 2 and "a_time" in run.log() and not scene.glue.tables("timeless"),
                f"exit code {code}\n{run.tail()}")


def projected(stage):
    """Trino 368 does not know projection, so here it is its properties, and that they lead to every folder that there is."""
    what = "projected"
    scene = Scene(stage, "projected")
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "20000", "--seed", "63")
    asked = "'tributary.glue.projection.enabled' = 'true', 'tributary.glue.projection.dt.range' = '2024-01-01,NOW'"
    job = stage.job("projected.sql", changes=[("/vitals_1m', 'format' = 'parquet'", f"/vitals_1m', 'format' = 'parquet', {asked}")])
    emergency.run_to_end(stage, scene.place, what, job=job, options=scene.options)
    local = lake.localised(scene.place["LAKE"], stage.env, stage.work)
    scene.check_definition(what, "vitals_1m", COLUMNS["vitals_1m"], HOURS)
    wanted = {"projection.enabled": "true", "projection.dt.type": "date", "projection.dt.format": "yyyy-MM-dd", "projection.dt.range": "2024-01-01,NOW",
              "projection.hour.type": "integer", "projection.hour.range": "0,23", "projection.hour.digits": "2"}
    found = (scene.glue.table("projected", "vitals_1m") or {}).get("Parameters", {})
    stage.check(f"{what}: vitals_1m has the properties of Athena's projection", wanted.items() <= found.items(), found)
    template = found.get("storage.location.template", f"{scene.place['LAKE']}/vitals_1m/dt=${{dt}}/hour=${{hour}}").rstrip("/")
    folders = scene.folders("vitals_1m")
    leads = {values: template.replace("${dt}", values[0]).replace("${hour}", f"{int(values[1]):02}") for values in folders}
    stage.check(f"{what}: they lead to each of {len(folders)} folders", folders and leads == folders, f"{leads}\n{folders}")
    stage.check(f"{what}: no partition is registered, since Athena would not look at it", not scene.registered("vitals_1m"))
    files = duckdb.sql(f"SELECT count(*) AS seen FROM {lake.scan(local, 'vitals_1m')}").fetchall()[0][0]
    query = stage.tributary("query", "SELECT count(*) AS seen FROM vitals_1m", "--catalog", "glue", "--database", "projected", "--format", "json", env=scene.place)
    stage.check(f"{what}: tributary query finds {files} rows by it", query.wait(60) == 0 and f'{{"seen":{files}}}' in query.log().replace(" ", ""), query.tail())
    scene.check_whole(f"{what}: the other tables", [table for table in KEYS if table != "vitals_1m"])


# ---- 2: a catalog that is away, busy or broken ----

def away(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "30000", "--seed", "64", "--malformed", "0.002")
    expected = emergency.expected_of(stage)
    job = stage.job("away.sql", rolling=("patient_data", "vitals_1m"), changes=MINUTES)
    # From the first request on; while the database and its six tables are created; before the first partitions; and behind those of one table; with
    # the first partitions, which are created though the answer is that they are not.
    for number, (trouble, name, after) in enumerate((("hanging_up", "away from the beginning", 0), ("hanging_up", "away in the middle", 8),
                                                     ("throttled", "throttling", 7), ("failing", "answering 500", 4),
                                                     ("failing_afterwards", "answering 500 to what it does", 7))):
        troubled(stage, Scene(stage, f"away_{number}"), job, expected, trouble, f"Glue {name}", after)


def published(scene, table):
    """How many rows of a table have been published, by the books of the latest epoch."""
    epochs = lake.checkpoints(scene.place, scene.stage.env)
    return epochs[-1]["ledger"]["sinks"].get(table, {}).get("published", 0) if epochs else 0


def troubled(stage, scene, job, expected, trouble, what, after):
    rows = len(expected.tables["patient_data"])
    scene.proxy.make(trouble, after)
    run = stage.run_job(job, scene.place, *EPOCHS, *scene.options)
    try:
        until(lambda: published(scene, "patient_data") == rows or not run.running(), 60, "all readings to be published")
        until(lambda: scene.proxy.troubled() >= 3 or not run.running(), 60, "a third request that fails")
    except TimeoutError as error:
        stage.check(f"{what}: data flows on", False, f"{error}: {published(scene, 'patient_data')} rows\n{run.tail()}")
    epoch = lake.checkpoints(scene.place, stage.env)[-1]["epoch"]
    until(lambda: lake.checkpoints(scene.place, stage.env)[-1]["epoch"] > epoch + 1 or not run.running(), 60, "further epochs")
    stage.check(f"{what}: data flows on, {rows} readings are published, {scene.proxy.troubled()} requests have failed", run.running(), run.tail(25))
    if trouble != "failing_afterwards":
        stage.check(f"{what}: the catalog lacks something meanwhile", scene.lacking())
    scene.proxy.heal()
    try:
        whole = until(lambda: not scene.lacking() or not run.running(), 120, "the catalog to catch up")
    except TimeoutError:
        whole = False
    stage.check(f"{what}: the catalog catches up while the job runs", whole and run.running(), f"{scene.lacking()}\n{run.tail()}")
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check(f"{what}: SIGTERM ends it well", code == 0, f"exit code {code}\n{run.tail()}")
    words = [run.log().count(text) for text in ("the catalog does not answer: the data flows on", "the catalog answers again")]
    stage.check(f"{what}: one warning, and a word when it is back", words == [1, 1], f"{words}\n{run.tail(25)}")
    emergency.run_to_end(stage, scene.place, what, job=job, options=scene.options)
    scene.check_whole(what)
    scene.check_counts(what)


# ---- 3: killed between publishing and registering ----

def killed(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "30000", "--seed", "65", "--malformed", "0.002")
    job = stage.job("killed.sql", rolling=("patient_data", "vitals_1m"), changes=MINUTES)
    for number, point in enumerate(("after-publish", "before-catalog", "after-catalog", "after-catalog:3")):
        what = f"killed at {point}"
        scene = Scene(stage, f"killed_{number}")
        run = stage.run_job(job, {**scene.place, "TRIBUTARY_KILL_AT": point}, "--bounded", *scene.options)
        code = run.wait(120)
        stage.check(f"{what}: it dies there", code == -signal.SIGABRT, f"exit code {code}\n{run.tail()}")
        stage.check(f"{what}: what is published is not all registered", any(map(scene.folders, KEYS)) and scene.lacking())
        emergency.run_to_end(stage, scene.place, what, job=job, options=scene.options)
        scene.check_whole(what)
        scene.check_counts(what)

    what = "killed while Glue is away"
    scene = Scene(stage, "killed_owing")
    scene.proxy.make("hanging_up", 0)
    run = stage.run_job(job, scene.place, *EPOCHS, *scene.options)
    until(lambda: published(scene, "patient_data") > 0 and scene.proxy.troubled() or not run.running(), 60, "rows to be published")
    stage.check(f"{what}: the job runs, and the catalog knows nothing", run.running() and not scene.glue.tables(scene.database), run.tail())
    run.kill()
    scene.proxy.heal()
    emergency.run_to_end(stage, scene.place, what, job=job, options=scene.options)
    scene.check_whole(what)
    scene.check_counts(what)


# ---- 4: the job has changed ----

def changed(stage):
    scene = Scene(stage, "changed")
    readings = [{"id": 1, "pulse": 71.5, "note": "calm", "dt": "2024-03-01", "station": "a"}, {"id": 2, "pulse": 82.0, "note": None, "dt": "2024-03-02", "station": "b"}]

    def written(name, columns, select, keys, first):
        """The job in a new form, with rows of its own, into the same lake and the same database."""
        folder = stage.work / f"changed-{name}"
        (folder / "input").mkdir(parents=True)
        (folder / "input" / "rows.json").write_text("".join(json.dumps(row | {"id": row["id"] + first}) + "\n" for row in readings))
        job = folder / "readings.sql"
        job.write_text(f"""SET 'execution.checkpointing.dir' = '{folder}/checkpoints';
CREATE TABLE incoming (id INT, pulse DOUBLE, note STRING, dt STRING, station STRING)
WITH ('connector' = 'filesystem', 'path' = '{folder}/input', 'format' = 'json');
CREATE TABLE readings ({columns}) PARTITIONED BY ({keys}) WITH ('connector' = 'filesystem', 'path' = '${{LAKE}}/readings', 'format' = 'parquet');
INSERT INTO readings SELECT {select} FROM incoming;
""")
        return job

    def check(job):
        process = stage.tributary("check", job, "--catalog", *scene.options, env=scene.place)
        return process, process.wait(60)

    def run(job):
        process = stage.run_job(job, scene.place, "--bounded", *scene.options)
        return process, process.wait(60)

    def runs(*form, becomes):
        job = written(*form)
        checked, code = check(job)
        stage.check(f"{form[0]}: check says that the table {becomes}", code == 0 and f"changed.readings {becomes}" in checked.log(), f"exit code {code}\n{checked.tail()}")
        process, code = run(job)
        stage.check(f"{form[0]}: it runs", code == 0, f"exit code {code}\n{process.tail()}")

    def refused(*form, says):
        before = (lake.files(scene.place["LAKE"] + "/readings", stage.env), scene.glue.tables("changed"), scene.registered("readings"))
        job = written(*form)
        for command, (process, code) in (("check", check(job)), ("run", run(job))):
            unsaid = [word for word in says if word not in process.log()]
            stage.check(f"{form[0]}: {command} refuses it, and shows the difference", code == 2 and not unsaid, f"exit code {code}, it does not say {unsaid}\n{process.tail()}")
        after = (lake.files(scene.place["LAKE"] + "/readings", stage.env), scene.glue.tables("changed"), scene.registered("readings"))
        stage.check(f"{form[0]}: nothing is written, nothing is changed", before == after)

    runs("at first", "id INT, pulse DOUBLE, dt STRING", "id, pulse, dt", "dt", 0, becomes="would be created")
    scene.check_definition("at first", "readings", {"id": "int", "pulse": "double"}, {"dt": "string"})
    # Somebody else's property has to survive.
    table = scene.glue.table("changed", "readings")
    kept = {key: table[key] for key in ("Name", "TableType", "PartitionKeys", "StorageDescriptor")}
    scene.glue.call("UpdateTable", DatabaseName="changed", TableInput={**kept, "Parameters": {**table["Parameters"], "owner.team": "vitals"}, "Description": "by hand"})

    runs("a column added", "id INT, pulse DOUBLE, note STRING, dt STRING", "id, pulse, note, dt", "dt", 10, becomes="would be changed: column note: added as string")
    scene.check_definition("a column added", "readings", {"id": "int", "pulse": "double", "note": "string"}, {"dt": "string"})
    table = scene.glue.table("changed", "readings")
    stage.check("a column added: what others wrote into the definition is kept", table["Parameters"].get("owner.team") == "vitals" and table.get("Description") == "by hand", table)
    rows = scene.trino.rows("SELECT id, pulse, note, dt FROM readings ORDER BY id")
    stage.check("a column added: Trino reads it, and NULL in older files",
                rows == [(1, 71.5, None, "2024-03-01"), (2, 82.0, None, "2024-03-02"), (11, 71.5, "calm", "2024-03-01"), (12, 82.0, None, "2024-03-02")], rows)

    refused("a type changed", "id INT, pulse STRING, note STRING, dt STRING", "id, CAST(pulse AS STRING), note, dt", "dt", 20, says=("readings", "pulse", "double", "string"))
    refused("two types changed", "id BIGINT, pulse FLOAT, note STRING, dt STRING", "CAST(id AS BIGINT), CAST(pulse AS FLOAT), note, dt", "dt", 20,
            says=("readings", "column id", "int", "bigint", "column pulse", "double", "float"))
    refused("other partition keys", "id INT, pulse DOUBLE, note STRING, station STRING", "id, pulse, note, station", "station", 20, says=("readings", "partition", "dt", "station"))
    runs("as before", "id INT, pulse DOUBLE, note STRING, dt STRING", "id, pulse, note, dt", "dt", 30, becomes="is as the job has it")
    scene.check_whole("as before", ["readings"])
    stage.check("as before: Trino counts 6 rows", scene.trino.rows("SELECT count(*), count(note) FROM readings") == [(6, 2)])


PARTS = {part.__name__: part for part in (registered, types, projected, away, killed, changed)}

if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in PARTS]
    if unknown:
        sys.exit(f"{unknown[0]} is not a part: {', '.join(PARTS)}")
    with Stage(Path(__file__).stem, "kafka", "minio", "moto", "trino") as stage:
        for name in sys.argv[1:] or PARTS:
            PARTS[name](stage)
