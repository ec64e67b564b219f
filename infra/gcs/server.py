#!/usr/bin/env python3
"""The XML API of Google Cloud Storage in front of an S3 server, so that gs:// can be tried without Google.

usage: server.py PORT S3_URL        the credentials for S3 are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

The two APIs are close relatives: lists, ranges, uploads in parts and errors are the same. Translated is what Google has other words
for: x-goog-if-generation-match (a condition on what is there), x-goog-copy-source, generations, and that deleting what is not there is
an error. Who asks is not looked at. What decides who of several creators wins is the S3 server."""

import hashlib
import hmac
import http.client
import os
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit

TARGET = urlsplit(sys.argv[2])
KEY, SECRET, REGION = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], "us-east-1"
PASSED_ON = ("range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "content-type")
PASSED_BACK = ("ETag", "Last-Modified", "Content-Type", "Content-Range", "Accept-Ranges")
CONNECTIONS = threading.local()
COPYING = threading.Lock()


def signed(method, path, query, headers):
    """The request's headers with a signature (version 4) over them; the body is not part of it."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {**headers, "host": TARGET.netloc, "x-amz-date": now, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    names = sorted(headers)
    request = "\n".join([method, path, query, *(f"{name}:{headers[name]}" for name in names), "", ";".join(names), "UNSIGNED-PAYLOAD"])
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return headers


def ask(method, name, query=(), headers=None, body=b""):
    """One request to the S3 server: its status, its headers, its body."""
    path = quote(name, safe="/-_.~")
    query = "&".join(sorted(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in query))
    headers = signed(method, path, query, headers or {})
    for last in (False, True):
        connection = getattr(CONNECTIONS, "it", None) or http.client.HTTPConnection(TARGET.hostname, TARGET.port, timeout=60)
        CONNECTIONS.it = connection
        try:
            connection.request(method, f"{path}?{query}" if query else path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (http.client.HTTPException, OSError):
            # A connection that had been idle for too long; the second one is new.
            CONNECTIONS.it = connection.close()
            if last:
                raise


def generation(headers):
    """A number that changes with the content: what is there is never written over with the same bytes where it matters."""
    return str(zlib.crc32(headers.get("ETag", "").encode()) + 1)


def refusal(code):
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # a job that is killed leaves its connections open

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body):
        self.send_response(status)
        for name in PASSED_BACK:
            if name in headers:
                self.send_header(name, headers[name])
        if "ETag" in headers:
            self.send_header("x-goog-generation", generation(headers))
        length = headers["Content-Length"] if self.command == "HEAD" and "Content-Length" in headers else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code):
        self.answer(status, {"Content-Type": "application/xml"}, refusal(code))

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        name, query = unquote(url.path), parse_qsl(url.query, keep_blank_values=True)
        asked = dict(query)
        headers = {key: self.headers[key] for key in PASSED_ON if key in self.headers}
        match = self.headers.get("x-goog-if-generation-match")
        source = self.headers.get("x-goog-copy-source")
        if self.command == "DELETE" and "uploadId" not in asked:
            status, found, _ = ask("HEAD", name)
            if status == 404:
                return self.refuse(404, "NoSuchKey")
        if source is not None:
            with COPYING:
                if match == "0" and ask("HEAD", name)[0] == 200:
                    return self.refuse(412, "PreconditionFailed")
                headers["x-amz-copy-source"] = quote(f"/{unquote(source)}", safe="/-_.~")
                return self.answer(*ask("PUT", name, (), headers))
        if match == "0":
            headers["if-none-match"] = "*"
        elif match is not None:
            return self.refuse(501, "NotImplemented")
        wanted = asked.pop("generation", None)
        status, found, content = ask(self.command, name, asked.items(), headers, body)
        if wanted is not None and status < 300 and generation(found) != wanted:
            return self.refuse(404, "NoSuchKey")
        return self.answer(status, found, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever()
