"""Runs the same works on Tributary and on its peers, one after another, compares what they wrote, and prints one table.

Wall time is from the start of the process to its end, so it includes Java's start. Every run begins from nothing, with 2 cores, in turns from the first
to the last and back; the better of the rounds counts. The first output is the first file that a reader would take. `benches/peers/run` calls this."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "e2e"))
import agree  # noqa: E402
from contestants import ENGINES, NAMES, WORKS  # noqa: E402
from harness import ROOT, Stage  # noqa: E402
from measured import watched  # noqa: E402


def listed(known):
    def parse(text):
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is not one of {','.join(known)}")
        return names
    return parse


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description="Tributary beside Spark, Flink and a script written by hand.")
    parser.add_argument("count", nargs="?", type=int, default=2_000_000, metavar="COUNT", help="patient records; and a tenth as many vehicle records")
    parser.add_argument("rounds", nargs="?", type=int, default=2, metavar="ROUNDS", help="the better of which counts")
    works, peers = [*WORKS, "limits"], [*ENGINES]
    parser.add_argument("--work", type=listed(works), default=works, metavar=",".join(works), help="all, if nothing is said")
    parser.add_argument("--peers", type=listed(peers), default=peers, metavar=",".join(peers), help="all, if nothing is said")
    a = parser.parse_args()
    with Stage("peers", "kafka") as stage:
        engines = {peer: ENGINES[peer](stage.work) for peer in a.peers}
        subprocess.run([sys.executable, HERE / "load.py", str(a.count), stage.kafka], check=True)
        best, written = {}, {}
        for number in range(a.rounds):
            # Who comes first meets a broker that has rested: in every other round it is the one who came last.
            order = list(engines.items())[:: -1 if number % 2 else 1]
            for work in a.work:
                for peer, engine in order:
                    if work in WORKS and work in engine.works:
                        one_run(stage, a.count, work, peer, engine, number, best, written)
        compare(stage, a.count, written)
        if best:
            table(a, best)
        if "limits" in a.work:
            print(flush=True)
            subprocess.run(["cargo", "bench", "--profile", "release", "--bench", "limits", "--locked", "--", stage.kafka], cwd=ROOT, check=True)
            stage.check("the limits were measured", True)


def one_run(stage, count, work, peer, engine, number, best, written):
    """Keeps what it took if that is the best so far, and a summary of what it wrote."""
    folder = stage.work / f"{work}-{peer}-{number + 1}"
    folder.mkdir()
    tables = {table: folder / "lake" / table for table in WORKS[work]}
    command, more = engine.command(work, folder)
    env = {**stage.env, **more, "LAKE": f"file://{folder}/lake", "CHECKPOINTS": f"file://{folder}/checkpoints"}
    # What the run before has left to be written would be paid by this one.
    os.sync()
    try:
        taken = watched(command, env, folder / "log", lambda: any(map(engine.files, tables.values())))
    except RuntimeError as error:
        # The others go on, and the folder stays for a look.
        stage.check(f"{work}: {NAMES[peer]} comes to its end, round {number + 1}", False, error)
        return
    files = {table: engine.files(where) for table, where in tables.items()}
    size = sum(os.path.getsize(file) for found in files.values() for file in found)
    for table, found in files.items():
        kept = {"all": "TRUE", "spark": agree.condition_of_spark(work, table, count)}
        written.setdefault((work, table), {})[peer, number] = {of: agree.summary(found, rows) for of, rows in kept.items()}
    print(f"round {number + 1}, {work}: {NAMES[peer]}: {taken.wall:.1f} s", file=sys.stderr)
    if (work, peer) not in best or taken.wall < best[work, peer][0].wall:
        best[work, peer] = taken, size, sum(map(len, files.values()))
    shutil.rmtree(folder)


def compare(stage, count, written):
    """Every table of every run with that of the first run, and the first with what was loaded."""
    for (work, table), runs in written.items():
        (first, _), reference = next(iter(runs.items()))
        rows = reference["all"]["rows"]
        loaded = {"patient_data": count, "emergency_vehicle_data": (count + 9) // 10}.get(table)
        if loaded is not None:
            stage.check(f"{work}: {table}: {NAMES[first]} wrote the {loaded} rows that were loaded", rows == loaded, f"{rows} rows")
        for (peer, number), found in list(runs.items())[1:]:
            # Of the rows that Spark keeps for later it must have written none, which is that all it has are those that it should have.
            ours = reference["spark" if "spark" in (peer, first) else "all"]
            theirs = found["spark" if first == "spark" else "all"]
            said = f"{work}: {table}: {NAMES[peer]} and {NAMES[first]} agree, round {number + 1}, {theirs['rows']} rows"
            if peer == "spark" and rows > theirs["rows"]:
                said += f"; {rows - theirs['rows']} that are open at the end Spark keeps for later"
            problem = agree.difference(ours, theirs)
            stage.check(said, not problem, problem)


def table(a, best):
    print(f"\n{a.count} patient records and {(a.count + 9) // 10} vehicle records, {os.cpu_count()} cores, better of {a.rounds}\n")
    print("| work | what | wall s | records/s | CPU s | peak MB | first output s | output MB | files | its wall / Tributary's |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for (work, peer), (taken, size, files) in best.items():
        records = a.count if work == "c" else a.count + (a.count + 9) // 10
        ours = best.get((work, "tributary"))
        ratio = f"{taken.wall / ours[0].wall:.1f}" if ours else ""
        first = f"{taken.first:.1f}" if taken.first else "none"
        print(f"| {work} | {NAMES[peer]} | {taken.wall:.1f} | {records / taken.wall:,.0f} | {taken.cpu:.1f} | {taken.memory:.0f} "
              f"| {first} | {size / 1e6:.0f} | {files} | {ratio} |", flush=True)


main()
