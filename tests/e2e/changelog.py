"""What a printed changelog adds up to, whoever printed it; and orders to make one of."""

import json
import random
import re
from collections import Counter

LINE = re.compile(r"^(\w+)> ([+-][IUD])\[(.*)\]$", re.MULTILINE)


def write_orders(folder, count):
    """In one file, so that their order is that of their times, but for less than the watermark waits."""
    draw = random.Random(7)
    folder.mkdir(parents=True)
    with open(folder / "orders.json", "w") as out:
        for number in range(count):
            second = number * 7200 // count + draw.randrange(40)
            order = {
                "id": number,
                "customer": f"customer {draw.randrange(40)}",
                "category": draw.choice("abc"),
                "product": f"product {int(draw.triangular(0, 12, 2))}",
                "amount": draw.randrange(100),
                "ts": f"2024-01-01 {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{draw.randrange(1000):03}",
            }
            out.write(json.dumps(order) + "\n")


def held(text):
    """For each table the rows that hold behind the last change, and how often each of them is there."""
    tables = {}
    for table, kind, row in LINE.findall(text):
        tables.setdefault(table, Counter())[row] += 1 if kind in ("+I", "+U") else -1
    return {table: +rows for table, rows in tables.items()}, {table for table, rows in tables.items() if -rows}
