"""Runs the same work on Tributary and on Spark, one after the other, and prints one table.

usage: measure.py COUNT BOOTSTRAP TRIBUTARY SPARK_PYTHON SPARK_JARS [--rounds N]

Wall time is from the start of the process to its end, so it includes Java's start; CPU and peak memory are what the system counted for
the process and its children. Every run begins from nothing, and its rows are counted in the files it wrote. The better of the rounds counts."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from measured import run

HERE = Path(__file__).resolve().parent


def rows(out, table):
    return duckdb.sql(f"SELECT count(*) FROM read_parquet('{out}/data/{table}/**/*.parquet')").fetchall()[0][0]


parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
parser.add_argument("count", type=int)
for name in ("bootstrap", "tributary", "spark_python", "spark_jars"):
    parser.add_argument(name)
parser.add_argument("--rounds", type=int, default=2)
a = parser.parse_args()

spark_home = subprocess.run([a.spark_python, "-c", "import pyspark; print(pyspark.__path__[0])"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
jars = ",".join(map(str, sorted(Path(a.spark_jars).glob("*.jar"))))
PEERS = {
    "tributary": lambda out: ([a.tributary, "run", HERE / "seed.sql", "--bounded", "--http", "off"], {"OUT": out, "BOOTSTRAP": a.bootstrap}),
    "spark 3.5.1": lambda out: (
        [f"{spark_home}/bin/spark-submit", "--master", "local[2]", "--driver-memory", "4g", "--jars", jars, HERE / "spark.py", out, a.bootstrap],
        {"SPARK_HOME": spark_home, "PYSPARK_PYTHON": a.spark_python, "PYSPARK_DRIVER_PYTHON": a.spark_python}),
}
best = {}
for round_number in range(a.rounds):
    for peer, what in PEERS.items():
        work = tempfile.mkdtemp(prefix="tributary-peers.")
        command, env = what(f"{work}/out")
        found = run(command, {**os.environ, **env}, f"{work}/log")
        counted = rows(f"{work}/out", "patient_data"), rows(f"{work}/out", "emergency_vehicle_data")
        if counted != (a.count, (a.count + 9) // 10):
            sys.exit(f"{peer} wrote {counted} rows; its output is in {work}")
        shutil.rmtree(work)
        print(f"round {round_number + 1}: {peer}: {found[0]:.1f} s", file=sys.stderr)
        best[peer] = min(best.get(peer, found), found)

total = a.count + (a.count + 9) // 10
base = best["spark 3.5.1"]
print(f"\n{total} records, {os.cpu_count()} cores, better of {a.rounds}\n")
print("| what | wall s | records/s | CPU s | peak MB | Spark's wall / its wall | Spark's memory / its memory |")
print("|---|---:|---:|---:|---:|---:|---:|")
for peer, (wall, cpu, memory) in best.items():
    print(f"| {peer} | {wall:.1f} | {total / wall:,.0f} | {cpu:.1f} | {memory:.0f} | {base[0] / wall:.1f} | {base[2] / memory:.1f} |")
