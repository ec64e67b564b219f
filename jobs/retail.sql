-- Retail: what customers do, what they buy, and what is left in stock.
-- Three topics in; MongoDB and Parquet out. Collection raw_data holds every event, aggregated_data what each minute came to,
-- real_time_metrics the totals of this moment and an alert for each product that runs out, which goes away when the product is back.
-- An event without what the tables need (NOT NULL) is a dead letter. Money is summed as DECIMAL, so that sums are exact.

SET 'pipeline.name' = 'retail';
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.dir' = '${CHECKPOINTS:-./checkpoints/retail}';
SET 'table.local-time-zone' = 'UTC';

CREATE TABLE user_activity (
  user_id STRING NOT NULL,
  activity_type STRING NOT NULL,
  `timestamp` TIMESTAMP(6) NOT NULL,
  session_id STRING,
  ip_address STRING,
  user_agent STRING,
  product_id STRING,
  amount DECIMAL(12, 2),
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  ingestion_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  record AS CONCAT_WS('/', topic, CAST(`partition` AS STRING), CAST(`offset` AS STRING)),
  event_time AS CAST(`timestamp` AS TIMESTAMP(3)),
  WATERMARK FOR event_time AS event_time - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = 'user_activity',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.group.id' = '${KAFKA_GROUP_ID:-retail}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE sales (
  transaction_id STRING NOT NULL,
  user_id STRING,
  product_id STRING NOT NULL,
  quantity INT NOT NULL,
  unit_price DECIMAL(12, 2),
  total_amount DECIMAL(12, 2) NOT NULL,
  payment_method STRING NOT NULL,
  `timestamp` TIMESTAMP(6) NOT NULL,
  store_id STRING NOT NULL,
  category STRING NOT NULL,
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  ingestion_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  record AS CONCAT_WS('/', topic, CAST(`partition` AS STRING), CAST(`offset` AS STRING)),
  event_time AS CAST(`timestamp` AS TIMESTAMP(3)),
  WATERMARK FOR event_time AS event_time - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = 'sales',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.group.id' = '${KAFKA_GROUP_ID:-retail}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE inventory (
  product_id STRING NOT NULL,
  current_stock INT NOT NULL,
  reorder_level INT NOT NULL,
  last_updated TIMESTAMP(6) NOT NULL,
  warehouse_id STRING,
  category STRING,
  status STRING,
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  ingestion_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  record AS CONCAT_WS('/', topic, CAST(`partition` AS STRING), CAST(`offset` AS STRING)),
  event_time AS CAST(last_updated AS TIMESTAMP(3)),
  WATERMARK FOR event_time AS event_time - INTERVAL '2' MINUTE
) WITH (
  'connector' = 'kafka',
  'topic' = 'inventory',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}',
  'properties.group.id' = '${KAFKA_GROUP_ID:-retail}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

-- Collection raw_data: a document for each record; its _id is the place where Kafka has it, such as sales/0/17.
CREATE TABLE raw_activity (
  _id STRING, topic STRING, `partition` INT, `offset` BIGINT, ingestion_time TIMESTAMP_LTZ(3), `timestamp` TIMESTAMP(3),
  user_id STRING, activity_type STRING, session_id STRING, ip_address STRING, user_agent STRING, product_id STRING, amount DOUBLE,
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-kafka_pipeline}',
  'collection' = 'raw_data',
  'tributary.mongodb.indexes' = 'timestamp; topic'
);
CREATE TABLE raw_sales (
  _id STRING, topic STRING, `partition` INT, `offset` BIGINT, ingestion_time TIMESTAMP_LTZ(3), `timestamp` TIMESTAMP(3),
  transaction_id STRING, user_id STRING, product_id STRING, quantity INT, unit_price DOUBLE, total_amount DOUBLE,
  payment_method STRING, store_id STRING, category STRING,
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-kafka_pipeline}',
  'collection' = 'raw_data',
  'tributary.mongodb.indexes' = 'timestamp; topic'
);
CREATE TABLE raw_inventory (
  _id STRING, topic STRING, `partition` INT, `offset` BIGINT, ingestion_time TIMESTAMP_LTZ(3), `timestamp` TIMESTAMP(3),
  product_id STRING, current_stock INT, reorder_level INT, warehouse_id STRING, category STRING, status STRING,
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-kafka_pipeline}',
  'collection' = 'raw_data',
  'tributary.mongodb.indexes' = 'timestamp; topic'
);

-- Collection aggregated_data: what one minute came to, for each value of what `type` says. `name` is that value.
CREATE TABLE aggregated_data (
  _id STRING, type STRING, name STRING, `timestamp` TIMESTAMP(3), window_end TIMESTAMP(3),
  events BIGINT, quantity BIGINT, amount DOUBLE, place BIGINT,
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-kafka_pipeline}',
  'collection' = 'aggregated_data',
  'tributary.mongodb.indexes' = 'timestamp; type'
);

-- Collection real_time_metrics: totals, and alerts that stand.
CREATE TABLE totals (
  _id STRING, type STRING, name STRING, `timestamp` TIMESTAMP(3), events BIGINT, quantity BIGINT, amount DOUBLE,
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-kafka_pipeline}',
  'collection' = 'real_time_metrics',
  'tributary.mongodb.indexes' = 'timestamp'
);
CREATE TABLE alerts (
  _id STRING, type STRING, name STRING, `timestamp` TIMESTAMP(3), status STRING, current_stock INT, reorder_level INT, warehouse_id STRING, category STRING,
  PRIMARY KEY (_id) NOT ENFORCED
) WITH (
  'connector' = 'mongodb',
  'uri' = '${MONGO_URI:-mongodb://localhost:27017}',
  'database' = '${MONGO_DATABASE:-kafka_pipeline}',
  'collection' = 'real_time_metrics',
  'tributary.mongodb.indexes' = 'timestamp'
);

CREATE TABLE activity_events (
  user_id STRING, activity_type STRING, `timestamp` TIMESTAMP(6), session_id STRING, ip_address STRING, user_agent STRING,
  product_id STRING, amount DECIMAL(12, 2), dt STRING, `hour` STRING
) PARTITIONED BY (dt, `hour`) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/user_activity', 'format' = 'parquet');
CREATE TABLE sales_events (
  transaction_id STRING, user_id STRING, product_id STRING, quantity INT, unit_price DECIMAL(12, 2), total_amount DECIMAL(12, 2),
  payment_method STRING, `timestamp` TIMESTAMP(6), store_id STRING, category STRING, dt STRING, `hour` STRING
) PARTITIONED BY (dt, `hour`) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/sales', 'format' = 'parquet');
CREATE TABLE inventory_events (
  product_id STRING, current_stock INT, reorder_level INT, last_updated TIMESTAMP(6), warehouse_id STRING, category STRING, status STRING,
  dt STRING, `hour` STRING
) PARTITIONED BY (dt, `hour`) WITH ('connector' = 'filesystem', 'path' = '${LAKE:-./lake}/inventory', 'format' = 'parquet');

CREATE VIEW products_by_minute AS
SELECT product_id, window_start, window_end, COUNT(*) AS events, SUM(CAST(quantity AS BIGINT)) AS quantity, SUM(total_amount) AS amount
FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, product_id;

CREATE VIEW minutes AS
SELECT 'sales_by_category' AS type, category AS name, window_start, window_end, COUNT(*) AS events,
  SUM(CAST(quantity AS BIGINT)) AS quantity, SUM(total_amount) AS amount, CAST(NULL AS BIGINT) AS place
FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, category
UNION ALL
SELECT 'sales_by_store' AS type, store_id AS name, window_start, window_end, COUNT(*) AS events,
  SUM(CAST(quantity AS BIGINT)) AS quantity, SUM(total_amount) AS amount, CAST(NULL AS BIGINT) AS place
FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, store_id
UNION ALL
SELECT 'sales_by_payment_method' AS type, payment_method AS name, window_start, window_end, COUNT(*) AS events,
  SUM(CAST(quantity AS BIGINT)) AS quantity, SUM(total_amount) AS amount, CAST(NULL AS BIGINT) AS place
FROM TABLE(TUMBLE(TABLE sales, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, payment_method
UNION ALL
SELECT 'activity_by_type' AS type, activity_type AS name, window_start, window_end, COUNT(*) AS events,
  CAST(NULL AS BIGINT) AS quantity, SUM(amount) AS amount, CAST(NULL AS BIGINT) AS place
FROM TABLE(TUMBLE(TABLE user_activity, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, activity_type
UNION ALL
SELECT 'top_products', product_id, window_start, window_end, events, quantity, amount, place
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY amount DESC, product_id) AS place FROM products_by_minute
) WHERE place <= ${TOP_PRODUCTS:-10};

-- The last word on each product.
CREATE VIEW stock AS
SELECT _id, product_id, current_stock, reorder_level, event_time, warehouse_id, category
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY _id ORDER BY event_time DESC) AS place
  FROM (SELECT *, 'stock_alert/' || product_id AS _id FROM inventory)
) WHERE place = 1;

EXECUTE STATEMENT SET BEGIN

INSERT INTO activity_events
SELECT user_id, activity_type, `timestamp`, session_id, ip_address, user_agent, product_id, amount,
  DATE_FORMAT(event_time, 'yyyy-MM-dd'), DATE_FORMAT(event_time, 'HH')
FROM user_activity;

INSERT INTO sales_events
SELECT transaction_id, user_id, product_id, quantity, unit_price, total_amount, payment_method, `timestamp`, store_id, category,
  DATE_FORMAT(event_time, 'yyyy-MM-dd'), DATE_FORMAT(event_time, 'HH')
FROM sales;

INSERT INTO inventory_events
SELECT product_id, current_stock, reorder_level, last_updated, warehouse_id, category, status,
  DATE_FORMAT(event_time, 'yyyy-MM-dd'), DATE_FORMAT(event_time, 'HH')
FROM inventory;

INSERT INTO raw_activity
SELECT record, topic, `partition`, `offset`, ingestion_time, event_time,
  user_id, activity_type, session_id, ip_address, user_agent, product_id, CAST(amount AS DOUBLE)
FROM user_activity;

INSERT INTO raw_sales
SELECT record, topic, `partition`, `offset`, ingestion_time, event_time,
  transaction_id, user_id, product_id, quantity, CAST(unit_price AS DOUBLE), CAST(total_amount AS DOUBLE), payment_method, store_id, category
FROM sales;

INSERT INTO raw_inventory
SELECT record, topic, `partition`, `offset`, ingestion_time, event_time,
  product_id, current_stock, reorder_level, warehouse_id, category, status
FROM inventory;

INSERT INTO aggregated_data
SELECT CONCAT_WS('/', type, name, DATE_FORMAT(window_start, 'yyyy-MM-dd HH:mm')), type, name, window_start, window_end,
  events, quantity, CAST(amount AS DOUBLE), place
FROM minutes;

INSERT INTO totals
SELECT 'total/sales', 'total', 'sales', MAX(event_time), COUNT(*), SUM(CAST(quantity AS BIGINT)), CAST(SUM(total_amount) AS DOUBLE) FROM sales;

INSERT INTO totals
SELECT _id, 'sales_by_category', MAX(category), MAX(event_time), COUNT(*), SUM(CAST(quantity AS BIGINT)), CAST(SUM(total_amount) AS DOUBLE)
FROM (SELECT *, 'sales_by_category/' || category AS _id FROM sales) GROUP BY _id;

INSERT INTO totals
SELECT _id, 'activity', MAX(activity_type), MAX(event_time), COUNT(*), CAST(NULL AS BIGINT), CAST(SUM(amount) AS DOUBLE)
FROM (SELECT *, 'activity/' || activity_type AS _id FROM user_activity) GROUP BY _id;

INSERT INTO alerts
SELECT _id, 'stock_alert', product_id, event_time, CASE WHEN current_stock <= 0 THEN 'out_of_stock' ELSE 'low_stock' END,
  current_stock, reorder_level, warehouse_id, category
FROM stock WHERE current_stock <= reorder_level;

END;
