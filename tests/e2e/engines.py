"""One table through two engines: Trino, which asks the catalog what there is, and DuckDB, which looks at the files itself. Both have
to give the same answers."""

import math
from collections import Counter
from datetime import date, datetime
from decimal import Decimal

import duckdb

import lake

WHOLE, BROKEN = {"tinyint", "smallint", "integer", "bigint", "decimal"}, {"float", "double"}
WITHOUT_ORDER = {"list", "map"}


def compare(stage, what, trino, folder, table, keys, name=None):
    """Checks on a table in the catalog (`name`, where it has another one there) and its folder in a lake that DuckDB can read. `keys` are
    the partition columns with their types."""
    name = name or table
    what = f"{what}: {name}"
    files = as_hive(duckdb.sql(f"SELECT * FROM {lake.scan(folder, table)}"), keys)

    columns, rows = trino.ask(f'SELECT * FROM "{name}"')
    found = [column["name"] for column in columns]
    stage.check(f"{what}, {len(found)} columns", found == [column.lower() for column in files.columns], f"{found}\nfiles: {files.columns}")
    theirs, ours = Counter(map(frozen, files.fetchall())), Counter(map(frozen, rows))
    stage.check(f"{what}, the same {len(rows)} rows", theirs == ours,
                f"not in Trino's answer: {list((theirs - ours).items())[:3]}\nonly in Trino's answer: {list((ours - theirs).items())[:3]}")

    paths = [path for column, kind in zip(files.columns, files.types) for path in leaves(quoted(column), kind)]
    questions = ["count(*)"] + [question for path in paths for question in aggregates(*path)]
    differ = differences(trino, files, name, questions, ["TRUE"])
    stage.check(f"{what}, {len(questions)} counts, sums, minima and maxima of {len(paths)} columns", not differ, differ)

    if keys:
        parts = [" AND ".join(f"{quoted(key)} IS NULL" if value is None else f"{quoted(key)} = {literal(value)}" for key, value in zip(keys, values))
                 for values in files.aggregate(", ".join(map(quoted, keys))).fetchall()]
        differ = differences(trino, files, name, questions[:8], parts)
        stage.check(f"{what}, each of {len(parts)} partitions by itself", parts and not differ, differ)

    conditions = filters(files, paths)
    differ = differences(trino, files, name, ["count(*)"], conditions)
    stage.check(f"{what}, {len(conditions)} filters", conditions and not differ, differ)


def as_hive(files, keys):
    """The same rows as Hive has them: partition columns last and with a type; moments as the wall time in UTC, for timestamps have no zone."""
    def column(name, kind):
        return f"timezone('UTC', {quoted(name)}) AS {quoted(name)}" if kind.id == "timestamp with time zone" else quoted(name)

    inside = [column(name, kind) for name, kind in zip(files.columns, files.types) if name not in keys]
    return files.select(", ".join(inside + [f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in keys.items()]))


def leaves(path, kind):
    """The columns, and in place of a ROW its fields: what to write for each, and what it is."""
    if kind.id == "struct":
        return [leaf for field, inner in kind.children for leaf in leaves(f"{path}.{quoted(field)}", inner)]
    return [(path, kind.id)]


def aggregates(path, kind):
    found = [f"count({path})"]
    if kind not in WITHOUT_ORDER:
        found += [f"min({path})", f"max({path})"]
    if kind in WHOLE:
        found.append(f"sum({path})")
    if kind in BROKEN:
        found.append(f"sum(CAST({path} AS DOUBLE))")
    if kind == "list":
        found.append(f"sum(cardinality({path}))")
    return found


def filters(files, paths):
    """A condition on a column of each type, and on each field of a ROW: Trino skips pages and row groups by it, so wrong statistics in
    a file would show. It is never IS NULL: Trino 368 fails with it where a column holds nothing but NULL (trinodb/trino#9424)."""
    fit = [(path, kind) for path, kind in paths if kind not in (*WITHOUT_ORDER, "boolean", "blob")]
    by_kind = {kind: path for path, kind in fit if "." not in path}
    chosen = [(path, kind) for path, kind in fit if "." in path or by_kind[kind] == path]
    middles = files.aggregate(", ".join(f"quantile_disc({path}, 0.5)" for path, _ in chosen)).fetchall()[0]
    return [f"{path} {'=' if kind == 'varchar' else '>'} {literal(middle)}" for (path, kind), middle in zip(chosen, middles) if middle is not None]


def differences(trino, files, name, questions, conditions):
    """A few of the questions that Trino answers otherwise than DuckDB, of all that are asked under each condition."""
    select, found = ", ".join(questions), []
    for some in (conditions[i:i + 10] for i in range(0, len(conditions), 10)):  # Trino takes its time for each statement
        ours = trino.rows(" UNION ALL ".join(f'SELECT {number}, {select} FROM "{name}" WHERE {condition}' for number, condition in enumerate(some)))
        for (_, *one), condition in zip(sorted(ours, key=lambda row: row[0]), some):
            other = files.filter(condition).aggregate(select.replace("cardinality(", "len(")).fetchall()[0]
            found += [f"{question} WHERE {condition}: {ours} in Trino, {theirs} in the files"
                      for question, ours, theirs in zip(questions, map(frozen, one), map(frozen, other)) if not same(ours, theirs)]
    return "\n".join(found[:5])


def same(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other


def frozen(value):
    """A value of either engine as one that can be compared and counted."""
    if isinstance(value, dict):
        return tuple(sorted((str(key).lower(), frozen(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    return value


def quoted(name):
    return f'"{name}"'


def literal(value):
    match value:
        case str():
            return "'" + value.replace("'", "''") + "'"
        case float():
            return f"DOUBLE '{value!r}'"
        case datetime():
            return f"TIMESTAMP '{value.isoformat(' ')}'"
        case date():
            return f"DATE '{value}'"
        case int() | Decimal():
            return str(value).lower()
    raise ValueError(f"no literal for {value!r}")
