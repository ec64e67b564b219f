-- What the works a, b and c begin with: both topics as tables, and tables for their rows as they are. A work is this file and its own, one
-- behind the other; Tributary and Flink run the same text.

SET 'pipeline.name' = 'peers';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';

CREATE TABLE readings (
  id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE,
  location ROW<latitude DOUBLE, longitude DOUBLE>, emergency_alert BOOLEAN, `timestamp` TIMESTAMP(3),
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka', 'topic' = 'patient_data', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'scan.startup.mode' = 'earliest-offset', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE dispatches (
  id STRING, vehicle_id STRING, vehicle_type STRING, vehicle_capacity STRING, location ROW<latitude DOUBLE, longitude DOUBLE>,
  patient_id STRING, dispatch_time TIMESTAMP(3), `timestamp` TIMESTAMP(3),
  WATERMARK FOR dispatch_time AS dispatch_time - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka', 'topic' = 'emergency_vehicle_data', 'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'scan.startup.mode' = 'earliest-offset', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE patient_data (
  id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE,
  location ROW<latitude DOUBLE, longitude DOUBLE>, emergency_alert BOOLEAN, `timestamp` TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/patient_data', 'format' = 'parquet');

CREATE TABLE emergency_vehicle_data (
  id STRING, vehicle_id STRING, vehicle_type STRING, vehicle_capacity STRING, location ROW<latitude DOUBLE, longitude DOUBLE>,
  patient_id STRING, dispatch_time TIMESTAMP(3), `timestamp` TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/emergency_vehicle_data', 'format' = 'parquet');

