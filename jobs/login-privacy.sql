-- Login privacy: nobody behind this job learns an address or a device. Every login is masked, then sorted by the version of the app.
-- The topic user-login in; APP_VERSION to processed-output, other versions to cleaned-data, what is unparsable or incomplete to
-- processed-errors with its reason, and a summary after every 1,000 logins to summary-output.
--
-- Anybody can try all four thousand million IPv4 addresses, so a plain SHA-256 of one is no secret. With HASH_KEY set, the hash
-- depends on it: SHA256(key || SHA256(key || text)). With IP_PRIVACY=truncate an IPv4 address only loses its last number, and still
-- tells the network. With MASK_CLEANED_DATA=false, addresses and devices stand in cleaned-data as they came.

SET 'pipeline.name' = 'login-privacy';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-./checkpoints/login-privacy}';
SET 'table.local-time-zone' = 'UTC';

CREATE TABLE logins (
  user_id STRING NOT NULL,
  app_version STRING NOT NULL,
  ip STRING NOT NULL,
  locale STRING NOT NULL,
  device_id STRING NOT NULL,
  `timestamp` BIGINT NOT NULL,
  device_type STRING NOT NULL,
  seen AS PROCTIME()
) WITH (
  'connector' = 'kafka',
  'topic' = 'user-login',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.group.id' = '${KAFKA_GROUP_ID:-login-privacy}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'tributary.dead-letters' = 'errors'
);

-- Every login, as it came and with what may be told in its place.
CREATE VIEW hashed AS
SELECT user_id, app_version, ip, locale, device_id,
  DATE_FORMAT(TO_TIMESTAMP_LTZ(`timestamp`, 0), 'yyyy-MM-dd HH:mm:ss') AS `timestamp`,
  device_type,
  COALESCE(
    CASE WHEN '${IP_PRIVACY:-hash}' = 'truncate' THEN REGEXP_EXTRACT(ip, '^(\d+\.\d+\.\d+)\.\d+$', 1) || '.0' END,
    CASE WHEN '${HASH_KEY:-}' = '' THEN SHA256(ip) ELSE SHA256('${HASH_KEY:-}' || SHA256('${HASH_KEY:-}' || ip)) END) AS masked_ip,
  CASE WHEN '${HASH_KEY:-}' = '' THEN SHA256(device_id) ELSE SHA256('${HASH_KEY:-}' || SHA256('${HASH_KEY:-}' || device_id)) END AS masked_device_id
FROM logins;

CREATE VIEW masked AS
SELECT user_id, app_version, masked_ip AS ip, locale, masked_device_id AS device_id, `timestamp`, device_type FROM hashed;

-- Counts of all that came so far, beside each login.
CREATE VIEW counted AS
SELECT COUNT(*) OVER w AS processed,
  COUNT(CASE WHEN app_version <> '${APP_VERSION:-2.3.0}' THEN 1 END) OVER w AS filtered,
  COLLECT(device_type) OVER w AS device_types,
  COLLECT(locale) OVER w AS locales
FROM logins
WINDOW w AS (ORDER BY seen ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);

CREATE TABLE processed_output (
  user_id STRING, app_version STRING, ip STRING, locale STRING, device_id STRING, `timestamp` STRING, device_type STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'processed-output',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.compression.type' = 'lz4',
  'properties.linger.ms' = '20',
  'properties.retries' = '5',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'login-privacy-processed',
  'key.format' = 'raw',
  'key.fields' = 'user_id',
  'format' = 'json'
);

CREATE TABLE cleaned_data (
  user_id STRING, app_version STRING, ip STRING, locale STRING, device_id STRING, `timestamp` STRING, device_type STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'cleaned-data',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.compression.type' = 'lz4',
  'properties.linger.ms' = '20',
  'properties.retries' = '5',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'login-privacy-cleaned',
  'key.format' = 'raw',
  'key.fields' = 'user_id',
  'format' = 'json'
);

CREATE TABLE summary (
  processed BIGINT, filtered BIGINT, device_types MULTISET<STRING>, locales MULTISET<STRING>
) WITH (
  'connector' = 'kafka',
  'topic' = 'summary-output',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'login-privacy-summary',
  'format' = 'json'
);

-- A record that cannot be read is kept as it came: who may read this topic sees what it holds.
CREATE TABLE errors (
  reason STRING, error STRING, topic STRING, `partition` INT, `offset` BIGINT, `timestamp` TIMESTAMP(3), `key` STRING, `value` STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'processed-errors',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'login-privacy-errors',
  'format' = 'json'
);

-- The lake holds the masked logins of all versions; nothing that leads back to a person is kept there.
CREATE TABLE masked_login (
  user_id STRING, app_version STRING, ip STRING, locale STRING, device_id STRING, `timestamp` STRING, device_type STRING, dt STRING
) PARTITIONED BY (dt) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/masked_login', 'format' = 'parquet');

EXECUTE STATEMENT SET BEGIN

INSERT INTO processed_output SELECT * FROM masked WHERE app_version = '${APP_VERSION:-2.3.0}';

INSERT INTO cleaned_data
SELECT user_id, app_version,
  CASE WHEN LOWER('${MASK_CLEANED_DATA:-true}') = 'false' THEN ip ELSE masked_ip END,
  locale,
  CASE WHEN LOWER('${MASK_CLEANED_DATA:-true}') = 'false' THEN device_id ELSE masked_device_id END,
  `timestamp`, device_type
FROM hashed WHERE app_version <> '${APP_VERSION:-2.3.0}';

INSERT INTO masked_login SELECT *, SUBSTRING(`timestamp`, 1, 10) FROM masked;

INSERT INTO summary
SELECT processed, filtered, device_types, locales FROM counted WHERE MOD(processed, ${SUMMARY_EVERY:-1000}) = 0;

END;
