"""Whether two engines wrote the same: rows, sums, and the ends of times, table by table.

The data has no late rows, so that no rule for them applies. One rule differs all the same. At the end of a bounded run Tributary and Flink close
what is open; Spark does not: a window that the watermark has not passed, and a breach that a dispatch might yet answer, stay in its state until
more data comes. Such rows are left out where Spark is compared, so that it must have all others and none of these."""

import datetime
import math

import duckdb

DELAY = datetime.timedelta(minutes=2)
START = datetime.datetime(2024, 3, 1)
# By work and table: which rows Spark has written when the watermark is at {0}.
SPARK = {
    ("b", "emergencies"): "vehicle_id IS NOT NULL OR breach_time + INTERVAL 10 MINUTE < {0}",
    ("c", "vitals_1m"): "window_end <= {0}",
    ("d", "vitals_1m"): "window_end <= {0}",
    ("d", "emergency_responses"): "answered OR breach_time + INTERVAL 15 MINUTE < {0}",
}


def condition_of_spark(work, table, count):
    """Which rows of a table Spark writes of `count` records, as load.py makes them: a reading each 10 ms, a dispatch with each tenth. With two
    sources the one behind decides."""
    last = (count - 1) // 10 * 10 if table.startswith("emergenc") else count - 1
    watermark = START + datetime.timedelta(milliseconds=10 * last) - DELAY
    return SPARK.get((work, table), "TRUE").format(f"TIMESTAMP '{watermark}'")


def leaves(path, kind):
    """The columns, and in place of a structure its fields."""
    if kind.id == "struct":
        return [leaf for field, inner in kind.children for leaf in leaves(f'{path}."{field}"', inner)]
    return [(path, kind.id)]


def measures(path, kind):
    yield f"count({path})"
    if kind.startswith("timestamp"):
        yield from (f"{what}(epoch_us({path}))" for what in ("min", "max", "sum"))
    elif kind in ("integer", "bigint", "double"):
        yield from (f"{what}({path})" for what in ("min", "max", "sum"))
    elif kind == "boolean":
        yield f"count(*) FILTER ({path})"
    else:
        yield f"sum(hash({path})::HUGEINT)"


def summary(files, kept="TRUE"):
    """What is compared of a table: rows, and of each column what its type allows. The sum over the hashes of texts stands for the texts."""
    if not files:
        return {"rows": 0}
    rows = duckdb.sql(f"SELECT * FROM read_parquet({files}, hive_partitioning = true, hive_types_autocast = false) WHERE {kept}")
    asked = [measure for name, kind in zip(rows.columns, rows.types) for path, leaf in leaves(f'"{name}"', kind) for measure in measures(path, leaf)]
    return dict(zip(["rows", *asked], duckdb.sql(f"SELECT count(*), {', '.join(asked)} FROM rows").fetchall()[0]))


def difference(ours, theirs):
    """Empty when both agree; else what differs. Sums of doubles depend on the order of the rows in their last digits."""
    def same(one, other):
        return math.isclose(one, other, rel_tol=1e-9) if isinstance(one, float) and isinstance(other, float) else one == other

    if not ours["rows"] and not theirs["rows"]:
        return ""
    return "\n".join(f"{what}: {ours.get(what)}, not {theirs.get(what)}" for what in sorted(ours.keys() | theirs.keys())
                     if not same(ours.get(what), theirs.get(what)))
