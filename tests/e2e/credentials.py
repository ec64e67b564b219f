#!/usr/bin/env python3
"""Where credentials come from when the environment has none: a profile, a program, a container's service, an instance's. S3 and Glue use the
same ones, and a job that runs for longer than they last gets new ones, also when the service that gives them is away for a while."""

import json
import re
import signal
import stat
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import emergency
import lake
import sts
from harness import Stage, until

# None in the environment; the chain goes on behind it.
NONE = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": ""}


def written(at):
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Service:
    """An instance's metadata service, a container's credentials service, and Glue, all on one port."""

    def __init__(self):
        self.credentials, self.away = None, False
        self.asked, self.glue = [], []
        service = self

        class Answers(BaseHTTPRequestHandler):
            def answer(self, code, body=b"", **headers):
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self):
                self.answer(200, b"token", x_aws_ec2_metadata_token_ttl_seconds="21600")

            def do_GET(self):
                if service.away:
                    return self.answer(503)
                if self.path == "/latest/meta-data/iam/security-credentials/":
                    return self.answer(200, b"job")
                if self.path in ("/latest/meta-data/iam/security-credentials/job", "/container"):
                    service.asked.append(service.credentials["AccessKeyId"])
                    found = {"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": written(datetime.now(timezone.utc)),
                             **{name: service.credentials[name] for name in ("AccessKeyId", "SecretAccessKey", "Expiration")},
                             "Token": service.credentials["SessionToken"]}
                    return self.answer(200, json.dumps(found).encode())
                return self.answer(404)

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                service.glue.append(re.search("Credential=([^/]+)/", self.headers["authorization"])[1])
                self.answer(200, b'{"TableList": []}', content_type="application/x-amz-json-1.1")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def give(self, credentials, ends):
        self.credentials = {**credentials, "Expiration": written(ends)}


def program(stage, credentials):
    """A program that says who one is."""
    said = {"Version": 1, **{name: credentials[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")}}
    path = stage.work / "who"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def chain(stage, expected):
    """One bounded run with each kind of credentials."""
    for kind in ("a profile", "a program", "a container", "an instance"):
        place = stage.place("s3")
        credentials = sts.assume(stage.env, sts.policy(place, stage.env))
        service = Service()
        service.give(credentials, datetime.now(timezone.utc) + timedelta(minutes=15))
        config, keys = stage.work / "config", stage.work / "credentials"
        config.write_text(f"[profile other]\nregion = us-east-1\ncredential_process = {program(stage, credentials)}\n")
        keys.write_text(f"[job]\naws_access_key_id = {credentials['AccessKeyId']}\naws_secret_access_key = {credentials['SecretAccessKey']}\n"
                        f"aws_session_token = {credentials['SessionToken']}\n")
        files = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
        env = {**place, **NONE, **{
            "a profile": {**files, "AWS_PROFILE": "job"},
            "a program": {**files, "AWS_PROFILE": "other"},
            "a container": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{service.url}/container"},
            "an instance": {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url},
        }[kind]}
        run = stage.run_job(stage.job(), env, "--bounded")
        code = run.wait(300)
        stage.check(f"{kind}: run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
        emergency.compare(stage, place, kind, expected, dead_letters=False)
        asked = stage.tributary("query", "--catalog", "glue", env={**env, "AWS_ENDPOINT_URL_GLUE": service.url})
        asked.wait(60)
        stage.check(f"{kind}: Glue is asked by the same", service.glue and set(service.glue) == {credentials["AccessKeyId"]}, f"{service.glue}\n{asked.tail()}")
    run = stage.run_job(stage.job(), {**stage.place("s3"), **NONE}, "--bounded")
    code = run.wait(120)
    stage.check("without any, the job says so", code == 2 and "there are no credentials for bucket" in run.log(), f"exit code {code}\n{run.tail()}")


def renewed(stage):
    """The first credentials are good for some seconds only; then the service is away while the second ones are in use."""
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "5000", "--seed", "31")
    place = stage.place("s3")
    dies = datetime.now(timezone.utc) + timedelta(seconds=40)
    short = sts.policy(place, stage.env)
    for statement in short["Statement"]:
        statement.setdefault("Condition", {})["DateLessThan"] = {"aws:CurrentTime": written(dies)}
    first = sts.assume(stage.env, short)
    second = sts.assume(stage.env, sts.policy(place, stage.env))
    service = Service()
    # Asked again five minutes before the end, so in ten seconds.
    service.give(first, datetime.now(timezone.utc) + timedelta(minutes=5, seconds=10))
    job = stage.job(rolling=("patient_data", "emergency_vehicle_data"),
                    changes=(("'execution.checkpointing.interval' = '10 s'", "'execution.checkpointing.interval' = '1 s'"),))
    env = {**place, **NONE, "AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url}
    run = stage.run_job(job, env)

    def files(at_least):
        found = [path for path in lake.files(f"{place['LAKE']}/patient_data", stage.env) if path.endswith(".parquet")]
        return len(found) >= at_least and found

    before = until(lambda: files(1), 60, "the first files")
    stage.check("renewed: the first credentials work", service.asked and set(service.asked) == {first["AccessKeyId"]}, service.asked)
    service.give(second, datetime.now(timezone.utc) + timedelta(minutes=5, seconds=10))
    until(lambda: second["AccessKeyId"] in service.asked, 60, "the job to ask for new credentials")
    service.away = True
    until(lambda: datetime.now(timezone.utc) > dies + timedelta(seconds=1), 60, "the end of the first credentials")
    emergency.generate(stage, "--count", "5000", "--seed", "32")
    until(lambda: files(len(before) + 1), 60, "files that were written with the second credentials")
    until(lambda: "could not be renewed" in run.log(), 60, "a warning that the service is away")
    run.send(signal.SIGTERM)
    code = run.wait(60)
    stage.check("renewed: the job ends well", code == 0, f"exit code {code}\n{run.tail()}")
    late = stage.run_job(job, {**place, **sts.as_env(first)}, "--bounded")
    stage.check("renewed: the first credentials are of no use any more", late.wait(60) == 2, late.tail())


with Stage("credentials", "kafka", "minio") as stage:
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "5000", "--seed", "23")
    chain(stage, emergency.expected_of(stage))
    renewed(stage)
