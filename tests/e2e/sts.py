"""Credentials that may do only what a policy says, and that come to an end: MinIO gives them out as AWS's STS does."""

import json
import re
import subprocess

from harness import ROOT

POLICY = ROOT / "infra" / "aws" / "policy.json"


def policy(place, env, without=(), statements=("List", "ReadAndWrite")):
    """The documented policy for a place on S3, as far as it is about S3 (MinIO knows no other actions), and less some actions."""
    # MinIO has no word for IfExists.
    text = POLICY.read_text().replace("StringLikeIfExists", "StringLike")
    lake, checkpoints = (place[name].removeprefix("s3://").split("/", 1)[1] for name in ("LAKE", "CHECKPOINTS"))
    for word, value in (("BUCKET", env["TRIBUTARY_TEST_BUCKET"]), ("LAKE", lake), ("CHECKPOINTS", checkpoints)):
        text = re.sub(rf"\b{word}\b", value, text)
    whole = json.loads(text)
    kept = []
    for statement in whole["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = [action for action in actions if action not in without]
        if statement["Sid"] in statements and statement["Action"]:
            kept.append(statement)
    whole["Statement"] = kept
    return whole


def assume(env, allowed):
    """The keys, the token and the end of credentials that may do what is `allowed`, which is a policy."""
    form = {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "900", "Policy": json.dumps(allowed)}
    data = [part for key, value in form.items() for part in ("--data-urlencode", f"{key}={value}")]
    answer = subprocess.run(
        ["curl", "-s", "--aws-sigv4", "aws:amz:us-east-1:sts", "--user", f"{env['AWS_ACCESS_KEY_ID']}:{env['AWS_SECRET_ACCESS_KEY']}",
         *data, env["AWS_ENDPOINT_URL"]],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {name: re.search(rf"<{name}>([^<]+)</{name}>", answer) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")}
    assert all(found.values()), f"no credentials: {answer}"
    return {name: match[1] for name, match in found.items()}


def as_env(credentials):
    return {"AWS_ACCESS_KEY_ID": credentials["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"]}
