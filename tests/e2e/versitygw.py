#!/usr/bin/env python3
"""The lake on a second S3 that is not MinIO: versitygw, which keeps objects as plain files."""

import emergency
import lake
from harness import Stage

with Stage("versitygw", "kafka", "versitygw") as stage:
    emergency.fresh_topics(stage)
    emergency.generate(stage, "--count", "50000", "--seed", "71")
    place = stage.place("s3")
    emergency.run_to_end(stage, place, "versitygw")
    emergency.compare(stage, place, "versitygw", emergency.expected_of(stage))
    emergency.check_audit(stage, place, "versitygw")
    before = lake.files(place["LAKE"], stage.env)
    emergency.run_to_end(stage, place, "run again with nothing new")
    stage.check("run again with nothing new: the same files", lake.files(place["LAKE"], stage.env) == before)
