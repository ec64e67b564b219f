#!/usr/bin/env python3
"""A bounded run gives exactly the expected rows: twice from nothing, on a folder and on S3, and nothing more when run again.
Malformed records are counted and kept; duplicates stay duplicates; late rows are in the books."""

import duckdb

import emergency
import lake
from harness import Stage


def clean(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "200000", "--seed", "7")
    expected = emergency.expected_of(stage)
    counts = {name: len(rows) for name, rows in expected.tables.items()}
    answered = sum(1 for row in expected.tables["emergency_responses"] if row[5])
    stage.check(f"the data is worth a test: {counts}, {answered} answers",
                min(counts.values()) > 20 and 0 < answered < counts["emergency_responses"] and not expected.malformed)
    places = []
    for what, kind in (("the first run", "local"), ("the second run", "local"), ("on S3", "s3")):
        place = stage.place(kind)
        places.append((what, place))
        emergency.run_to_end(stage, place, what)
        emergency.compare(stage, place, what, expected)
        emergency.check_audit(stage, place, what)
        if what == "the first run":
            emergency.compare_alerts(stage, what, expected)
    what, place = places[0]
    before = lake.files(place["LAKE"], stage.env)
    emergency.run_to_end(stage, place, "run again with nothing new")
    stage.check("run again with nothing new: the same files", lake.files(place["LAKE"], stage.env) == before)
    staged = [path for path in before if "/_tributary/staged/" in path]
    stage.check("nothing is left staged", not staged, staged)

    emergency.generate(stage, "--count", "20000", "--seed", "9")
    more = emergency.expected_of(stage, clean=False)
    emergency.run_to_end(stage, place, "run again with new data")
    local = lake.localised(place["LAKE"], stage.env, stage.work)
    for table in ("patient_data", "emergency_vehicle_data", "breaches"):
        problem = lake.difference(table, more.tables[table], lake.rows(local, table))
        stage.check(f"run again with new data: {table}, {len(more.tables[table])} rows", not problem, problem)


def troubled(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "50000", "--seed", "8", "--malformed", "0.01", "--duplicates", "0.01")
    expected = emergency.expected_of(stage)
    stage.check(f"malformed: {len(expected.malformed)} of them", len(expected.malformed) > 100)
    place = stage.place("local")
    emergency.run_to_end(stage, place, "malformed")
    emergency.compare(stage, place, "malformed", expected)
    books = emergency.check_audit(stage, place, "malformed")
    counted = sum(book["malformed"] for book in books["sources"].values())
    stage.check("malformed: counted in the books", counted == len(expected.malformed), f"{counted} of {len(expected.malformed)}")


def late(stage):
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "50000", "--seed", "11", "--late", "0.01")
    expected = emergency.expected_of(stage, clean=False)
    stage.check(f"late: {len(expected.may_be_late)} rows may be", len(expected.may_be_late) > 100)
    place = stage.place("local")
    emergency.run_to_end(stage, place, "late")
    local = lake.localised(place["LAKE"], stage.env, stage.work)
    for table in ("patient_data", "emergency_vehicle_data", "breaches"):
        problem = lake.difference(table, expected.tables[table], lake.rows(local, table))
        stage.check(f"late: {table}, {len(expected.tables[table])} rows", not problem, problem)
    emergency.check_audit(stage, place, "late")
    counted = sum(row[3] for row in lake.rows(local, "vitals_1m"))
    letters = duckdb.sql(f"SELECT reason, count(*) FROM {lake.scan(local, 'dead_letters')} GROUP BY reason").fetchall()
    dropped = sum(count for reason, count in letters if "late" in reason)
    total = len(expected.tables["patient_data"])
    stage.check(f"late: {counted} readings in windows and {dropped} late ones are all {total}", dropped > 0 and counted + dropped == total, letters)


with Stage("bounded", "kafka", "minio") as stage:
    clean(stage)
    troubled(stage)
    late(stage)
