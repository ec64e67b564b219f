"""Stands between a job and Glue, lets every request pass, and makes trouble when it is told to. It remembers what it saw.

    proxy = GlueProxy(env["AWS_ENDPOINT_URL_GLUE"])
    proxy.make("throttled", after=3)      # lets three changes pass, and then nothing
    proxy.heal()
    proxy.partitions_created()
"""

import http.client
import json
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Call:
    """One request: what was asked, what Glue answered, and whether the job heard it."""
    action: str
    arguments: dict
    status: int  # 0: Glue was not asked
    answer: dict
    heard: bool


class GlueProxy:
    def __init__(self, endpoint):
        self.target = urlsplit(endpoint)
        self.trouble, self.spared = None, 0
        self.seen = []
        self.lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self):
                try:
                    super().handle()
                except ConnectionError:
                    pass  # a job that is killed leaves its connections open

            def do_POST(self):
                proxy.handle(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def make(self, trouble, after):
        """Behind so many requests that change something, every request meets this trouble: hanging_up, throttled, failing or
        failing_afterwards. Looks are not counted, for how often a job looks is its own affair."""
        with self.lock:
            self.trouble, self.spared = getattr(self, trouble), after

    def heal(self):
        with self.lock:
            self.trouble = None

    # ---- Troubles: each takes the request, and says whether Glue was asked ----

    def hanging_up(self, handler, body):
        """Nobody there: the connection is reset."""
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True
        return 0, {}

    def throttled(self, handler, body):
        respond(handler, 400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
        return 0, {}

    def failing(self, handler, body):
        respond(handler, 500, {"__type": "InternalServiceException", "message": "made by the test"})
        return 0, {}

    def failing_afterwards(self, handler, body):
        """Glue does what it is asked to, and nobody hears of it."""
        status, answer = self.forward(handler, body)
        respond(handler, 500, {"__type": "InternalServiceException", "message": "made by the test, after the effect"})
        return status, answer

    # ---- The way of a request ----

    def handle(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        action = handler.headers["X-Amz-Target"].split(".")[-1]
        with self.lock:
            trouble = None if self.spared else self.trouble
            if not action.startswith("Get"):
                self.spared = max(self.spared - 1, 0)
        if trouble:
            status, answer = trouble(handler, body)
        else:
            status, answer = self.forward(handler, body)
            respond(handler, status, answer)
        with self.lock:
            self.seen.append(Call(action, json.loads(body or b"{}"), status, answer, trouble is None))

    def forward(self, handler, body):
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=30)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection", "content-length")}
            connection.request("POST", handler.path, body, {**headers, "Host": self.target.netloc})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        finally:
            connection.close()

    # ---- What it saw ----

    def calls(self, *actions):
        """All calls of these actions; of any where none is named."""
        with self.lock:
            return [call for call in self.seen if not actions or call.action in actions]

    def done(self, action):
        """The calls of this action that Glue carried out."""
        return [call for call in self.calls(action) if call.status == 200]

    def troubled(self):
        """How many calls met trouble."""
        return sum(1 for call in self.calls() if not call.heard)

    def partitions_created(self):
        """How often Glue created each partition: a second time would be an AlreadyExists, which does not count."""
        created = Counter()
        for call in self.done("CreatePartition"):
            created[call.arguments["TableName"], tuple(call.arguments["PartitionInput"]["Values"])] += 1
        for call in self.done("BatchCreatePartition"):
            refused = [tuple(error["PartitionValues"]) for error in call.answer.get("Errors", ())]
            asked = [tuple(partition["Values"]) for partition in call.arguments["PartitionInputList"]]
            created.update((call.arguments["TableName"], values) for values in (Counter(asked) - Counter(refused)).elements())
        return created

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def respond(handler, status, answer):
    body = json.dumps(answer).encode()
    try:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/x-amz-json-1.1")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
    except ConnectionError:
        handler.close_connection = True  # who asked was killed
