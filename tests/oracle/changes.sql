-- Queries whose results change, and windows of several kinds, for real Flink and for Tributary: both print, and what holds in the end
-- must be the same. INPUT is a folder with files of JSON.
SET 'execution.checkpointing.dir' = '${CHECKPOINTS}';

CREATE TABLE orders (
  id INT, customer STRING, category STRING, product STRING, amount INT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE
) WITH ('connector' = 'filesystem', 'path' = '${INPUT}', 'format' = 'json');

CREATE TABLE per_customer (customer STRING, n BIGINT, total INT, mean INT, lowest INT, products BIGINT, dear BIGINT)
  WITH ('connector' = 'print', 'print-identifier' = 'per_customer');
CREATE TABLE totals (n BIGINT, total INT) WITH ('connector' = 'print', 'print-identifier' = 'totals');
CREATE TABLE places (category STRING, place BIGINT, product STRING, n BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'places');
CREATE TABLE top_three (category STRING, product STRING, n BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'top_three');
CREATE TABLE largest (customer STRING, id INT, amount INT) WITH ('connector' = 'print', 'print-identifier' = 'largest');
CREATE TABLE first_order (customer STRING, id INT) WITH ('connector' = 'print', 'print-identifier' = 'first_order');
CREATE TABLE last_order (customer STRING, id INT) WITH ('connector' = 'print', 'print-identifier' = 'last_order');
CREATE TABLE window_top (start_at STRING, place BIGINT, product STRING, n BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'window_top');
CREATE TABLE hops (start_at STRING, end_at STRING, customer STRING, n BIGINT, total INT) WITH ('connector' = 'print', 'print-identifier' = 'hops');
CREATE TABLE hops_of_all (start_at STRING, end_at STRING, customers BIGINT, most BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'hops_of_all');
CREATE TABLE so_far (start_at STRING, end_at STRING, n BIGINT, customers BIGINT) WITH ('connector' = 'print', 'print-identifier' = 'so_far');

CREATE VIEW counts AS SELECT category, product, COUNT(*) AS n FROM orders GROUP BY category, product;
CREATE VIEW ranked AS SELECT *, ROW_NUMBER() OVER (PARTITION BY category ORDER BY n DESC, product) AS place FROM counts;
CREATE VIEW per_minute AS
SELECT window_start, window_end, product, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end, product;
CREATE VIEW hopping AS
SELECT window_start, window_end, customer, COUNT(*) AS n, SUM(amount) AS total
FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '20' MINUTE)) GROUP BY window_start, window_end, customer;

EXECUTE STATEMENT SET BEGIN
INSERT INTO per_customer
SELECT customer, COUNT(*), SUM(amount), AVG(amount), MIN(amount), COUNT(DISTINCT product), COUNT(*) FILTER (WHERE amount > 50)
FROM orders GROUP BY customer HAVING COUNT(*) < 70;
INSERT INTO totals SELECT COUNT(*), SUM(amount) FROM orders;
INSERT INTO places SELECT category, place, product, n FROM ranked WHERE place <= 3;
INSERT INTO top_three SELECT category, product, n FROM ranked WHERE place <= 3;
INSERT INTO largest SELECT customer, id, amount FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS place FROM orders) WHERE place <= 2;
INSERT INTO first_order SELECT customer, id FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts) AS place FROM orders) WHERE place = 1;
INSERT INTO last_order SELECT customer, id FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts DESC) AS place FROM orders) WHERE place = 1;
INSERT INTO window_top SELECT DATE_FORMAT(window_start, 'HH:mm'), place, product, n FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, product) AS place FROM per_minute) WHERE place <= 2;
INSERT INTO hops SELECT DATE_FORMAT(window_start, 'HH:mm'), DATE_FORMAT(window_end, 'HH:mm'), customer, n, total FROM hopping;
INSERT INTO hops_of_all SELECT DATE_FORMAT(window_start, 'HH:mm'), DATE_FORMAT(window_end, 'HH:mm'), COUNT(*), MAX(n)
FROM hopping GROUP BY window_start, window_end;
INSERT INTO so_far SELECT DATE_FORMAT(window_start, 'HH:mm'), DATE_FORMAT(window_end, 'HH:mm'), COUNT(*), COUNT(DISTINCT customer)
FROM TABLE(CUMULATE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' MINUTE, INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
END;
