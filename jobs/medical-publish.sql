-- Publishes medical entries: every line of the CSV files in ENTRIES becomes a record of the topic medical-entries, keyed by its patient.
-- Quotes, commas and line breaks in a field survive. The files begin with a header, `patient_id,medical_entry,timestamp`.
-- To its end and no further: tributary run jobs/medical-publish.sql --bounded. Run again, it publishes only what is new. Without --bounded
-- it goes on, and looks for new files every WATCH_INTERVAL.

SET 'pipeline.name' = 'medical-publish';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-./checkpoints/medical-publish}';

-- All text, so that the header, which is no entry, is just one more row.
CREATE TABLE files (
  patient_id STRING,
  medical_entry STRING,
  `timestamp` STRING
) WITH (
  'connector' = 'filesystem',
  'path' = '${ENTRIES:-./entries}',
  'source.monitor-interval' = '${WATCH_INTERVAL:-10 s}',
  'format' = 'csv',
  'tributary.dead-letters' = 'dlq'
);

CREATE TABLE entries (
  patient_id STRING,
  medical_entry STRING,
  `timestamp` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'medical-entries',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'medical-publish',
  'key.format' = 'raw',
  'key.fields' = 'patient_id',
  'format' = 'csv'
);

-- Lines that are no CSV, or have too few fields or too many.
CREATE TABLE dlq (
  reason STRING, error STRING, source STRING, topic STRING, `partition` INT, `offset` BIGINT, `timestamp` TIMESTAMP(3),
  `key` STRING, `value` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'dlq-topic',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'medical-publish-dlq',
  'format' = 'json'
);

EXECUTE STATEMENT SET BEGIN

INSERT INTO entries
SELECT patient_id, medical_entry, `timestamp` FROM files WHERE patient_id <> 'patient_id';

END;
