#!/usr/bin/env python3
"""What docs/operations.md says about permissions and encryption: the policy in infra/aws is enough for a job, and no more than enough;
what is written with a key of KMS is encrypted with that key, from the staged file to the checkpoint."""

import subprocess
import urllib.parse

import emergency
import lake
import sts
from harness import Stage


def head(stage, path):
    """The headers of an object: `bucket/key`."""
    url = f"{stage.env['AWS_ENDPOINT_URL']}/{urllib.parse.quote(path)}"
    user = f"{stage.env['AWS_ACCESS_KEY_ID']}:{stage.env['AWS_SECRET_ACCESS_KEY']}"
    answer = subprocess.run(["curl", "-sI", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", user, url], stdout=subprocess.PIPE, text=True, check=True)
    lines = answer.stdout.splitlines()
    assert " 200" in lines[0], f"{path}: {lines[0]}"
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


def allowed(stage, place, **options):
    """The environment of somebody who may do what the policy says."""
    return sts.as_env(sts.assume(stage.env, sts.policy(place, stage.env, **options)))


def enough(stage, expected):
    place = stage.place("s3")
    # Closing files often, so that files are staged, copied and deleted, and a blob of state as well.
    job = stage.job(rolling=("patient_data", "vitals_1m"))
    who = allowed(stage, place)
    for what in ("the policy", "again, from the checkpoints"):
        run = stage.run_job(job, {**place, **who}, "--bounded")
        code = run.wait(300)
        stage.check(f"{what}: run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
    emergency.compare(stage, place, "with the policy alone", expected)
    for command in (("query", "SELECT count(*) FROM patient_data", "--lake", place["LAKE"]), ("query", "--lake", place["LAKE"]), ("audit", job)):
        asked = stage.tributary(*command, env={**place, **who})
        stage.check(f"the policy is enough for {command[0]}", asked.wait(60) == 0, asked.tail())


def not_too_much(stage):
    """Less is not enough, and what lies elsewhere is out of reach."""
    for action in ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        place = stage.place("s3")
        who = allowed(stage, place, without=(action,))
        run = stage.run_job(stage.job(), {**place, **who}, "--bounded")
        code = run.wait(120)
        said = "access to bucket" in run.log() and action in run.log()
        stage.check(f"without {action} the job cannot run, and says so", code == 2 and said, f"exit code {code}\n{run.tail()}")
    place, other = stage.place("s3"), stage.place("s3")
    who = allowed(stage, place)
    run = stage.run_job(stage.job(), {**other, **who}, "--bounded")
    code = run.wait(120)
    stage.check("beside the lake nothing can be written", code == 2, f"exit code {code}\n{run.tail()}")


LARGE = """
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';
CREATE TABLE made (id BIGINT, text STRING) WITH (
  'connector' = 'datagen', 'number-of-rows' = '6000', 'rows-per-second' = '1000000', 'fields.text.length' = '8000'
);
CREATE TABLE large (id BIGINT, text STRING) WITH (
  'connector' = 'filesystem', 'path' = '${LAKE}/large', 'format' = 'parquet', 'tributary.parquet.compression' = 'none'
);
INSERT INTO large SELECT id, text FROM made;
"""


def encrypted(stage, expected):
    key = stage.env["TRIBUTARY_TEST_KMS_KEY"]
    by_setting = ("-D", "tributary.s3.encryption=sse-kms", "-D", f"tributary.s3.kms-key-id={key}")
    by_environment = {"AWS_SERVER_SIDE_ENCRYPTION": "aws:kms", "AWS_SSE_KMS_KEY_ID": key}
    large = stage.work / "large.sql"
    large.write_text(LARGE)
    for what, job, options, env in (
            ("by a setting", stage.job(), by_setting, {}),
            ("by the environment", stage.job(), (), by_environment),
            ("a file in parts", large, by_setting, {})):
        place = stage.place("s3")
        run = stage.run_job(job, {**place, **env}, "--bounded", *options)
        code = run.wait(300)
        stage.check(f"{what}: run --bounded exits 0", code == 0, f"exit code {code}\n{run.tail()}")
        written = lake.files(place["LAKE"], stage.env) + lake.files(place["CHECKPOINTS"], stage.env)
        parquet = [path for path in written if path.endswith(".parquet")]
        epochs = [path for path in written if "/epochs/" in path]
        stage.check(f"{what}: there are {len(parquet)} files and {len(epochs)} epochs", parquet and epochs, written)
        headers = {path: head(stage, path) for path in written}
        bare = {path: found.get("x-amz-server-side-encryption") for path, found in headers.items()
                if found.get("x-amz-server-side-encryption") != "aws:kms"
                or not found.get("x-amz-server-side-encryption-aws-kms-key-id", "").endswith(key)}
        stage.check(f"{what}: all {len(written)} objects are encrypted with the key", not bare, bare)
        if job is large:
            sizes = [int(found["content-length"]) for found in headers.values()]
            stage.check("a file in parts: it was large enough for parts", max(sizes) > 32 << 20, sizes)
        else:
            emergency.compare(stage, place, what, expected)
    place = stage.place("s3")
    run = stage.run_job(stage.job(), place, "--bounded", "-D", "tributary.s3.encryption=sse-kms", "-D", "tributary.s3.kms-key-id=no-such-key")
    code = run.wait(120)
    said = "no-such-key" in run.log() or "KMS" in run.log()
    stage.check("a key that is not there is refused, and said", code == 2 and said, f"exit code {code}\n{run.tail()}")


with Stage("permissions", "kafka", "minio") as stage:
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "20000", "--seed", "17")
    expected = emergency.expected_of(stage)
    enough(stage, expected)
    not_too_much(stage)
    encrypted(stage, expected)
