"""What every end-to-end script stands on: servers of its own, a work folder, the binary as a process, and checks that count.

    with Stage("bounded", "kafka", "minio") as stage:
        run = stage.tributary("run", job, "--bounded", env=stage.place("local"))
        stage.check("it ends well", run.wait(120) == 0, run.log())

Leaving the block ends every process that was started in it, stops the servers, and sets the exit code. Waiting is always for a
fact (`until`), never for a while.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOB = ROOT / "jobs" / "emergency.sql"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = Path(os.environ.get("TRIBUTARY_BINARY", TARGET / "release" / "tributary")).absolute()
SERVERS = ROOT / "infra" / "servers"
# The exit code of a script whose servers this machine cannot run.
LEFT_OUT = 77


def until(fact, seconds, what, pause=0.05):
    """Asks again until `fact` gives something true, and returns it; says what it waited for when it never does."""
    end = time.monotonic() + seconds
    while True:
        found = fact()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain for {what}")
        time.sleep(pause)


class Process:
    """A program that was started, with all that it says kept in a file."""

    def __init__(self, command, env, log):
        self.path = log
        with open(log, "wb") as out:
            self.popen = subprocess.Popen([str(c) for c in command], env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def wait(self, seconds):
        """The exit code, or None when it still runs after that time."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number):
        if self.running():
            self.popen.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.popen.wait()

    def log(self):
        return self.path.read_text(errors="replace")

    def tail(self, lines=12):
        return "\n".join(self.log().splitlines()[-lines:])


class Stage:
    """Servers, a work folder, processes and checks for one script."""

    def __init__(self, name, *servers):
        self.name, self.wanted = name, servers
        self.passed = self.failed = 0
        self.processes = []
        self.places = 0

    def __enter__(self):
        if not BINARY.is_file():
            sys.exit(f"{BINARY} is not there: cargo build --release")
        lacking = subprocess.run([SERVERS, "lacks", *self.wanted], stdout=subprocess.PIPE, text=True)
        if lacking.returncode:
            print(f"LEFT OUT: {self.name}. " + "; ".join(lacking.stdout.splitlines()), flush=True)
            sys.exit(LEFT_OUT)
        # Told to end, it leaves nothing running either.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        self.work = Path(tempfile.mkdtemp(prefix=f"tributary-{self.name}."))
        # The proxies and the settings of this machine are not the business of a test.
        self.env = {k: v for k, v in os.environ.items() if not re.match(r"AWS_|AZUR|GOOGLE_|STORAGE_EMULATOR_HOST$|TRIBUTARY_|LAKE$|CHECKPOINTS$|KAFKA_", k)}
        for kept in ("TRIBUTARY_CACHE", "TRIBUTARY_KAFKA_HEAP", "TRIBUTARY_TRINO_HEAP"):
            if kept in os.environ:
                self.env[kept] = os.environ[kept]
        if self.wanted:
            started = subprocess.run([SERVERS, "start", *self.wanted], env=self.env, stdout=subprocess.PIPE, text=True)
            if started.returncode:
                shutil.rmtree(self.work)
                sys.exit(f"the servers for {self.name} did not start")
            self.env.update(line.removeprefix("export ").split("=", 1) for line in started.stdout.splitlines())
        self.kafka = self.env.get("TRIBUTARY_TEST_KAFKA")
        if self.kafka:
            self.env["KAFKA_BOOTSTRAP_SERVERS"] = self.kafka
        return self

    def __exit__(self, kind, error, trace):
        for process in self.processes:
            if process.running():
                process.send(signal.SIGCONT)
                process.kill()
        if "TRIBUTARY_SERVERS" in self.env:
            subprocess.run([SERVERS, "stop"], env=self.env, check=True)
        if isinstance(error, Exception):
            self.check(f"{self.name} comes to its end", False, "".join(traceback.format_exception(error)))
            for process in self.processes[-2:]:
                print(f"--- the end of {process.path.name}\n{process.tail(20)}", flush=True)
        elif kind is not None:
            return False
        if self.failed:
            print(f"kept for a look: {self.work}", flush=True)
        else:
            shutil.rmtree(self.work)
        sys.exit(1 if self.failed or not self.passed else 0)

    # ---- Checks ----

    def check(self, what, good, detail=""):
        if good:
            self.passed += 1
            print(f"PASS {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL {what}" + (f"\n     {str(detail).strip()}".replace("\n", "\n     ") if detail else ""), flush=True)
        return bool(good)

    # ---- Places and processes ----

    def place(self, kind):
        """The environment for a lake and a checkpoint folder that are new: `local`, or `s3`, `gs` or `az` on the server that was started."""
        self.places += 1
        if kind == "local":
            base = str(self.work / f"place{self.places}")
        else:
            bucket = {"s3": "TRIBUTARY_TEST_BUCKET", "gs": "TRIBUTARY_TEST_GCS_BUCKET", "az": "TRIBUTARY_TEST_AZURE_CONTAINER"}[kind]
            base = f"{kind}://{self.env[bucket]}/place{self.places}"
        return {"LAKE": f"{base}/lake", "CHECKPOINTS": f"{base}/checkpoints/emergency"}

    def tributary(self, *arguments, env=None, binary=BINARY):
        self.places += 1
        log = self.work / f"{self.places:03}-{arguments[0] if arguments else 'nothing'}.log"
        process = Process([binary, *arguments], {**self.env, **(env or {})}, log)
        self.processes.append(process)
        return process

    def run_job(self, job, place, *more):
        return self.tributary("run", job, "--http", "off", *more, env=place)

    def servers(self, *command):
        subprocess.run([SERVERS, *command], env=self.env, check=True)

    def job(self, name="job.sql", rolling=(), changes=()):
        """A copy of the emergency job, with quickly rolling files for some tables, and with texts replaced."""
        text = JOB.read_text()
        for table in rolling:
            there = f"'path' = '${{LAKE:-./lake}}/{table}', 'format' = 'parquet'"
            assert there in text, f"{JOB} no longer says {there}"
            text = text.replace(there, there + ", 'sink.rolling-policy.rollover-interval' = '2 s', 'sink.rolling-policy.check-interval' = '1 s'")
        for before, after in changes:
            assert before in text, f"{JOB} no longer says {before}"
            text = text.replace(before, after)
        path = self.work / name
        path.write_text(text)
        return path
