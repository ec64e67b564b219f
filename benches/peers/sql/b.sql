-- Work b: both topics to Parquet, and the breaches joined to the dispatches that answer them within ten minutes, or to none.

CREATE TABLE emergencies (
  id STRING, patient_id STRING, heart_rate INT, oxygen_saturation DOUBLE, breach_time TIMESTAMP(3), vehicle_id STRING, dispatch_time TIMESTAMP(3)
) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/emergencies', 'format' = 'parquet');

EXECUTE STATEMENT SET BEGIN
INSERT INTO patient_data SELECT id, patient_id, heart_rate, oxygen_saturation, vo2_max, location, emergency_alert, `timestamp` FROM readings;
INSERT INTO emergency_vehicle_data
SELECT id, vehicle_id, vehicle_type, vehicle_capacity, location, patient_id, dispatch_time, `timestamp` FROM dispatches;
INSERT INTO emergencies
SELECT b.id, b.patient_id, b.heart_rate, b.oxygen_saturation, CAST(b.`timestamp` AS TIMESTAMP(3)), d.vehicle_id, CAST(d.dispatch_time AS TIMESTAMP(3))
FROM (SELECT * FROM readings WHERE heart_rate > 180 OR oxygen_saturation < 82) b
LEFT JOIN dispatches d
  ON b.patient_id = d.patient_id AND d.dispatch_time BETWEEN b.`timestamp` AND b.`timestamp` + INTERVAL '10' MINUTE;
END;
