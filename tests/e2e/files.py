#!/usr/bin/env python3
"""Files in and files out: packed CSV with awkward quoting becomes packed JSON lines, Parquet and packed CSV, through kills, and is read back;
what comes out is compared with what Python's csv module reads. A folder is watched; thousands of files are read with little memory; files
that cannot be read are named.

usage: files.py [--kills N] [--seed N]"""

import argparse
import csv
import gzip
import io
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

import lake
from harness import Stage, until

COLUMNS = "id BIGINT, entry STRING, note STRING"
PIECES = ['plain', 'a, comma', 'say "hi"', 'two\nlines', 'three\r\n\r\nlines', '"quoted"', '', ' blanks ', '# no comment', "naïve 🚑", ';|\t', '""', '\\n']

# The folders that JSON lies in, which are a column of its.
PARTS = (COLUMNS + ", part INT", "PARTITIONED BY (part)")
SETTINGS = """SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
SET 'execution.checkpointing.interval' = '300 ms';
"""


def table(name, path, options, columns=COLUMNS, more=""):
    return f"CREATE TABLE {name} ({columns}) {more} WITH ('connector' = 'filesystem', 'path' = '{path}', {options});\n"


OUT = SETTINGS + table("entries", "${IN}", "'format' = 'csv', 'tributary.csv.header' = 'true'") \
    + table("as_json", "${LAKE}/as_json", "'format' = 'json', 'tributary.text.compression' = 'zstd', 'sink.rolling-policy.file-size' = '4 MB'", *PARTS) \
    + table("as_csv", "${LAKE}/as_csv", "'format' = 'csv', 'tributary.text.compression' = 'gzip', 'tributary.csv.header' = 'true'") \
    + table("as_parquet", "${LAKE}/as_parquet", "'format' = 'parquet'") + """
EXECUTE STATEMENT SET BEGIN
INSERT INTO as_json SELECT id, entry, note, CAST(MOD(id, 3) AS INT) FROM entries;
INSERT INTO as_csv SELECT * FROM entries;
INSERT INTO as_parquet SELECT * FROM entries;
END;
"""
KINDS = {
    "as_json": "'format' = 'json'",
    "as_csv": "'format' = 'csv', 'tributary.csv.header' = 'true'",
    "as_parquet": "'format' = 'parquet'",
}
BACK = SETTINGS + "".join(
    table(kind, f"${{LAKE}}/{kind}", options, *(PARTS if kind == "as_json" else ()))
    + table(f"back_{kind}", f"${{LAKE}}-back/{kind}", "'format' = 'json'", *(PARTS[:1] if kind == "as_json" else ()))
    for kind, options in KINDS.items()) + "EXECUTE STATEMENT SET BEGIN\n" + "".join(
    f"INSERT INTO back_{kind} SELECT * FROM {kind};\n" for kind in KINDS) + "END;\n"


def text_of(rows, header, line="\r\n", mark=""):
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=line)
    if header:
        writer.writerow(["id", "entry", "note"])
    writer.writerows(rows)
    return (mark + out.getvalue()).encode()


def fill(folder, rnd, files, rows):
    """Writes the input; gives its rows as Python's csv module reads them."""
    folder.mkdir()
    (folder / "deep" / "er").mkdir(parents=True)
    number = 0
    for file in range(files):
        mine = []
        for _ in range(rows):
            mine.append([number, "".join(rnd.choice(PIECES) for _ in range(rnd.randrange(1, 5))), rnd.choice(PIECES)])
            number += 1
        text = text_of(mine, True, rnd.choice(["\n", "\r\n"]), rnd.choice(["", "\ufeff"]))
        where = folder / rnd.choice(["", "deep", "deep/er"])
        if file % 4 == 3:
            (where / f"{file:03}.csv").write_bytes(text.rstrip(b"\r\n") if mine[-1][2] else text)
        else:
            # Several members, cut anywhere, as a tool makes them that packs in blocks.
            cuts = sorted(rnd.randrange(len(text)) for _ in range(file % 3))
            parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
            (where / f"{file:03}.csv.gz").write_bytes(b"".join(gzip.compress(part, 1) for part in parts))
    (folder / "empty.csv").write_bytes(b"")
    (folder / "only-header.csv").write_bytes(text_of([], True))
    (folder / "_hidden.csv").write_bytes(text_of([[-1, "x", "y"]], True))
    (folder / ".hidden.csv.gz").write_bytes(gzip.compress(text_of([[-2, "x", "y"]], True)))
    found = Counter()
    for path in folder.rglob("*.csv*"):
        if path.name[0] not in "_." and path.stat().st_size:
            text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode("utf-8-sig")
            found.update((int(row[0]), row[1], row[2]) for row in list(csv.reader(io.StringIO(text, newline="")))[1:])
    assert len(found) == files * rows == sum(found.values())
    return found


def json_rows(folder):
    found = Counter()
    for path in folder.rglob("*.json*"):
        stream = pa.input_stream(str(path), compression="zstd" if path.suffix == ".zst" else None)
        rows = [json.loads(line) for line in stream.read().splitlines()]
        found.update((row["id"], row["entry"], row["note"]) for row in rows)
        assert all(row["part"] == row["id"] % 3 for row in rows if "part" in row), "a row has another partition than its file lay in"
    return found


def csv_rows(folder):
    found = Counter()
    for path in folder.rglob("*.csv.gz"):
        rows = list(csv.reader(io.StringIO(gzip.decompress(path.read_bytes()).decode(), newline="")))
        assert rows[0] == ["id", "entry", "note"], rows[0]
        found.update((int(row[0]), row[1], row[2]) for row in rows[1:])
    return found


def parquet_rows(folder):
    found = Counter()
    for path in folder.rglob("*.parquet"):
        columns = parquet.read_table(path).to_pydict()
        found.update(zip(columns["id"], columns["entry"], columns["note"]))
    return found


def same(stage, what, expected, found):
    lost, extra = expected - found, found - expected
    stage.check(f"{what}, {sum(expected.values())} rows", not lost and not extra,
                f"{sum(lost.values())} are missing, {sum(extra.values())} too many\n{list(lost)[:3]}\n{list(extra)[:3]}")


def folder_of(place, name, suffix=""):
    return Path(place["LAKE"] + suffix) / name


def through_kills(stage, rnd, kills):
    expected = fill(stage.work / "in", rnd, 32, 20000)
    place = {**stage.place("local"), "IN": str(stage.work / "in")}
    job = stage.work / "out.sql"
    job.write_text(OUT)
    seen = []
    for _ in range(kills):
        run = stage.run_job(job, place, "--bounded", "--parallelism", "1")
        # How fast it is depends on the machine, so it dies behind some epochs and not after some time.
        wanted = (seen[-1] if seen else 0) + rnd.choice((1, 2, 2))
        until(lambda: not run.running() or len(lake.checkpoints(place, stage.env)) >= wanted, 120, "the next epoch", pause=0.002)
        if not run.running():
            break
        run.kill()
        seen.append(len(lake.checkpoints(place, stage.env)))
    stage.check(f"{len(seen)} kills met the job at work, epochs then {seen}", len(seen) >= min(kills, 3) and len(set(seen)) > 2)
    run = stage.run_job(job, place, "--bounded")
    stage.check("the last start ends well", run.wait(300) == 0, run.tail())
    letters = list(folder_of(place, "dead_letters").rglob("*.parquet")) if folder_of(place, "dead_letters").exists() else []
    stage.check("no record was refused", not letters, letters)
    for kind, rows in (("as_json", json_rows), ("as_csv", csv_rows), ("as_parquet", parquet_rows)):
        same(stage, f"{kind} is what Python reads of the input", expected, rows(folder_of(place, kind)))
    packed = sorted({"".join(path.suffixes[-2:]) for kind in ("as_json", "as_csv") for path in folder_of(place, kind).rglob("part-*")})
    stage.check(f"the names say how they are packed: {packed}", packed == [".csv.gz", ".json.zst"])

    job = stage.work / "back.sql"
    job.write_text(BACK)
    again = {**place, "CHECKPOINTS": place["CHECKPOINTS"] + "-back"}
    run = stage.run_job(job, again, "--bounded", "--parallelism", "1")
    if run.wait(rnd.uniform(0.5, 1.5)) is None:
        run.kill()
    run = stage.run_job(job, again, "--bounded")
    stage.check("reading back ends well", run.wait(300) == 0, run.tail())
    for kind in KINDS:
        same(stage, f"{kind}, read back through a kill", expected, json_rows(folder_of(place, kind, "-back")))


def watched(stage):
    folder = stage.work / "watched"
    folder.mkdir()
    place = {**stage.place("local"), "IN": str(folder)}
    job = stage.work / "watched.sql"
    job.write_text(SETTINGS + table("entries", "${IN}", "'format' = 'csv', 'source.monitor-interval' = '100 ms'")
                   + table("seen", "${LAKE}/seen", "'format' = 'json', 'sink.rolling-policy.rollover-interval' = '200 ms'")
                   + "INSERT INTO seen SELECT * FROM entries;\n")
    (folder / "a.csv").write_bytes(text_of([[1, "a", "first"]], False))
    run = stage.run_job(job, place)
    wanted = {(1, "a", "first")}

    def shown():
        return set(json_rows(folder_of(place, "seen")))

    def comes(what):
        until(lambda: shown() >= wanted or not run.running(), 30, what)

    comes("the first file")
    # Under a hidden name it is being written; renamed, it is whole.
    with open(folder / "_b.csv", "wb") as out:
        out.write(b"2,half a re")
        out.flush()
        (folder / "deep").mkdir()
        (folder / "deep" / "c.csv").write_bytes(text_of([[3, "c", "in a folder"]], False))
        wanted.add((3, "c", "in a folder"))
        comes("a file in a new folder")
        out.write(b"cord,b\n")
    (folder / "_b.csv").rename(folder / "b.csv")
    wanted.add((2, "half a record", "b"))
    comes("the renamed file")
    with open(folder / "a.csv", "ab") as out:
        out.write(b"4,appended,later\n")
    (folder / "d.csv.gz").write_bytes(b"")
    (folder / "d.csv.gz").unlink()
    (folder / "e.csv").write_bytes(text_of([[5, "e", "last"]], False))
    wanted.add((5, "e", "last"))
    comes("the last file")
    run.send(signal.SIGTERM)
    stage.check("a watched folder: the job ends well", run.wait(60) == 0, run.tail())
    stage.check("a watched folder: each whole file once, and nothing that was appended", json_rows(folder_of(place, "seen")) == Counter(wanted),
                json_rows(folder_of(place, "seen")))


MANY = SETTINGS + """
CREATE TABLE readings (id BIGINT, ts TIMESTAMP(3), text STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = '${IN}', 'format' = 'parquet');
CREATE TABLE minutes (window_start TIMESTAMP(3), n BIGINT, ids BIGINT, texts BIGINT) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/minutes', 'format' = 'json');
INSERT INTO minutes SELECT window_start, COUNT(*), SUM(id), SUM(CHAR_LENGTH(text))
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
"""


def many(stage, rnd, files=600, rows=2000):
    """Files whose times overlap and follow each other, more than can be open; each is in order, so no row may be late."""
    folder = stage.work / "many"
    folder.mkdir()
    texts = ["".join(rnd.choice("abcdefgh") for _ in range(300)) for _ in range(50)]
    counts, ids = Counter(), Counter()
    for file in range(files):
        start = file * 60_000 + rnd.randrange(60_000)
        times = [start + n * 120 for n in range(rows)]
        numbers = range(file * rows, (file + 1) * rows)
        counts.update(ts // 60_000 for ts in times)
        for number, ts in zip(numbers, times):
            ids[ts // 60_000] += number
        parquet.write_table(pa.table({
            "id": pa.array(numbers, pa.int64()), "ts": pa.array(times, pa.timestamp("ms")),
            "text": pa.array([texts[n % 50] + str(n) for n in numbers])}), folder / f"{file:05}.parquet", compression="none", use_dictionary=False)
    size = sum(path.stat().st_size for path in folder.iterdir())
    place = {**stage.place("local"), "IN": str(folder)}
    job = stage.work / "many.sql"
    job.write_text(MANY)
    began = time.monotonic()
    run = stage.run_job(job, place, "--bounded", "--memory", "256 MiB")
    peak = 0
    while run.wait(0.1) is None:
        try:
            status = open(f"/proc/{run.pid}/status").read()
            peak = max(peak, int(status.split("VmHWM:")[1].split()[0]))
        except (OSError, IndexError):
            pass
    stage.check(f"{files} files, {size >> 20} MB: read in {time.monotonic() - began:.0f} s", run.wait(0) == 0, run.tail())
    found = {}
    for path in folder_of(place, "minutes").rglob("*.json"):
        for row in map(json.loads, path.read_text().splitlines()):
            found[row["window_start"]] = (row["n"], row["ids"])
    wanted = {time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(minute * 60)): (n, ids[minute]) for minute, n in counts.items()}
    wrong = [minute for minute in wanted.keys() | found.keys() if wanted.get(minute) != found.get(minute)]
    stage.check(f"{files} files: {len(wanted)} minutes hold every row, none late", not wrong, [(m, wanted.get(m), found.get(m)) for m in sorted(wrong)[:5]])
    if peak:
        stage.check(f"{files} files: {peak >> 10} MB of memory at most", peak < 900 << 10)


def unreadable(stage):
    for name, content, code, says in (
            ("cut.csv.gz", gzip.compress(b"1,a,b\n" * 100_000)[:-20], 1, "ends too early"),
            ("spoilt.csv.gz", b"no gzip at all, whatever it is called", 1, "cannot be unpacked"),
            ("foreign.csv.bz2", b"BZh9", 2, "pack it as gz or zst")):
        folder = stage.work / f"in-{name}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        place = {**stage.place("local"), "IN": str(folder)}
        job = stage.work / "unreadable.sql"
        job.write_text(SETTINGS + table("entries", "${IN}", "'format' = 'csv'") + table("seen", "${LAKE}/seen", "'format' = 'json'")
                       + "INSERT INTO seen SELECT * FROM entries;\n")
        run = stage.run_job(job, place, "--bounded")
        got = run.wait(60)
        stage.check(f"{name} is named, exit code {code}", got == code and name in run.log() and says in run.log(), f"exit code {got}\n{run.tail()}")


arguments = argparse.ArgumentParser()
arguments.add_argument("--kills", type=int, default=8)
arguments.add_argument("--seed", type=int, default=5)
arguments = arguments.parse_args()
with Stage("files") as stage:
    rnd = random.Random(arguments.seed)
    through_kills(stage, rnd, arguments.kills)
    watched(stage)
    many(stage, rnd)
    unreadable(stage)
