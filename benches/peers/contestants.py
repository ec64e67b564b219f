"""The engines that are compared: how each is started for a work, and which of its files a reader would see."""

import os
import subprocess
from pathlib import Path

from harness import BINARY, JOB, ROOT, SERVERS

HERE = Path(__file__).resolve().parent
RAW = ("patient_data", "emergency_vehicle_data")
# The tables that each work writes.
WORKS = {
    "a": RAW,
    "b": (*RAW, "emergencies"),
    "c": ("vitals_1m",),
    "d": (*RAW, "breaches", "vitals_1m", "emergency_responses"),
}
# As much as the JVM may take for its heap; what it takes is measured.
HEAP = "4g"


def job(work, folder):
    """The work as one job file: d is the emergency job as it stands."""
    if work == "d":
        return JOB
    path = folder / f"{work}.sql"
    path.write_text("".join((HERE / "sql" / f"{part}.sql").read_text() for part in ("topics", work)))
    return path


def visible(folder):
    """The files of a table that a reader takes: nothing whose name says that it is hidden."""
    return [str(path) for path in Path(folder).rglob("*")
            if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)]


def installed(name):
    found = subprocess.run([SERVERS, "install", name], stdout=subprocess.PIPE, text=True, check=True)
    return Path(found.stdout.strip())


class Tributary:
    works = ("a", "b", "c", "d")
    files = staticmethod(visible)

    def __init__(self, work_folder):
        pass

    def command(self, work, folder):
        return [BINARY, "run", job(work, folder), "--bounded", "--http", "off"], {}


class Flink:
    """One JVM with everything in it. Its watermarks come by a timer, as they do where nobody asks for something else."""
    works = ("a", "b", "c", "d")
    files = staticmethod(visible)

    def __init__(self, work_folder):
        self.classes = work_folder / "flink-classes"
        jars = installed("flink")
        subprocess.run(["javac", "-cp", f"{jars}/*", "-d", self.classes, ROOT / "tests/oracle/flink/Job.java"], check=True)

    def command(self, work, folder):
        return [ROOT / "tests/oracle/flink/run", job(work, folder), "parallelism.default=2"], {"FLINK_CLASSES": str(self.classes), "FLINK_HEAP": HEAP}


class Spark:
    works = ("a", "b", "c", "d")

    def __init__(self, work_folder):
        home = installed("spark")
        self.python = home / "bin" / "python"
        self.jars = ",".join(map(str, sorted((home / "jars").glob("*.jar"))))
        self.home = next(home.glob("lib/python*/site-packages/pyspark"))

    @staticmethod
    def files(folder):
        """What its file sink has committed: before that files lie there which nobody may read."""
        return visible(folder) if os.path.exists(f"{folder}/_spark_metadata/0") else []

    def command(self, work, folder):
        return ([self.home / "bin/spark-submit", "--master", "local[2]", "--driver-memory", HEAP, "--jars", self.jars, HERE / "spark.py", work],
                {"SPARK_HOME": str(self.home), "PYSPARK_PYTHON": str(self.python), "PYSPARK_DRIVER_PYTHON": str(self.python)})


class ByHand:
    """It can do no more than the first work: it has no state, and no idea of time."""
    works = ("a",)
    files = staticmethod(visible)

    def __init__(self, work_folder):
        self.python = installed("python") / "bin" / "python"

    def command(self, work, folder):
        return [self.python, HERE / "by_hand.py"], {}


ENGINES = {"tributary": Tributary, "spark": Spark, "flink": Flink, "by-hand": ByHand}
NAMES = {"tributary": "Tributary", "spark": "Spark 3.5.1", "flink": "Flink 2.2.0", "by-hand": "by hand"}
