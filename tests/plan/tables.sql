-- The tables of the cases in this folder.
CREATE TABLE orders (
  id STRING NOT NULL, customer STRING, amount INT, price DECIMAL(10, 2), note STRING, `when` TIMESTAMP(6), plain TIMESTAMP(3),
  place ROW<city STRING, spot ROW<x DOUBLE, y DOUBLE>>, tags ARRAY<STRING>, props MAP<STRING, INT>,
  arrived TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, `partition` INT METADATA VIRTUAL,
  ts AS CAST(`when` AS TIMESTAMP(3)),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = 'localhost:9092', 'format' = 'json');
CREATE TABLE payments (
  order_id STRING, paid BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at
) WITH ('connector' = 'kafka', 'topic' = 'payments', 'properties.bootstrap.servers' = 'localhost:9092', 'format' = 'json');
CREATE TABLE counts (
  window_start TIMESTAMP(3), window_end TIMESTAMP(3), customer STRING, n BIGINT
) WITH ('connector' = 'filesystem', 'path' = '/lake/counts', 'format' = 'parquet');
CREATE TABLE one (a STRING) WITH ('connector' = 'filesystem', 'path' = '/lake/one', 'format' = 'parquet');
CREATE TABLE number (n INT) WITH ('connector' = 'filesystem', 'path' = '/lake/number', 'format' = 'parquet');
CREATE TABLE strict (a STRING NOT NULL, b INT) WITH ('connector' = 'filesystem', 'path' = '/lake/strict', 'format' = 'parquet');
CREATE TABLE clicks (page STRING, visitor INT, big BIGINT, ts TIMESTAMP(3), proc AS PROCTIME(), WATERMARK FOR ts AS ts)
WITH ('connector' = 'kafka', 'topic' = 'clicks', 'properties.bootstrap.servers' = 'localhost:9092', 'format' = 'json');
CREATE TABLE people (id INT, name STRING, city STRING, born TIMESTAMP(3), initial AS SUBSTRING(name FROM 1 FOR 1), PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'mongodb', 'uri' = 'mongodb://localhost:27017', 'database' = 'd', 'collection' = 'people');
