#!/usr/bin/env python3
"""A stand-in for `tributary run JOB --http ADDRESS` in the test of infra/ec2: ready after it was asked a few times, ends well on SIGTERM.
With STUB=fails it ends at once, with STUB=deaf it never becomes ready and ignores SIGTERM."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

mode = os.environ.get("STUB", "")
asked = 0


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        code = 200 if asked > 3 and mode != "deaf" else 503
        self.send_response(code)
        self.end_headers()
        self.wfile.write(b"running\n" if code == 200 else b"starting\n")

    def log_message(self, *_):
        pass


if mode == "fails":
    sys.exit("error: the stub fails, as it was told")
print("environment:", os.environ.get("LAKE"), sys.argv[1:], flush=True)
host, port = sys.argv[sys.argv.index("--http") + 1].split(":")
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else lambda *_: sys.exit(0))
HTTPServer((host, int(port)), Answers).serve_forever()
