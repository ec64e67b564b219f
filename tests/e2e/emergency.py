"""What the scripts do with the emergency job time and again: generate, run to the end, compare every row."""

import json
import signal

import lake
import topics
from emergency_expected import compute
from harness import JOB

INPUTS = (topics.PATIENTS, topics.DISPATCHES)


def has_alerts():
    return topics.ALERTS in JOB.read_text()


def fresh_topics(stage):
    topics.fresh(stage.kafka, *INPUTS, topics.ALERTS)


def generate(stage, *options, seconds=180):
    """Fills the topics and waits for it."""
    run = stage.tributary("generate", "emergency", "--to", f"kafka://{stage.kafka}", *options)
    assert run.wait(seconds) == 0, f"generate failed:\n{run.tail()}"


def flow(stage, seed, rate=1500):
    """A generator that goes on until `ebb`. Its event time goes on too, so that no row is late, whatever happens to the job meanwhile."""
    # Far more than any script waits for.
    count = rate * 1800
    return stage.tributary("generate", "emergency", "--to", f"kafka://{stage.kafka}", "--rate", str(rate), "--count", str(count), "--seed", str(seed))


def ebb(generator):
    assert generator.running(), f"the generator ended by itself:\n{generator.tail()}"
    generator.send(signal.SIGTERM)
    generator.wait(30)


def expected_of(stage, clean=True):
    """The expected tables of what the topics hold now; `clean` data can have no late rows."""
    expected = compute([record for topic in INPUTS for record in topics.read(stage.kafka, topic)])
    if clean:
        assert not expected.may_be_late, f"data was generated clean, but {len(expected.may_be_late)} rows may be late, such as {expected.may_be_late[0]}"
    return expected


def run_to_end(stage, place, what, job=JOB, seconds=300, options=()):
    """`run --bounded`, which has to end well."""
    run = stage.run_job(job, place, "--bounded", *options)
    code = run.wait(seconds)
    return stage.check(f"{what}: run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")


def compare(stage, place, what, expected, dead_letters=True):
    """Every table, the dead letters and, where the job has them, the alerts."""
    local = lake.localised(place["LAKE"], stage.env, stage.work)
    lake.check_tables(stage, what, expected, local)
    if dead_letters:
        lake.check_dead_letters(stage, what, expected, local)
    return local


def compare_alerts(stage, what, expected):
    """The alerts topic, as a reader of committed transactions sees it: one alert for each unanswered breach."""
    if not has_alerts():
        return
    unanswered = sorted(row[0] for row in expected.tables["emergency_responses"] if not row[5])
    alerts = [json.loads(record.value) for record in topics.read(stage.kafka, topics.ALERTS)]
    found = sorted(alert.get("breach_id", alert.get("id")) for alert in alerts)
    stage.check(f"{what}: {topics.ALERTS}, {len(unanswered)} alerts", found == unanswered,
                f"{len(unanswered)} expected, {len(found)} found, {len(set(found))} of them different")


def check_audit(stage, place, what, job=JOB):
    """The books balance, by the engine's own account and by ours: nothing read has vanished."""
    audit = stage.tributary("audit", job, env=place)
    code = audit.wait(60)
    stage.check(f"{what}: audit exits 0", code == 0, f"exit code {code}\n{audit.tail()}")
    last = lake.checkpoints(place, stage.env)[-1]
    books = last["ledger"]
    ends = {topic: sum(topics.ends(stage.kafka, topic)) for topic in INPUTS}
    read = sum(book["records"] for book in books["sources"].values())
    stage.check(f"{what}: {sum(ends.values())} records are in the books", read == sum(ends.values()), json.dumps(books["sources"]))
    off = [name for name, b in books["sources"].items()
           if b["records"] != b["decoded"] + b["null"] + b["malformed"] + b["ignored"] or b["rows"] != b["accepted"] + b["refused"]]
    off += [name for name, b in books["operators"].items() if b["rows_in"] != b["used"] + b["filtered"] + b["late"]]
    off += [name for name, b in books["sinks"].items() if b["written"] != b["published"] + b["carried"] + b["rejected"]]
    stage.check(f"{what}: every book balances", not off, f"{off} of {json.dumps(books)}")
    return books
