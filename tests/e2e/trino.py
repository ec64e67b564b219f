"""Questions to Trino through its HTTP interface: a statement is posted, and its answer read page by page.

    trino = Trino(env["TRINO_URL"], schema="lake")
    trino.rows("SELECT count(*) FROM readings")     # [(5,)]
"""

import base64
import json
import struct
import time
import urllib.error
import urllib.request
from datetime import date, datetime
from decimal import Decimal

PATIENCE_SECONDS = 300


class TrinoError(Exception):
    """A statement that failed, in Trino's words; `name` is Trino's for the kind of error, such as HIVE_BAD_DATA."""

    def __init__(self, sql, name, message):
        super().__init__(f"{name}: {message}\n     in: {sql}")
        self.name = name


class Trino:
    def __init__(self, url, schema="default", catalog="hive"):
        self.url = url
        # Without the capability every timestamp is cut to milliseconds.
        self.headers = {"X-Trino-User": "e2e", "X-Trino-Catalog": catalog, "X-Trino-Schema": schema, "X-Trino-Time-Zone": "UTC",
                        "X-Trino-Client-Capabilities": "PARAMETRIC_DATETIME"}

    def rows(self, sql):
        """The rows as tuples of what Python has for each type."""
        return self.ask(sql)[1]

    def types(self, sql):
        """The names and types of the columns, as Trino writes them."""
        return {column["name"]: column["type"] for column in self.ask(sql)[0]}

    def ask(self, sql):
        """Columns and rows of a statement."""
        end = time.monotonic() + PATIENCE_SECONDS
        columns, rows = None, []
        answer = self.http(sql, f"{self.url}/v1/statement", sql.encode())
        while True:
            columns = answer.get("columns", columns)
            rows += [tuple(value(cell, column["typeSignature"]) for cell, column in zip(row, columns)) for row in answer.get("data", ())]
            if "error" in answer:
                raise TrinoError(sql, answer["error"].get("errorName"), answer["error"].get("message"))
            if "nextUri" not in answer:
                return columns or [], rows
            if time.monotonic() > end:
                raise TrinoError(sql, "NO_ANSWER", f"nothing after {PATIENCE_SECONDS} s; its state is {answer.get('stats', {}).get('state')}")
            # Trino holds each request for up to a second until there is something to say, so this loop does not spin.
            answer = self.http(sql, answer["nextUri"])

    def http(self, sql, url, body=None):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, self.headers), timeout=PATIENCE_SECONDS) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise TrinoError(sql, f"HTTP {error.code}", error.read()[:300].decode(errors="replace")) from None
        except OSError as error:
            raise TrinoError(sql, "NO_CONNECTION", f"{self.url}: {error}") from None


def value(cell, kind):
    """A cell of the JSON answer as a Python value: a ROW is a dict by field, as is a MAP by key; an ARRAY is a list."""
    if cell is None:
        return None
    name, arguments = kind["rawType"], kind["arguments"]
    if name == "array":
        return [value(item, arguments[0]["value"]) for item in cell]
    if name == "map":
        key, item = arguments[0]["value"], arguments[1]["value"]
        return {value(k, key): value(v, item) for k, v in cell.items()}
    if name == "row":
        fields = [argument["value"] for argument in arguments]
        return {field["fieldName"]["name"]: value(item, field["typeSignature"]) for item, field in zip(cell, fields)}
    scalar = SCALARS.get(name)
    return scalar(cell) if scalar else cell


SCALARS = {
    "tinyint": int, "smallint": int, "integer": int, "bigint": int,  # the keys of a map come as text
    "double": float,  # NaN and Infinity come as text
    "real": lambda cell: struct.unpack("f", struct.pack("f", float(cell)))[0],  # as many digits as a float has
    "decimal": Decimal,
    "varbinary": base64.b64decode,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
}
