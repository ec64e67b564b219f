-- Work a: both topics to Parquet.

EXECUTE STATEMENT SET BEGIN
INSERT INTO patient_data SELECT id, patient_id, heart_rate, oxygen_saturation, vo2_max, location, emergency_alert, `timestamp` FROM readings;
INSERT INTO emergency_vehicle_data
SELECT id, vehicle_id, vehicle_type, vehicle_capacity, location, patient_id, dispatch_time, `timestamp` FROM dispatches;
END;
