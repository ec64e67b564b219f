"""The Spark peer: both topics to Parquet with Structured Streaming, up to the ends of now.

usage: spark-submit spark.py OUT BOOTSTRAP"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, from_json

out, bootstrap = sys.argv[1:]
LOCATION = "location STRUCT<latitude: DOUBLE, longitude: DOUBLE>"
SCHEMAS = {
    "patient_data": f"id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE, {LOCATION}, "
                    "emergency_alert BOOLEAN, timestamp TIMESTAMP",
    "emergency_vehicle_data": f"id STRING, vehicle_id STRING, vehicle_type STRING, vehicle_capacity STRING, {LOCATION}, patient_id STRING, "
                              "dispatch_time TIMESTAMP, timestamp TIMESTAMP",
}
spark = (SparkSession.builder.config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
         .config("spark.sql.shuffle.partitions", "2").getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
queries = []
for topic, schema in SCHEMAS.items():
    rows = (spark.readStream.format("kafka").option("kafka.bootstrap.servers", bootstrap).option("subscribe", topic)
            .option("startingOffsets", "earliest").load()
            .select(from_json(col("value").cast("string"), schema).alias("row")).select("row.*").withWatermark("timestamp", "2 minutes"))
    queries.append(rows.writeStream.format("parquet").option("checkpointLocation", f"{out}/checkpoints/{topic}")
                   .option("path", f"{out}/data/{topic}").outputMode("append").trigger(availableNow=True).start())
for query in queries:
    query.awaitTermination()
spark.stop()
