"""The lake as a stranger sees it: Parquet files below table folders, read by DuckDB, compared row by row."""

import json
import math
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.fs as pafs


@dataclass(frozen=True)
class Table:
    """What is read of a table, and in which columns a difference of the last digits is allowed."""
    columns: dict  # name -> the type that DuckDB finds
    select: str
    approximate: tuple = ()


PLACE = "STRUCT(latitude DOUBLE, longitude DOUBLE)"
HIVE = {"dt": "VARCHAR", "hour": "VARCHAR"}
TABLES = {
    "patient_data": Table(
        {"id": "VARCHAR", "patient_id": "VARCHAR", "heart_rate": "INTEGER", "oxygen_saturation": "DOUBLE", "vo2_max": "DOUBLE",
         "location": PLACE, "emergency_alert": "BOOLEAN", "timestamp": "TIMESTAMP", **HIVE},
        "id, patient_id, heart_rate, oxygen_saturation, vo2_max, location IS NULL, location.latitude, location.longitude, "
        "emergency_alert, epoch_us(\"timestamp\"), dt, hour"),
    "emergency_vehicle_data": Table(
        {"id": "VARCHAR", "vehicle_id": "VARCHAR", "vehicle_type": "VARCHAR", "vehicle_capacity": "VARCHAR", "location": PLACE,
         "patient_id": "VARCHAR", "dispatch_time": "TIMESTAMP", "timestamp": "TIMESTAMP", **HIVE},
        "id, vehicle_id, vehicle_type, vehicle_capacity, location IS NULL, location.latitude, location.longitude, patient_id, "
        "epoch_us(dispatch_time), epoch_us(\"timestamp\"), dt, hour"),
    "breaches": Table(
        {"id": "VARCHAR", "patient_id": "VARCHAR", "event_time": "TIMESTAMP", "heart_rate": "INTEGER", "oxygen_saturation": "DOUBLE",
         "vo2_max": "DOUBLE", "latitude": "DOUBLE", "longitude": "DOUBLE", "reasons": "VARCHAR[]", "severity": "INTEGER", **HIVE},
        "id, patient_id, epoch_us(event_time), heart_rate, oxygen_saturation, vo2_max, latitude, longitude, reasons, severity, dt, hour"),
    "vitals_1m": Table(
        {"window_start": "TIMESTAMP", "window_end": "TIMESTAMP", "patient_id": "VARCHAR", "readings": "BIGINT", "breaches": "BIGINT",
         "heart_rate_min": "INTEGER", "heart_rate_max": "INTEGER", "heart_rate_avg": "DOUBLE",
         "oxygen_saturation_min": "DOUBLE", "oxygen_saturation_max": "DOUBLE", "oxygen_saturation_avg": "DOUBLE",
         "vo2_max_min": "DOUBLE", "vo2_max_max": "DOUBLE", "vo2_max_avg": "DOUBLE", **HIVE},
        "epoch_us(window_start), epoch_us(window_end), patient_id, readings, breaches, heart_rate_min, heart_rate_max, heart_rate_avg, "
        "oxygen_saturation_min, oxygen_saturation_max, oxygen_saturation_avg, vo2_max_min, vo2_max_max, vo2_max_avg, dt, hour",
        approximate=(7, 10, 13)),
    "emergency_responses": Table(
        {"breach_id": "VARCHAR", "patient_id": "VARCHAR", "breach_time": "TIMESTAMP", "reasons": "VARCHAR[]", "severity": "INTEGER",
         "answered": "BOOLEAN", "vehicle_id": "VARCHAR", "vehicle_type": "VARCHAR", "dispatch_time": "TIMESTAMP", "arrival_time": "TIMESTAMP",
         "seconds_to_dispatch": "INTEGER", "seconds_to_arrival": "INTEGER", "distance_km": "DOUBLE", **HIVE},
        "breach_id, patient_id, epoch_us(breach_time), reasons, severity, answered, vehicle_id, vehicle_type, epoch_us(dispatch_time), "
        "epoch_us(arrival_time), seconds_to_dispatch, seconds_to_arrival, distance_km, dt, hour",
        approximate=(12,)),
}


# Azurite's own, which everybody knows.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


# ---- Where it lies ----

def filesystem(url, env):
    """The file system of a folder or of an address in a cloud, and the path in it."""
    scheme, separator, path = url.partition("://")
    if not separator:
        return pafs.LocalFileSystem(), url
    if scheme == "az":
        host = env["AZURITE_BLOB_STORAGE_URL"].split("://")[1]
        return pafs.AzureFileSystem("devstoreaccount1", account_key=AZURITE_KEY, blob_storage_authority=host, dfs_storage_authority=host,
                                    blob_storage_scheme="http", dfs_storage_scheme="http"), path
    # What is behind gs:// is an S3 server, and so it is read past what stands before it.
    return pafs.S3FileSystem(access_key=env["AWS_ACCESS_KEY_ID"], secret_key=env["AWS_SECRET_ACCESS_KEY"], region=env["AWS_REGION"],
                             endpoint_override=env["AWS_ENDPOINT_URL"].split("://")[1], scheme="http"), path


def files(url, env):
    """The paths of all files below a folder, sorted; none when it is not there."""
    store, path = filesystem(url, env)
    found = store.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(info.path for info in found if info.type == pafs.FileType.File)


def localised(url, env, work):
    """The lake as a local folder: DuckDB's own S3 extension would have to be downloaded."""
    if "://" not in url:
        return url
    copy = Path(work) / "downloaded"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    store, path = filesystem(url, env)
    for found in files(url, env):
        to = copy / found.removeprefix(path).lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        with store.open_input_stream(found) as stream:
            to.write_bytes(stream.read())
    return str(copy)


EPOCHS = {}  # by path: an epoch is created once and never changed


def checkpoints(place, env):
    """The committed epochs of a job, oldest first."""
    store, _ = filesystem(place["CHECKPOINTS"], env)
    paths = [path for path in files(place["CHECKPOINTS"] + "/epochs", env) if path.endswith(".json")]
    for path in paths:
        if path not in EPOCHS:
            with store.open_input_stream(path) as stream:
                EPOCHS[path] = json.loads(stream.read())
    return sorted((EPOCHS[path] for path in paths), key=lambda epoch: epoch["epoch"])


# ---- What is in it ----

def glob(lake, table):
    return f"{lake}/{table}/**/*.parquet"


def scan(lake, table, pattern=glob):
    return f"read_parquet('{pattern(lake, table)}', hive_partitioning = true, hive_types_autocast = false)"


def rows(lake, table, pattern=glob):
    """The rows of a table; no files are no rows."""
    try:
        found = duckdb.sql(f"SELECT {TABLES[table].select} FROM {scan(lake, table, pattern)}").fetchall()
    except duckdb.IOException as error:
        if "No files found" in str(error):
            return []
        raise
    return [tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in found]


def types(lake, table):
    """Column names and types as DuckDB finds them; the precision of a timestamp is not looked at."""
    described = duckdb.sql(f"DESCRIBE SELECT * FROM {scan(lake, table)}").fetchall()
    return {name: kind.replace("TIMESTAMP_MS", "TIMESTAMP") for name, kind, *_ in described}


def difference(table, expected, actual):
    """Empty when both hold the same rows equally often; else a few of the rows that differ."""
    loose = TABLES[table].approximate
    strict = [i for i in range(len((expected or actual or [()])[0])) if i not in loose]

    def core(row):
        return tuple(row[i] for i in strict)

    wanted, found = Counter(map(core, expected)), Counter(map(core, actual))
    if wanted != found:
        lost, extra = wanted - found, found - wanted
        lines = [f"{len(expected)} rows expected, {len(actual)} found: {sum(lost.values())} are missing, {sum(extra.values())} are too many"]
        lines += [f"missing {count} x {row}" for row, count in list(lost.items())[:3]]
        lines += [f"too many {count} x {row}" for row, count in list(extra.items())[:3]]
        return "\n".join(lines)
    if loose:
        def order(row):
            return tuple((row[i] is not None, row[i]) if row[i] is not None else (False, 0) for i in (*strict, *loose))

        for one, other in zip(sorted(expected, key=order), sorted(actual, key=order)):
            for i in loose:
                if (one[i] is None) != (other[i] is None) or (one[i] is not None and not math.isclose(one[i], other[i], rel_tol=1e-9)):
                    return f"column {i}: expected {one}\n            found    {other}"
    return ""


def check_tables(stage, what, expected, lake):
    """One check a table: the same rows, and the columns of the contract."""
    for table, wanted in expected.tables.items():
        found = rows(lake, table)
        problem = difference(table, wanted, found)
        stage.check(f"{what}: {table}, {len(wanted)} rows", not problem, problem)
        if found:
            columns = types(lake, table)
            stage.check(f"{what}: {table}, columns", list(columns.items()) == list(TABLES[table].columns.items()),
                        f"expected {TABLES[table].columns}\nfound    {columns}")


def check_dead_letters(stage, what, expected, lake):
    """Each malformed or refused record is one dead letter, with its bytes and its place."""
    wanted = Counter((r.topic, r.partition, r.offset, r.value) for r in expected.malformed + expected.refused)
    try:
        found = duckdb.sql(f"SELECT topic, \"partition\", \"offset\", value::BLOB FROM {scan(lake, 'dead_letters')}").fetchall()
    except duckdb.IOException:
        found = []
    found = Counter(found)
    stage.check(f"{what}: dead_letters, {sum(wanted.values())} records", wanted == found,
                f"missing {list((wanted - found).items())[:3]}\ntoo many {list((found - wanted).items())[:3]}")
