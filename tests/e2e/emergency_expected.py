"""Every table of the emergency job, computed from the bytes in its topics: plainly, and independently of the engine.

Written from the job's contract and the meaning of Flink SQL. Three things are said openly instead of guessed:

* Late rows. A watermark is two minutes behind the newest event time of its partition, and an operator's watermark is the
  minimum over partitions. So a row that is not late by the watermark of its own partition is late nowhere, and the tables are
  exact. `Expected.may_be_late` lists the rows for which that cannot be said; a caller that wants exact tables asserts that it is empty, or
  says which of them were `late`, and so are in no window. A breach or a dispatch that may be behind the watermark may have missed the
  other: `Expected.unsure` has the ids of such breaches.
* Malformed records. A record is malformed when it is not a JSON object in UTF-8, or a value cannot be read as its column's type.
  A missing field is NULL. A record on which one may disagree (the text "72" for a number) raises `Unspecified`.
* Refused rows. A row without an event time, or one more than a day ahead of the clock, becomes a dead letter too.
"""

import json
import math
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone

from topics import DISPATCHES, PATIENTS

SECOND, MINUTE, DAY = 1_000_000, 60_000_000, 86_400_000_000  # in microseconds, as all times here
DEFAULTS = {"HEART_RATE_MAX": 180, "HEART_RATE_MIN": 55, "OXYGEN_SATURATION_MIN": 88, "VO2_MAX_MIN": 18, "RESPONSE_MINUTES": 15}

LOCATION = {"latitude": "double", "longitude": "double"}
SCHEMAS = {
    PATIENTS: {"id": "string", "patient_id": "string", "heart_rate": "int", "oxygen_saturation": "double", "vo2_max": "double",
               "location": LOCATION, "emergency_alert": "boolean", "timestamp": "timestamp"},
    DISPATCHES: {"id": "string", "vehicle_id": "string", "vehicle_type": "string", "vehicle_capacity": "string", "location": LOCATION,
                 "patient_id": "string", "dispatch_time": "timestamp", "timestamp": "timestamp"},
}
ROWTIME = {PATIENTS: "timestamp", DISPATCHES: "dispatch_time"}


class Malformed(Exception):
    """The record becomes a dead letter."""


class Unspecified(Exception):
    """The rules above do not say what this record is."""


@dataclass
class Expected:
    tables: dict = field(default_factory=lambda: {name: [] for name in
                         ("patient_data", "emergency_vehicle_data", "breaches", "vitals_1m", "emergency_responses")})
    malformed: list = field(default_factory=list)
    refused: list = field(default_factory=list)
    null: int = 0
    decoded: Counter = field(default_factory=Counter)
    may_be_late: list = field(default_factory=list)
    unsure: set = field(default_factory=set)


# ---- Bytes to rows ----

def decode(record):
    def no_constant(text):
        raise Malformed(text)

    try:
        found = json.loads(record.value.decode("utf-8"), parse_constant=no_constant)
    except ValueError as error:
        raise Malformed(str(error)) from None
    if isinstance(found, list):
        raise Unspecified(f"an array at {record}")
    if not isinstance(found, dict):
        raise Malformed("not an object")
    return convert_object(found, SCHEMAS[record.topic])


def convert_object(found, schema):
    return {name: convert(found.get(name), kind) for name, kind in schema.items()}


def convert(value, kind):
    if value is None:
        return None
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            raise Malformed(f"{value!r} is not an object")
        return convert_object(value, kind)
    if kind == "timestamp":
        return microseconds(value)
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind in ("int", "double") and isinstance(value, str):
        if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?[dDfF]?\s*|NaN|-?Infinity", value):
            raise Unspecified(f"{value!r} for a number")
        raise Malformed(f"{value!r} is not a number")
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        if -2**31 <= value < 2**31:
            return value
        raise Malformed(f"{value} is outside INT")
    if kind == "double" and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, (dict, list)) and kind != "string":
        raise Malformed(f"{value!r} for {kind}")
    raise Unspecified(f"{value!r} for {kind}")


TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def microseconds(text):
    match = TIMESTAMP.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise Malformed(f"{text!r} is not a timestamp")
    *whole, fraction = match.groups()
    try:
        moment = datetime(*map(int, whole), tzinfo=timezone.utc)
    except ValueError as error:
        raise Malformed(str(error)) from None
    days = moment - EPOCH
    return (days.days * 86400 + days.seconds) * SECOND + int(((fraction or "") + "000000")[:6])


def milliseconds(time_us):
    """CAST to TIMESTAMP(3) cuts, it does not round."""
    return time_us // 1000 * 1000


def day_and_hour(time_us):
    moment = datetime.fromtimestamp(time_us // SECOND, timezone.utc)
    return moment.strftime("%Y-%m-%d"), moment.strftime("%H")


# ---- Rows to tables ----

def compute(records, environment=None, late=frozenset()):
    """The tables for `records`, in the order of their offsets within each partition; `late` are places of readings that no window took."""
    setting = {name: int((environment or {}).get(name, default)) for name, default in DEFAULTS.items()}
    expected = Expected()
    readings, dispatches = [], []
    newest = defaultdict(lambda: -math.inf)
    horizon = int(time.time()) * SECOND + DAY
    for record in sorted(records, key=lambda r: (r.topic, r.partition, r.offset)):
        if record.value is None:
            expected.null += 1
            continue
        try:
            row = decode(record)
        except Malformed:
            expected.malformed.append(record)
            continue
        expected.decoded[record.topic] += 1
        at = row[ROWTIME[record.topic]]
        if at is None or at > horizon:
            expected.refused.append(record)
            continue
        row["at"] = milliseconds(at)
        row["behind"] = row["at"] <= newest[(record.topic, record.partition)] - 2 * MINUTE
        row["late"] = (record.topic, record.partition, record.offset) in late
        split = (record.topic, record.partition)
        if minute_is_over(row["at"], newest[split] - 2 * MINUTE):
            expected.may_be_late.append(record)
        newest[split] = max(newest[split], row["at"])
        (readings if record.topic == PATIENTS else dispatches).append(row)

    tables = expected.tables
    breaches = []
    for row in readings:
        tables["patient_data"].append(raw(row, SCHEMAS[PATIENTS]))
        row["reasons"] = reasons(row, setting)
        if row["reasons"]:
            row["severity"] = min(len(row["reasons"]), 3)
            breaches.append(row)
    tables["emergency_vehicle_data"] = [raw(row, SCHEMAS[DISPATCHES]) for row in dispatches]
    tables["breaches"] = [breach_row(row) for row in breaches]
    tables["vitals_1m"] = vitals([row for row in readings if not row["late"]])
    tables["emergency_responses"] = responses(breaches, dispatches, setting["RESPONSE_MINUTES"] * MINUTE, expected.unsure)
    return expected


def minute_is_over(at, watermark):
    """Whether the one-minute window of `at` has fired: the strictest of the job's operators about late rows."""
    return watermark >= at // MINUTE * MINUTE + MINUTE - 1000


def raw(row, schema):
    out = []
    for name, kind in schema.items():
        if isinstance(kind, dict):
            place = row[name]
            out += [place is None, *((place or {}).get(part) for part in kind)]
        else:
            out.append(row[name])
    return (*out, *day_and_hour(row["at"]))


def reasons(row, setting):
    def breaks(value, test):
        return value is not None and test(value)

    found = []
    if breaks(row["heart_rate"], lambda v: v > setting["HEART_RATE_MAX"]):
        found.append("heart_rate_high")
    if breaks(row["heart_rate"], lambda v: v < setting["HEART_RATE_MIN"]):
        found.append("heart_rate_low")
    if breaks(row["oxygen_saturation"], lambda v: v < setting["OXYGEN_SATURATION_MIN"]):
        found.append("oxygen_low")
    if breaks(row["vo2_max"], lambda v: v < setting["VO2_MAX_MIN"]):
        found.append("vo2_low")
    if row["emergency_alert"]:
        found.append("alert")
    return tuple(found)


def place_of(row, part):
    return (row["location"] or {}).get(part)


def breach_row(row):
    return (row["id"], row["patient_id"], row["at"], row["heart_rate"], row["oxygen_saturation"], row["vo2_max"],
            place_of(row, "latitude"), place_of(row, "longitude"), row["reasons"], row["severity"], *day_and_hour(row["at"]))


def vitals(readings):
    groups = defaultdict(list)
    for row in readings:
        groups[(row["at"] // MINUTE * MINUTE, row["patient_id"])].append(row)
    out = []
    for (start, patient), rows in groups.items():
        line = [start, start + MINUTE, patient, len(rows), sum(1 for row in rows if row["reasons"])]
        for name in ("heart_rate", "oxygen_saturation", "vo2_max"):
            values = [row[name] for row in rows if row[name] is not None]
            line += [min(values), max(values), math.fsum(values) / len(values)] if values else [None, None, None]
        out.append((*line, *day_and_hour(start)))
    return out


def unanswered(head, dt_and_hour):
    return (*head, False, None, None, None, None, None, None, None, *dt_and_hour)


def responses(breaches, dispatches, within, unsure):
    by_patient = defaultdict(list)
    for dispatch in dispatches:
        by_patient[dispatch["patient_id"]].append(dispatch)
    out = []
    for breach in breaches:
        head = (breach["id"], breach["patient_id"], breach["at"], breach["reasons"], breach["severity"])
        candidates = by_patient[breach["patient_id"]] if breach["patient_id"] is not None else []
        answers = [d for d in candidates if breach["at"] <= d["at"] <= breach["at"] + within]
        if breach["behind"] or any(d["behind"] for d in answers):
            unsure.add(breach["id"])
        for d in answers:
            arrival = d["timestamp"]
            to_arrival = None if arrival is None else int(math.trunc((milliseconds(arrival) - breach["at"]) / SECOND))
            out.append((*head, d["vehicle_id"] is not None, d["vehicle_id"], d["vehicle_type"], d["at"], arrival,
                        (d["at"] - breach["at"]) // SECOND, to_arrival, distance(breach, d), *day_and_hour(breach["at"])))
        if not answers:
            out.append(unanswered(head, day_and_hour(breach["at"])))
    return out


def distance(breach, dispatch):
    """Haversine, in kilometres."""
    a, b = ((place_of(row, "latitude"), place_of(row, "longitude")) for row in (breach, dispatch))
    if None in a or None in b:
        return None
    north, east = math.radians(b[0] - a[0]) / 2, math.radians(b[1] - a[1]) / 2
    h = math.sin(north) ** 2 + math.cos(math.radians(a[0])) * math.cos(math.radians(b[0])) * math.sin(east) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(h))
