//! Against a Glue server where there is one, named in TRIBUTARY_TEST_GLUE, and against one of our own that gives the answers that
//! no test server gives.

use super::GlueCatalog;
use crate::catalog::{Catalog, Column, Definition, Format, Partition, suite};
use crate::error::{Error, Kind};
use aws_sdk_glue::types::TableInput;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn fresh() -> String {
    format!("suite_{}", uuid::Uuid::new_v4().simple())
}

/// The server of the tests.
fn server(test: &str) -> Option<GlueCatalog> {
    match std::env::var("TRIBUTARY_TEST_GLUE") {
        Ok(endpoint) => Some(GlueCatalog::at(&endpoint)),
        Err(_) => {
            eprintln!("left out: {test} needs a Glue server in TRIBUTARY_TEST_GLUE");
            None
        }
    }
}

fn table(database: &str) -> Definition {
    let column = |name: &str, hive_type: &str| Column {
        name: name.into(),
        hive_type: hive_type.into(),
        comment: None,
    };
    Definition {
        database: database.into(),
        name: "readings".into(),
        columns: vec![column("id", "string")],
        partition_keys: vec![column("dt", "string")],
        location: "s3://b/lake/readings".into(),
        parameters: BTreeMap::from([("classification".into(), "parquet".into())]),
        format: Format::Parquet,
    }
}

#[tokio::test]
async fn glue_keeps_the_contract() {
    if let Some(glue) = server("the catalog's suite") {
        suite::holds(&glue, &fresh()).await;
    }
}

#[tokio::test]
async fn what_others_put_into_a_table_stays() {
    let Some(glue) = server("the update of a table") else {
        return;
    };
    let name = fresh();
    let mut table = table(&name);
    glue.create_database(&name).await.unwrap();
    glue.create_table(&table).await.unwrap();

    // Somebody describes it, and a column of it, and a crawler leaves its mark.
    let there = glue.get(&name, "readings").await.unwrap().unwrap();
    let mut storage = there.storage_descriptor().unwrap().clone();
    storage.serde_info.as_mut().unwrap().parameters = Some([("seen".into(), "yes".into())].into());
    storage.columns.as_mut().unwrap()[0].parameters = Some([("tag".into(), "1".into())].into());
    let parameters = [("UPDATED_BY_CRAWLER", "c"), ("classification", "parquet")];
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let input = TableInput::builder()
        .name("readings")
        .description("what was read")
        .owner("somebody")
        .retention(7)
        .set_parameters(Some(parameters.into()))
        .storage_descriptor(storage)
        .set_partition_keys(there.partition_keys.clone())
        .table_type("EXTERNAL_TABLE");
    let client = glue.client().await;
    let sent = client.update_table().database_name(&name);
    let sent = sent.table_input(input.build().unwrap()).send().await;
    sent.unwrap();

    let seen = glue.table(&name, "readings").await.unwrap().unwrap();
    assert_eq!(seen.parameters["UPDATED_BY_CRAWLER"], "c");
    table.parameters = seen.parameters;
    table.columns.push(Column {
        name: "added".into(),
        hive_type: "bigint".into(),
        comment: Some("new".into()),
    });
    glue.update_table(&table).await.unwrap();

    assert_eq!(glue.table(&name, "readings").await.unwrap().unwrap(), table);
    let there = glue.get(&name, "readings").await.unwrap().unwrap();
    assert_eq!(there.description(), Some("what was read"));
    assert_eq!(there.owner(), Some("somebody"));
    assert_eq!(there.retention(), 7);
    let storage = there.storage_descriptor().unwrap();
    assert_eq!(storage.number_of_buckets(), -1);
    let serde = storage.serde_info().unwrap().parameters().unwrap();
    assert_eq!(serde["seen"], "yes");
    assert_eq!(storage.columns()[0].parameters().unwrap()["tag"], "1");
}

#[tokio::test]
async fn a_view_is_no_table_of_files() {
    let Some(glue) = server("a view in the catalog") else {
        return;
    };
    let name = fresh();
    glue.create_database(&name).await.unwrap();
    let view = TableInput::builder()
        .name("v")
        .table_type("VIRTUAL_VIEW")
        .view_original_text("x");
    let client = glue.client().await;
    let sent = client.create_table().database_name(&name);
    sent.table_input(view.build().unwrap())
        .send()
        .await
        .unwrap();
    let seen = glue.table(&name, "v").await.unwrap().unwrap();
    assert_eq!(seen.format, Format::Other("a view".into()));
    assert_eq!(glue.tables(&name).await.unwrap(), [seen]);
}

/// A server that gives each call of an action the next of some answers, and the last one from then on.
async fn answering(
    answers: &'static [(u16, &'static str)],
) -> (GlueCatalog, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let answer = move |headers: HeaderMap| {
        let mut seen = seen.lock().unwrap();
        let target = headers["x-amz-target"].to_str().unwrap().to_owned();
        let (status, body) = answers[seen.len().min(answers.len() - 1)];
        seen.push(target);
        let status = StatusCode::from_u16(status).unwrap();
        async move {
            (
                status,
                [("content-type", "application/x-amz-json-1.1")],
                body,
            )
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        async move { axum::serve(listener, Router::new().route("/", post(answer))).await },
    );
    (GlueCatalog::at(&format!("http://{address}")), asked)
}

async fn failure(answers: &'static [(u16, &'static str)]) -> Error {
    let (glue, _) = answering(answers).await;
    glue.table("lake", "readings").await.unwrap_err()
}

#[tokio::test]
async fn what_passes_is_tried_again_later() {
    for answer in [
        &[(
            500,
            r#"{"__type":"InternalServiceException","Message":"oh"}"#,
        )],
        &[(503, "<html>busy</html>")],
        &[(
            400,
            r#"{"__type":"ThrottlingException","Message":"Rate exceeded"}"#,
        )],
        &[(
            400,
            r#"{"__type":"OperationTimeoutException","Message":"slow"}"#,
        )],
        &[(
            400,
            r#"{"__type":"com.amazonaws#ConcurrentModificationException","Message":"other"}"#,
        )],
        &[(429, "")],
    ] {
        let error = failure(answer).await;
        assert_eq!(error.kind(), Kind::Retry, "{answer:?}: {error}");
        assert!(
            error
                .to_string()
                .starts_with("glue:GetTable lake.readings: "),
            "{error}"
        );
    }
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = GlueCatalog::at(&format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let error = nobody.table("lake", "readings").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Retry, "{error}");
    assert!(error.to_string().contains("no answer"), "{error}");
}

#[tokio::test]
async fn a_stumble_is_repeated_here() {
    let (glue, asked) = answering(&[
        (500, r#"{"__type":"InternalServiceException"}"#),
        (
            400,
            r#"{"__type":"EntityNotFoundException","Message":"no"}"#,
        ),
    ])
    .await;
    assert_eq!(glue.table("lake", "readings").await.unwrap(), None);
    assert_eq!(
        *asked.lock().unwrap(),
        ["AWSGlue.GetTable", "AWSGlue.GetTable"]
    );
}

#[tokio::test]
async fn what_the_user_has_to_change_is_said() {
    for (answer, expected) in [
        (
            &[(
                400,
                r#"{"__type":"AccessDeniedException","Message":"User: arn:x is not authorized"}"#,
            )],
            "glue:GetTable lake.readings is not allowed; allow the action glue:GetTable on it",
        ),
        (
            &[(
                400,
                r#"{"__type":"UnrecognizedClientException","Message":"The security token is invalid"}"#,
            )],
            "the AWS credentials are refused",
        ),
        (
            &[(
                400,
                r#"{"__type":"InvalidInputException","Message":"1 validation error"}"#,
            )],
            "glue:GetTable lake.readings: InvalidInputException: 1 validation error",
        ),
    ] {
        let error = failure(answer).await;
        assert_eq!(error.kind(), Kind::Job, "{answer:?}: {error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_partition_that_is_there_is_no_failure_and_another_failure_is() {
    let partitions: Vec<Partition> = ["a", "b", "c"]
        .map(|value| Partition {
            values: vec![value.into()],
            location: format!("s3://b/lake/readings/dt={value}"),
        })
        .into();
    let (glue, _) = answering(&[(
        200,
        r#"{"Errors":[{"PartitionValues":["b"],"ErrorDetail":{"ErrorCode":"AlreadyExistsException","ErrorMessage":"is there"}}]}"#,
    )])
    .await;
    let table = table("lake");
    assert_eq!(glue.add_partitions(&table, &partitions).await.unwrap(), 2);
    for (code, kind) in [
        (
            r#"{"Errors":[{"PartitionValues":["b"],"ErrorDetail":{"ErrorCode":"InternalServiceException"}}]}"#,
            Kind::Retry,
        ),
        (
            r#"{"Errors":[{"PartitionValues":["b"],"ErrorDetail":{"ErrorCode":"InvalidInputException","ErrorMessage":"bad"}}]}"#,
            Kind::Job,
        ),
    ] {
        let (glue, _) = answering(Box::leak(Box::new([(200, code)]))).await;
        let error = glue.add_partitions(&table, &partitions).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("lake.readings b"), "{error}");
    }
    // Nothing to add is nothing to ask.
    let (glue, asked) = answering(&[(500, "")]).await;
    assert_eq!(glue.add_partitions(&table, &[]).await.unwrap(), 0);
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_partition_that_is_refused_keeps_none_behind_it_from_being_told() {
    let many: Vec<Partition> = (0..150)
        .map(|number| Partition {
            values: vec![format!("{number:03}")],
            location: format!("s3://b/lake/readings/dt={number:03}"),
        })
        .collect();
    let (glue, asked) = answering(&[
        (400, r#"{"__type":"InvalidInputException","Message":"bad"}"#),
        (200, "{}"),
    ])
    .await;
    let error = glue.add_partitions(&table("lake"), &many).await;
    assert_eq!(error.unwrap_err().kind(), Kind::Job);
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn who_may_not_create_databases_uses_one_that_is_there() {
    let (glue, asked) = answering(&[(200, r#"{"Database":{"Name":"lake"}}"#)]).await;
    glue.create_database("lake").await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["AWSGlue.GetDatabase"]);
    let (glue, asked) = answering(&[
        (400, r#"{"__type":"EntityNotFoundException"}"#),
        (400, r#"{"__type":"AlreadyExistsException"}"#),
    ])
    .await;
    glue.create_database("lake").await.unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        ["AWSGlue.GetDatabase", "AWSGlue.CreateDatabase"]
    );
}
