"""What the jobs of the four other systems must make of the records in their topics: computed here once more, in plain Python.

A window drops what comes late, and which rows do is a matter of how partitions were read; the job says which they were, in its dead
letters. They are taken as it says, where they can be true: `may_be_late` has the rows that could be late at all.
"""

import csv
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

WATERMARK_MS = 120_000
MINUTE_MS = 60_000


def where(record):
    return record.topic, record.partition, record.offset


def moment(ms, pattern="%Y-%m-%d %H:%M:%S"):
    return datetime.fromtimestamp(ms / 1000, timezone.utc).strftime(pattern)


def date(ms):
    """As MongoDB's driver gives it."""
    return datetime(1970, 1, 1) + timedelta(milliseconds=ms)


def iso_ms(text):
    """2024-03-01T10:00:00.123456, cut to milliseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1_000_000) // 1000


class Bad(Exception):
    """A record that the job cannot use."""


def parsed(record, required, numbers):
    """The fields of a JSON record; `numbers` are those that have to be numbers where they are there."""
    try:
        fields = json.loads(record.value, parse_float=Decimal)
    except ValueError as error:
        raise Bad from error
    if not isinstance(fields, dict) or any(fields.get(name) is None for name in required):
        raise Bad
    for name in numbers:
        try:
            Decimal(str(fields.get(name, 0)))
        except InvalidOperation as error:
            raise Bad from error
    return fields


def sorted_out(records, required, numbers):
    """The records that can be used, with their fields, and those that cannot."""
    good, bad = [], []
    for record in records:
        try:
            good.append((record, parsed(record, required, numbers)))
        except Bad:
            bad.append(record)
    return good, bad


def may_be_late(events):
    """Those of (record, event time) whose minute is over by the watermark that rows before them, in their partition, have made."""
    found, furthest = set(), defaultdict(lambda: -(1 << 62))
    for record, at in sorted(events, key=lambda event: where(event[0])):
        split = record.topic, record.partition
        if (at // MINUTE_MS + 1) * MINUTE_MS - 1 <= furthest[split] - WATERMARK_MS:
            found.add(where(record))
        furthest[split] = max(furthest[split], at)
    return found


# ---- Medical entries ----

@dataclass
class Medical:
    lake: Counter = field(default_factory=Counter)
    processed: list = field(default_factory=list)
    documents: dict = field(default_factory=dict)
    letters: dict = field(default_factory=dict)  # place -> the text of the error; None: any


def lines(text):
    """The fields of each record of CSV."""
    return list(csv.reader(io.StringIO(text, newline="")))


def medical(records):
    expected = Medical()
    for record in records:
        rows = lines(record.value.decode())
        if len(rows) != 1 or len(rows[0]) != 3:
            expected.letters[where(record)] = None
            continue
        patient, entry, written = rows[0]
        illnesses, medicines = re.findall(r"signs of (\w+)", entry), re.findall(r"Prescribed (\w+)", entry)
        good_time = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", written)
        expected.lake[patient, entry, written, record.partition, record.offset, written[:10] if good_time else None] += 1
        problems = [text for wrong, text in (
            (not illnesses, "no illness is named"),
            (not medicines, "no medicine is named"),
            (not good_time, "the timestamp is not written as 2024-01-01 12:00"),
        ) if wrong]
        if problems:
            expected.letters[where(record)] = "; ".join(problems)
            continue
        row = {"patient_id": patient, "illness": illnesses[0], "medicine": medicines[0], "illnesses": illnesses, "medicines": medicines,
               "medical_entry": entry, "timestamp": written}
        expected.processed.append(row)
        name = f"medical-entries/{record.partition}/{record.offset}"
        expected.documents[name] = {**row, "entry_time": datetime.strptime(written, "%Y-%m-%d %H:%M")}
    return expected


# ---- Retail ----

REQUIRED = {
    "user_activity": (("user_id", "activity_type", "timestamp"), ("amount",)),
    "sales": (("transaction_id", "product_id", "quantity", "total_amount", "payment_method", "timestamp", "store_id", "category"),
              ("quantity", "unit_price", "total_amount")),
    "inventory": (("product_id", "current_stock", "reorder_level", "last_updated"), ("current_stock", "reorder_level")),
}


@dataclass
class Retail:
    bad: list = field(default_factory=list)
    raw: dict = field(default_factory=dict)
    minutes: dict = field(default_factory=dict)
    totals: dict = field(default_factory=dict)
    alerts: dict = field(default_factory=dict)
    may_be_late: set = field(default_factory=set)
    rows: Counter = field(default_factory=Counter)  # by topic


class Sum:
    """How many rows, and what they come to."""

    def __init__(self):
        self.events, self.quantity, self.amount, self.last = 0, None, None, None

    def add(self, at, quantity=None, amount=None):
        self.events += 1
        self.last = at if self.last is None else max(self.last, at)
        if quantity is not None:
            self.quantity = (self.quantity or 0) + quantity
        if amount is not None:
            self.amount = (self.amount or Decimal(0)) + amount

    def document(self, **more):
        amount = None if self.amount is None else float(self.amount)
        return without_none({**more, "events": self.events, "quantity": self.quantity, "amount": amount})


def without_none(fields):
    return {name: value for name, value in fields.items() if value is not None}


def plain(value):
    """A decimal as the number that a document has."""
    return float(value) if isinstance(value, Decimal) else value


def retail(records, late):
    """`late` are the places of the rows that the windows have dropped."""
    expected = Retail()
    minutes, totals, stock, times = defaultdict(Sum), defaultdict(Sum), {}, []
    for topic, (required, numbers) in REQUIRED.items():
        good, bad = sorted_out([record for record in records if record.topic == topic], required, numbers)
        expected.bad += bad
        expected.rows[topic] = len(good)
        # By partition and offset: of equal times of a product, the last one counts.
        for record, fields in sorted(good, key=lambda one: where(one[0])):
            name = "/".join(map(str, where(record)))
            at = iso_ms(fields.pop("last_updated" if topic == "inventory" else "timestamp"))
            document = {key: float(value) if key in ("amount", "unit_price", "total_amount") else plain(value) for key, value in fields.items()}
            expected.raw[name] = {**without_none(document), "topic": topic, "partition": record.partition, "offset": record.offset, "timestamp": date(at)}
            if topic == "inventory":
                product = fields["product_id"]
                if product not in stock or at >= stock[product][0]:
                    stock[product] = at, fields
                continue
            times.append((record, at))
            if topic == "sales":
                money = fields["quantity"], Decimal(fields["total_amount"])
                groups = [("sales_by_category", fields["category"]), ("sales_by_store", fields["store_id"]),
                          ("sales_by_payment_method", fields["payment_method"]), ("top_products", fields["product_id"])]
                sums = [("total", "sales"), ("sales_by_category", fields["category"])]
            else:
                amount = fields.get("amount")
                money = None, None if amount is None else Decimal(amount)
                groups, sums = [("activity_by_type", fields["activity_type"])], [("activity", fields["activity_type"])]
            for group in sums:
                totals[group].add(at, *money)
            if where(record) not in late:
                for group in groups:
                    minutes[*group, at // MINUTE_MS * MINUTE_MS].add(at, *money)
    expected.may_be_late = may_be_late(times)
    for (kind, name), total in totals.items():
        expected.totals[f"{kind}/{name}"] = total.document(type=kind, name=name, timestamp=date(total.last))
    best = defaultdict(list)
    for (kind, name, start), total in minutes.items():
        if kind == "top_products":
            best[start].append((-total.amount, name))
    for (kind, name, start), total in minutes.items():
        place = None
        if kind == "top_products":
            place = sorted(best[start]).index((-total.amount, name)) + 1
            if place > 10:
                continue
        expected.minutes[f"{kind}/{name}/{moment(start)[:16]}"] = total.document(
            type=kind, name=name, timestamp=date(start), window_end=date(start + MINUTE_MS), **without_none({"place": place}))
    for product, (at, fields) in stock.items():
        if fields["current_stock"] <= fields["reorder_level"]:
            status = "out_of_stock" if fields["current_stock"] <= 0 else "low_stock"
            expected.alerts[f"stock_alert/{product}"] = {
                "type": "stock_alert", "name": product, "timestamp": date(at), "status": status, "current_stock": fields["current_stock"],
                "reorder_level": fields["reorder_level"], "warehouse_id": fields["warehouse_id"], "category": fields["category"]}
    return expected


# ---- Logins ----

LOGIN = ("user_id", "app_version", "ip", "locale", "device_id", "timestamp", "device_type")


@dataclass
class Analytics:
    bad: list
    valid: list
    document: dict
    anomalies: list
    may_be_late: set


def analytics(records, late, threshold=10):
    good, bad = sorted_out(records, ("locale", "timestamp", "device_type"), ("timestamp",))
    logins, users = Counter(), defaultdict(set)
    for record, fields in good:
        if where(record) not in late:
            minute = fields["timestamp"] // 60 * MINUTE_MS
            logins[minute] += 1
            if "user_id" in fields:
                users[minute].add(fields["user_id"])
    unusual = [(moment(minute), moment(minute + MINUTE_MS), count, len(users[minute]), threshold)
               for minute, count in logins.items() if count > threshold]
    valid = [fields for _, fields in good]
    document = {
        "Logins by Device Type": dict(Counter(fields["device_type"] for fields in valid)),
        "Logins by Locale": dict(Counter(fields["locale"] for fields in valid)),
        "Logins Over Time": dict(Counter(moment(fields["timestamp"] * 1000)[:16] for fields in valid)),
    }
    times = [(record, fields["timestamp"] * 1000) for record, fields in good]
    return Analytics(bad, valid, document, unusual, may_be_late(times))


@dataclass
class Privacy:
    bad: list
    kept: list
    others: list
    device_types: Counter
    locales: Counter


def privacy(records, key=""):
    def masked(text):
        def digest(of):
            return hashlib.sha256(of.encode()).hexdigest()

        return digest(key + digest(key + text)) if key else digest(text)

    good, bad = sorted_out(records, LOGIN, ("timestamp",))
    rows = [{**fields, "ip": masked(fields["ip"]), "device_id": masked(fields["device_id"]), "timestamp": moment(fields["timestamp"] * 1000)}
            for _, fields in good]
    return Privacy(
        bad,
        [row for row in rows if row["app_version"] == "2.3.0"],
        [row for row in rows if row["app_version"] != "2.3.0"],
        Counter(row["device_type"] for row in rows),
        Counter(row["locale"] for row in rows),
    )
