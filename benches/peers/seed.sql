-- Both topics to Parquet: the work that spark.py does too, and nothing more.

SET 'pipeline.name' = 'peers-seed';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.dir' = '${OUT}/checkpoints';

CREATE TABLE readings (
  id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE,
  location ROW<latitude DOUBLE, longitude DOUBLE>, emergency_alert BOOLEAN, `timestamp` TIMESTAMP(3),
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka', 'topic' = 'patient_data', 'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE dispatches (
  id STRING, vehicle_id STRING, vehicle_type STRING, vehicle_capacity STRING, location ROW<latitude DOUBLE, longitude DOUBLE>,
  patient_id STRING, dispatch_time TIMESTAMP(3), `timestamp` TIMESTAMP(3),
  WATERMARK FOR dispatch_time AS dispatch_time - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka', 'topic' = 'emergency_vehicle_data', 'properties.bootstrap.servers' = '${BOOTSTRAP}',
  'scan.startup.mode' = 'earliest-offset', 'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE patient_data (
  id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, vo2_max DOUBLE,
  location ROW<latitude DOUBLE, longitude DOUBLE>, emergency_alert BOOLEAN, `timestamp` TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = '${OUT}/data/patient_data', 'format' = 'parquet');

CREATE TABLE emergency_vehicle_data (
  id STRING, vehicle_id STRING, vehicle_type STRING, vehicle_capacity STRING, location ROW<latitude DOUBLE, longitude DOUBLE>,
  patient_id STRING, dispatch_time TIMESTAMP(3), `timestamp` TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = '${OUT}/data/emergency_vehicle_data', 'format' = 'parquet');

EXECUTE STATEMENT SET BEGIN
INSERT INTO patient_data SELECT id, patient_id, heart_rate, oxygen_saturation, vo2_max, location, emergency_alert, `timestamp` FROM readings;
INSERT INTO emergency_vehicle_data SELECT id, vehicle_id, vehicle_type, vehicle_capacity, location, patient_id, dispatch_time, `timestamp` FROM dispatches;
END;
