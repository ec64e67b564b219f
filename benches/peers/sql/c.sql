-- Work c: the vitals of each patient in windows of one minute.

CREATE TABLE vitals_1m (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), patient_id STRING, readings BIGINT,
  heart_rate_min INT, heart_rate_max INT, heart_rate_avg DOUBLE,
  oxygen_saturation_min DOUBLE, oxygen_saturation_max DOUBLE, oxygen_saturation_avg DOUBLE,
  vo2_max_min DOUBLE, vo2_max_max DOUBLE, vo2_max_avg DOUBLE
) WITH ('connector' = 'filesystem', 'path' = '${LAKE}/vitals_1m', 'format' = 'parquet');

EXECUTE STATEMENT SET BEGIN
INSERT INTO vitals_1m
SELECT window_start, window_end, patient_id, COUNT(*),
  MIN(heart_rate), MAX(heart_rate), AVG(CAST(heart_rate AS DOUBLE)),
  MIN(oxygen_saturation), MAX(oxygen_saturation), AVG(oxygen_saturation),
  MIN(vo2_max), MAX(vo2_max), AVG(vo2_max)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(`timestamp`), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, patient_id;
END;
