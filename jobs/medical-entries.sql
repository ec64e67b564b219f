-- Medical entries, from text to records: which illnesses an entry tells of, and which medicines were prescribed.
-- The topic medical-entries (lines of CSV) in; the topic processed-entries, MongoDB and the raw entries as Parquet out. All finds of
-- an entry count, not only the first. An entry without an illness, a medicine or a time goes to dlq-topic with its reason, and so does
-- a line that is no CSV.

SET 'pipeline.name' = 'medical-entries';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-./checkpoints/medical-entries}';
SET 'table.local-time-zone' = 'UTC';

CREATE TABLE entries (
  patient_id STRING,
  medical_entry STRING,
  `timestamp` STRING,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  entry_time AS TO_TIMESTAMP(`timestamp`, 'yyyy-MM-dd HH:mm')
) WITH (
  'connector' = 'kafka',
  'topic' = 'medical-entries',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.group.id' = '${KAFKA_GROUP_ID:-medical-entries}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'csv',
  'tributary.dead-letters' = 'dlq'
);

CREATE VIEW found AS
SELECT *,
  REGEXP_EXTRACT_ALL(medical_entry, '${ILLNESS_PATTERN:-signs of (\w+)}', 1) AS illnesses,
  REGEXP_EXTRACT_ALL(medical_entry, '${MEDICINE_PATTERN:-Prescribed (\w+)}', 1) AS medicines
FROM entries;

-- What is wrong with an entry; nothing, for most.
CREATE VIEW judged AS
SELECT *,
  CONCAT_WS('; ',
    CASE WHEN CARDINALITY(illnesses) = 0 THEN 'no illness is named' END,
    CASE WHEN CARDINALITY(medicines) = 0 THEN 'no medicine is named' END,
    CASE WHEN entry_time IS NULL THEN 'the timestamp is not written as 2024-01-01 12:00' END) AS problem
FROM found;

CREATE TABLE processed_topic (
  patient_id STRING, illness STRING, medicine STRING, illnesses ARRAY<STRING>, medicines ARRAY<STRING>,
  medical_entry STRING, `timestamp` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'processed-entries',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'medical-entries',
  'key.format' = 'raw',
  'key.fields' = 'patient_id',
  'format' = 'json'
);

CREATE TABLE processed_entries (
  _id STRING, patient_id STRING, illness STRING, medicine STRING, illnesses ARRAY<STRING>, medicines ARRAY<STRING>,
  medical_entry STRING, `timestamp` STRING, entry_time TIMESTAMP(3),
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-medical}',
  'collection' = 'processed_entries',
  'tributary.mongodb.indexes' = 'patient_id; entry_time'
);

CREATE TABLE dlq (
  reason STRING, error STRING, source STRING, topic STRING, `partition` INT, `offset` BIGINT, `timestamp` TIMESTAMP(3),
  `key` STRING, `value` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'dlq-topic',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'medical-entries-dlq',
  'format' = 'json'
);

CREATE TABLE medical_entries (
  patient_id STRING, medical_entry STRING, `timestamp` STRING, `partition` INT, `offset` BIGINT, dt STRING
) PARTITIONED BY (dt) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/medical_entries', 'format' = 'parquet');

EXECUTE STATEMENT SET BEGIN

INSERT INTO medical_entries
SELECT patient_id, medical_entry, `timestamp`, `partition`, `offset`, DATE_FORMAT(entry_time, 'yyyy-MM-dd') FROM entries;

INSERT INTO processed_topic
SELECT patient_id, illnesses[1], medicines[1], illnesses, medicines, medical_entry, `timestamp` FROM judged WHERE problem = '';

INSERT INTO processed_entries
SELECT CONCAT_WS('/', 'medical-entries', CAST(`partition` AS STRING), CAST(`offset` AS STRING)),
  patient_id, illnesses[1], medicines[1], illnesses, medicines, medical_entry, `timestamp`, entry_time
FROM judged WHERE problem = '';

INSERT INTO dlq
SELECT 'unprocessable', problem, 'entries', 'medical-entries', `partition`, `offset`, CAST(kafka_time AS TIMESTAMP(3)), patient_id, medical_entry
FROM judged WHERE problem <> '';

END;
