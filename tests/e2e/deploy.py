#!/usr/bin/env python3
"""What a user deploys: the Dockerfile passes its linter, docker-compose.yml says what it should, and every script parses."""

import json
import subprocess

from harness import ROOT, SERVERS, Stage

# No linter's own package reads compose files, so the facts that matter are asked for one by one.
TO_JSON = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)"


def compose(stage, python):
    read = subprocess.run([python, "-c", TO_JSON, ROOT / "docker-compose.yml"], stdout=subprocess.PIPE, check=True)
    services = json.loads(read.stdout)["services"]
    stage.check("compose: broker, store, job and generator are there", {"kafka", "minio", "emergency", "generator"} <= set(services), list(services))
    open_images = [name for name, s in services.items() if "build" not in s and s["image"] != "tributary" and (":" not in s["image"] or s["image"].endswith(":latest"))]
    stage.check("compose: every image that is fetched has a version", not open_images, open_images)
    ports = [port for s in services.values() for port in s.get("ports", [])]
    stage.check("compose: every port is open to this machine only", ports and all(port.startswith("127.0.0.1:") for port in ports), ports)
    unknown = [f"{name}: {other}" for name, s in services.items() for other in s.get("depends_on", {}) if other not in services]
    stage.check("compose: who waits for a service waits for one that is there", not unknown, unknown)
    # The image of the job has its health check in the Dockerfile.
    unasked = [f"{name}: {other}" for name, s in services.items() for other, how in s.get("depends_on", {}).items()
               if how["condition"] == "service_healthy" and "healthcheck" not in services[other] and "build" not in services[other]]
    stage.check("compose: who waits for health waits for a service that is asked for it", not unasked, unasked)


with Stage("deploy") as stage:
    home = subprocess.run([SERVERS, "install", "lint"], stdout=subprocess.PIPE, text=True, check=True, env=stage.env).stdout.strip()
    lint = subprocess.run([f"{home}/bin/hadolint", ROOT / "Dockerfile"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    stage.check("hadolint finds nothing in the Dockerfile", lint.returncode == 0, lint.stdout)
    compose(stage, f"{home}/bin/python")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    scripts = [path for path in tracked if (ROOT / path).is_file() and (ROOT / path).open("rb").read(30).startswith(b"#!/usr/bin/env bash")]
    for path in scripts:
        parsed = subprocess.run(["bash", "-n", ROOT / path], stderr=subprocess.PIPE, text=True)
        stage.check(f"{path} parses", parsed.returncode == 0, parsed.stderr)
