-- Login analytics: who logs in with what and from where, how many each minute, and which minutes are out of the ordinary.
-- The topic user-login in; valid logins to processed-user-login, the counts to one JSON file that is always whole, anomalies to the
-- topic login-anomalies, logins and anomalies as Parquet. A login without device_type, locale or timestamp is a dead letter.

SET 'pipeline.name' = 'login-analytics';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-./checkpoints/login-analytics}';
SET 'table.local-time-zone' = 'UTC';

CREATE TABLE logins (
  user_id STRING,
  app_version STRING,
  ip STRING,
  locale STRING NOT NULL,
  device_id STRING,
  `timestamp` BIGINT NOT NULL,
  device_type STRING NOT NULL,
  event_time AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR event_time AS event_time - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = 'user-login',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.group.id' = '${KAFKA_GROUP_ID:-login-analytics}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE processed (
  user_id STRING, app_version STRING, ip STRING, locale STRING, device_id STRING, `timestamp` BIGINT, device_type STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'processed-user-login',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'login-analytics',
  'key.format' = 'raw',
  'key.fields' = 'user_id',
  'format' = 'json'
);

-- Three tables, one document: the first column of each is a name in it, the second its value.
CREATE TABLE by_device_type (
  device_type STRING, logins BIGINT, PRIMARY KEY (device_type) NOT ENFORCED
) WITH (
  'connector' = 'tributary-json-file',
  'path' = '${AGGREGATED_DATA:-./aggregated_data.json}',
  'tributary.json-file.heading' = 'Logins by Device Type'
);
CREATE TABLE by_locale (
  locale STRING, logins BIGINT, PRIMARY KEY (locale) NOT ENFORCED
) WITH (
  'connector' = 'tributary-json-file',
  'path' = '${AGGREGATED_DATA:-./aggregated_data.json}',
  'tributary.json-file.heading' = 'Logins by Locale'
);
CREATE TABLE over_time (
  `minute` STRING, logins BIGINT, PRIMARY KEY (`minute`) NOT ENFORCED
) WITH (
  'connector' = 'tributary-json-file',
  'path' = '${AGGREGATED_DATA:-./aggregated_data.json}',
  'tributary.json-file.heading' = 'Logins Over Time'
);

CREATE TABLE anomaly_topic (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), logins BIGINT, users BIGINT, threshold BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = 'login-anomalies',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.transaction.timeout.ms' = '600000',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'login-analytics-anomalies',
  'key.format' = 'json',
  'key.fields' = 'window_start',
  'format' = 'json'
);

CREATE TABLE user_login (
  user_id STRING, app_version STRING, ip STRING, locale STRING, device_id STRING, `timestamp` BIGINT, device_type STRING,
  dt STRING, `hour` STRING
) PARTITIONED BY (dt, `hour`) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/user_login', 'format' = 'parquet');

CREATE TABLE anomalies (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), logins BIGINT, users BIGINT, threshold BIGINT, dt STRING
) PARTITIONED BY (dt) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/login_anomalies', 'format' = 'parquet');

-- One row for each minute with more logins than usual, when the minute is over and two more for those who come late.
CREATE VIEW unusual AS
SELECT CAST(window_start AS TIMESTAMP(3)) AS window_start, CAST(window_end AS TIMESTAMP(3)) AS window_end,
  COUNT(*) AS logins, COUNT(DISTINCT user_id) AS users
FROM TABLE(TUMBLE(TABLE logins, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end
HAVING COUNT(*) > ${ANOMALY_THRESHOLD:-10};

EXECUTE STATEMENT SET BEGIN

INSERT INTO user_login
SELECT user_id, app_version, ip, locale, device_id, `timestamp`, device_type,
  DATE_FORMAT(event_time, 'yyyy-MM-dd'), DATE_FORMAT(event_time, 'HH')
FROM logins;

INSERT INTO processed
SELECT user_id, app_version, ip, locale, device_id, `timestamp`, device_type FROM logins;

INSERT INTO by_device_type SELECT device_type, COUNT(*) FROM logins GROUP BY device_type;

INSERT INTO by_locale SELECT locale, COUNT(*) FROM logins GROUP BY locale;

-- Not a window: whoever comes late, however late, counts in the minute of the login.
INSERT INTO over_time
SELECT `minute`, COUNT(*) FROM (SELECT DATE_FORMAT(event_time, 'yyyy-MM-dd HH:mm') AS `minute` FROM logins) GROUP BY `minute`;

INSERT INTO anomaly_topic SELECT window_start, window_end, logins, users, ${ANOMALY_THRESHOLD:-10} FROM unusual;

INSERT INTO anomalies
SELECT window_start, window_end, logins, users, ${ANOMALY_THRESHOLD:-10}, DATE_FORMAT(window_start, 'yyyy-MM-dd') FROM unusual;

END;
