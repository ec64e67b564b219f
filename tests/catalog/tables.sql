-- Before each case of this folder.
CREATE TABLE o (id STRING, code STRING, n INT, big BIGINT, place ROW<City STRING, x DOUBLE>, at TIMESTAMP(3), WATERMARK FOR at AS at) WITH ('connector' = 'datagen');

