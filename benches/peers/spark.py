"""The Spark peer: a work with Structured Streaming, up to the ends of now. As always in Spark, each table is a query that reads by itself.

usage: spark-submit spark.py a|b|c|d      from the environment: LAKE and CHECKPOINTS, file:// addresses, and KAFKA_BOOTSTRAP_SERVERS"""

import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, expr, from_json, window

work, lake, checkpoints = sys.argv[1], os.environ["LAKE"], os.environ["CHECKPOINTS"]
LOCATION = "location STRUCT<latitude: DOUBLE, longitude: DOUBLE>"
READING = (f"id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, {LOCATION}, emergency_alert BOOLEAN, "
           "timestamp TIMESTAMP")
DISPATCH = (f"id STRING, vehicle_id STRING, vehicle_type STRING, vehicle_capacity STRING, {LOCATION}, patient_id STRING, dispatch_time TIMESTAMP, "
            "timestamp TIMESTAMP")
MEASURES = ("heart_rate", "oxygen_saturation", "vo2_max")
LOWEST_TO_MEAN = [f"{what}({measure}) AS {measure}_{what}" for measure in MEASURES for what in ("min", "max", "avg")]
spark = (SparkSession.builder.config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
         .config("spark.sql.shuffle.partitions", "2").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
queries = []


def read(topic, schema, event_time, of):
    """A topic's rows, with their event time."""
    return (spark.readStream.format("kafka").option("kafka.bootstrap.servers", os.environ["KAFKA_BOOTSTRAP_SERVERS"]).option("subscribe", topic)
            .option("startingOffsets", "earliest").load()
            .select(from_json(col("value").cast("string"), schema).alias("row")).select("row.*")
            .withColumn(event_time, expr(of)).withWatermark(event_time, "2 minutes"))


def write(table, rows, partitions=()):
    queries.append(rows.writeStream.format("parquet").option("checkpointLocation", f"{checkpoints}/{table}").option("path", f"{lake}/{table}")
                   .partitionBy(*partitions).outputMode("append").trigger(availableNow=True).start())


def vitals(rows, event_time, *more):
    return (rows.groupBy(window(event_time, "1 minute"), "patient_id").agg(expr("count(*) AS readings"), *map(expr, (*more, *LOWEST_TO_MEAN)))
            .selectExpr("window.start AS window_start", "window.end AS window_end", "*").drop("window"))


def answered(breaches, dispatches, breach_time, dispatch_time, minutes):
    """Breaches with the dispatches that answer them, or with none."""
    return breaches.alias("b").join(
        dispatches.alias("d"),
        expr(f"b.patient_id = d.patient_id AND d.{dispatch_time} BETWEEN b.{breach_time} AND b.{breach_time} + INTERVAL {minutes} MINUTES"),
        "leftOuter")


def plain():
    """The works a, b and c."""
    readings = read("patient_data", READING, "timestamp", "timestamp")
    dispatches = read("emergency_vehicle_data", DISPATCH, "dispatch_time", "dispatch_time")
    if work in "ab":
        write("patient_data", readings)
        write("emergency_vehicle_data", dispatches)
    if work == "b":
        breaches = readings.where("heart_rate > 180 OR oxygen_saturation < 82")
        write("emergencies", answered(breaches, dispatches, "timestamp", "dispatch_time", 10).selectExpr(
            "b.id", "b.patient_id", "b.heart_rate", "b.oxygen_saturation", "b.timestamp AS breach_time", "d.vehicle_id", "d.dispatch_time"))
    if work == "c":
        write("vitals_1m", vitals(readings, "timestamp"))


def emergency():
    """The work d: what jobs/emergency.sql says, in Spark's words."""
    def partitioned(table, rows, by, *columns):
        write(table, rows.selectExpr(*columns, f"date_format({by}, 'yyyy-MM-dd') AS dt", f"date_format({by}, 'HH') AS hour"), ("dt", "hour"))

    readings = read("patient_data", READING, "event_time", "date_trunc('MILLISECOND', timestamp)")
    dispatches = read("emergency_vehicle_data", DISPATCH, "dispatched", "date_trunc('MILLISECOND', dispatch_time)")
    flagged = readings.withColumn("reasons", expr("""array_compact(array(
        if(heart_rate > 180, 'heart_rate_high', NULL), if(heart_rate < 55, 'heart_rate_low', NULL), if(oxygen_saturation < 88, 'oxygen_low', NULL),
        if(vo2_max < 18, 'vo2_low', NULL), if(emergency_alert, 'alert', NULL)))"""))
    breaches = flagged.where("size(reasons) > 0").withColumn("severity", expr("least(size(reasons), 3)"))
    partitioned("patient_data", readings, "event_time", "id", "patient_id", *MEASURES, "location", "emergency_alert", "timestamp")
    partitioned("emergency_vehicle_data", dispatches, "dispatched", "id", "vehicle_id", "vehicle_type", "vehicle_capacity", "location",
                "patient_id", "dispatch_time", "timestamp")
    partitioned("breaches", breaches, "event_time", "id", "patient_id", "event_time", *MEASURES,
                "location.latitude AS latitude", "location.longitude AS longitude", "reasons", "severity")
    partitioned("vitals_1m", vitals(flagged, "event_time", "count_if(size(reasons) > 0) AS breaches"), "window_start", "*")
    partitioned("emergency_responses", answered(breaches, dispatches, "event_time", "dispatched", 15), "b.event_time",
                "b.id AS breach_id", "b.patient_id", "b.event_time AS breach_time", "b.reasons", "b.severity", "d.vehicle_id IS NOT NULL AS answered",
                "d.vehicle_id", "d.vehicle_type", "d.dispatched AS dispatch_time", "d.timestamp AS arrival_time",
                "CAST(timestampdiff(SECOND, b.event_time, d.dispatched) AS INT) AS seconds_to_dispatch",
                "CAST(timestampdiff(SECOND, b.event_time, d.timestamp) AS INT) AS seconds_to_arrival",
                """2 * 6371.0088 * asin(sqrt(
                     power(sin(radians(d.location.latitude - b.location.latitude) / 2), 2)
                     + cos(radians(b.location.latitude)) * cos(radians(d.location.latitude))
                     * power(sin(radians(d.location.longitude - b.location.longitude) / 2), 2))) AS distance_km""")
    alerts = (answered(breaches, dispatches, "event_time", "dispatched", 15).where("d.vehicle_id IS NULL")
              .selectExpr("b.patient_id AS key", "to_json(struct(b.id AS breach_id, b.patient_id, b.event_time AS breach_time, b.reasons, b.severity)) AS value"))
    queries.append(alerts.writeStream.format("kafka").option("kafka.bootstrap.servers", os.environ["KAFKA_BOOTSTRAP_SERVERS"])
                   .option("topic", "emergency-alerts").option("checkpointLocation", f"{checkpoints}/alerts").outputMode("append")
                   .trigger(availableNow=True).start())


emergency() if work == "d" else plain()
for query in queries:
    query.awaitTermination()
spark.stop()
