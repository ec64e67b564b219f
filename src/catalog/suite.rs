//! What every catalog has to hold.

use super::{Catalog, Column, CrawlerSpec, Definition, Format, Partition, Start};
use crate::error::Kind;
use std::collections::BTreeMap;

fn column(name: &str, hive_type: &str) -> Column {
    Column {
        name: name.into(),
        hive_type: hive_type.into(),
        comment: None,
    }
}

fn table(database: &str) -> Definition {
    Definition {
        database: database.into(),
        name: "readings".into(),
        columns: vec![
            column("id", "string"),
            column("place", "struct<latitude:double,tags:array<string>>"),
        ],
        partition_keys: vec![column("dt", "string"), column("hour", "int")],
        location: "s3://bucket/lake/readings".into(),
        parameters: BTreeMap::from([("classification".into(), "parquet".into())]),
        format: Format::Parquet,
    }
}

fn partition(hour: usize) -> Partition {
    Partition {
        values: vec!["2024-03-01".into(), hour.to_string()],
        location: format!("s3://bucket/lake/readings/dt=2024-03-01/hour={hour}"),
    }
}

/// On a catalog that has nothing of this name.
pub async fn holds(catalog: &dyn Catalog, name: &str) {
    let table = table(name);
    assert_eq!(catalog.table(name, "readings").await.unwrap(), None);
    catalog.create_database(name).await.unwrap();
    catalog.create_database(name).await.unwrap();

    assert!(catalog.create_table(&table).await.unwrap());
    let mut other = table.clone();
    other.location = "s3://bucket/elsewhere".into();
    assert!(!catalog.create_table(&other).await.unwrap());
    let there = catalog.table(name, "readings").await.unwrap().unwrap();
    assert_eq!(there.location, table.location, "a table is created once");
    assert_eq!(there.columns, table.columns);
    assert_eq!(there.partition_keys, table.partition_keys);
    assert_eq!(there.parameters["classification"], "parquet");
    assert_eq!(there.format, Format::Parquet);
    assert_eq!(catalog.tables(name).await.unwrap().len(), 1);

    // More than one request holds.
    let many: Vec<Partition> = (0..250).map(partition).collect();
    assert_eq!(
        catalog.add_partitions(&table, &many[..101]).await.unwrap(),
        101
    );
    assert_eq!(catalog.add_partitions(&table, &many).await.unwrap(), 149);
    assert_eq!(catalog.add_partitions(&table, &many).await.unwrap(), 0);
    let mut listed = catalog.partitions(name, "readings").await.unwrap();
    let mut expected = many.clone();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);

    let mut wider = table.clone();
    wider.columns.push(column("added", "bigint"));
    catalog.update_table(&wider).await.unwrap();
    let there = catalog.table(name, "readings").await.unwrap().unwrap();
    assert_eq!(there.columns, wider.columns);
    assert_eq!(
        catalog.partitions(name, "readings").await.unwrap().len(),
        250
    );

    let moved = Partition {
        location: "s3://bucket/lake/_tributary/compacted/7".into(),
        ..partition(7)
    };
    catalog.move_partition(&table, &moved).await.unwrap();
    assert_eq!(catalog.add_partitions(&table, &many).await.unwrap(), 0);
    let listed = catalog.partitions(name, "readings").await.unwrap();
    assert!(listed.contains(&moved) && !listed.contains(&partition(7)));
    let unknown = catalog.move_partition(&table, &partition(999)).await;
    assert_eq!(unknown.unwrap_err().kind(), Kind::Job);

    let missing = catalog.start_crawler(name).await;
    assert_eq!(missing.unwrap_err().kind(), Kind::Job);
    assert_eq!(catalog.crawler(name).await.unwrap(), None);
    let spec = CrawlerSpec {
        name: name.into(),
        role: "arn:aws:iam::123456789012:role/crawler".into(),
        database: name.into(),
        targets: vec![table.location.clone()],
        schedule: None,
    };
    catalog.create_crawler(&spec).await.unwrap();
    catalog.create_crawler(&spec).await.unwrap();
    assert_eq!(catalog.start_crawler(name).await.unwrap(), Start::Started);
    assert_eq!(catalog.start_crawler(name).await.unwrap(), Start::Running);
    let crawler = catalog.crawler(name).await.unwrap().unwrap();
    assert_eq!(crawler.state, "RUNNING");
    assert_eq!(crawler.targets, spec.targets);
}
