"""Avro behind Confluent's head, written and read by hand, and a registry asked by hand: nothing here is shared with the engine."""

import base64
import json
import struct
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit


def number(value):
    """A zigzag number of seven bits a byte."""
    rest, out = (value << 1) ^ (value >> 63), bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(out) + bytes([rest])


def encode(schema, value):
    """A value as its schema has it; of a union the branch is null or the other one."""
    if isinstance(schema, list):
        branch = next(at for at, of in enumerate(schema) if (of == "null") == (value is None))
        return number(branch) + encode(schema[branch], value)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return b"".join(encode(field["type"], value[field["name"]]) for field in schema["fields"])
    if kind == "array":
        return (number(len(value)) + b"".join(encode(schema["items"], item) for item in value) if value else b"") + b"\0"
    if kind == "string":
        return number(len(value.encode())) + value.encode()
    return {"null": lambda: b"", "boolean": lambda: bytes([value]), "int": lambda: number(value), "long": lambda: number(value),
            "float": lambda: struct.pack("<f", value), "double": lambda: struct.pack("<d", value)}[kind]()


class Reading:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        assert self.at <= len(self.data), "the record is cut off"
        return self.data[self.at - count:self.at]

    def number(self):
        found, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found >> 1 if found % 2 == 0 else -(found >> 1) - 1

    def value(self, schema):
        if isinstance(schema, list):
            return self.value(schema[self.number()])
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind == "record":
            return {field["name"]: self.value(field["type"]) for field in schema["fields"]}
        if kind == "array":
            items = []
            while count := self.number():
                items += [self.value(schema["items"]) for _ in range(count)]
            return items
        if kind == "bytes":
            found = self.take(self.number())
            if schema["logicalType"] == "decimal":
                return int.from_bytes(found, "big", signed=True) / 10 ** schema["scale"]
            return found
        return {"null": lambda: None, "boolean": lambda: self.take(1) == b"\1", "int": self.number, "long": self.number,
                "float": lambda: struct.unpack("<f", self.take(4))[0], "double": lambda: struct.unpack("<d", self.take(8))[0],
                "string": lambda: self.take(self.number()).decode()}[kind]()


class Registry:
    """Asks a registry, and remembers what it said of an id."""

    def __init__(self, url):
        self.url, self.known = url, {}

    def ask(self, path, body=None, method=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/vnd.schemaregistry.v1+json"}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def register(self, subject, schema):
        return self.ask(f"/subjects/{quote(subject, safe='')}/versions", {"schema": json.dumps(schema)})["id"]

    def keep_backward(self, subject):
        self.ask(f"/config/{quote(subject, safe='')}", {"compatibility": "BACKWARD"}, "PUT")

    def versions(self, subject):
        return self.ask(f"/subjects/{quote(subject, safe='')}/versions")

    def schema(self, identity):
        if identity not in self.known:
            self.known[identity] = json.loads(self.ask(f"/schemas/ids/{identity}")["schema"])
        return self.known[identity]

    def read(self, record):
        """The id of a record's schema, and its value."""
        assert record[0] == 0
        identity = struct.unpack(">I", record[1:5])[0]
        reading = Reading(record[5:])
        value = reading.value(self.schema(identity))
        assert reading.at == len(reading.data), "bytes are left behind the record"
        return identity, value


def written(identity, schema, value):
    return b"\0" + struct.pack(">I", identity) + encode(schema, value)


class Gate:
    """Stands before a registry and lets only those pass who know the password."""

    def __init__(self, target, user_info):
        expected = "Basic " + base64.b64encode(user_info.encode()).decode()
        self.passed = self.refused = 0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.headers.get("authorization") != expected:
                    gate.refused += 1
                    return self.say(401, json.dumps({"error_code": 40101, "message": "Unauthorized"}).encode())
                gate.passed += 1
                base = urlsplit(target)
                kept = {name: self.headers[name] for name in ("content-type",) if name in self.headers}
                request = urllib.request.Request(f"{base.scheme}://{base.netloc}{self.path}", body or None, kept, method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=20) as found:
                        self.say(found.status, found.read())
                except urllib.error.HTTPError as error:
                    self.say(error.code, error.read())
                except (urllib.error.URLError, ConnectionError):
                    self.close_connection = True  # as if nobody were behind it

            do_GET = do_POST = answer

            def say(self, code, body):
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # a client that was killed hears no answer

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{urlsplit(target).path}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
