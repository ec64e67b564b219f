//! The client against a small server of the same protocol in this process, and against a real registry, named in
//! `TRIBUTARY_TEST_REGISTRY`.

use super::super::memory::MemoryRegistry;
use super::super::{RecordPart, suite};
use super::*;
use crate::error::Kind;
use crate::sql::Options;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

const USER: &str = "me:secret";

#[derive(Clone, Default)]
struct Server {
    registry: MemoryRegistry,
    /// What it says to everything, where it says the same to everything.
    always: Option<(u16, String)>,
    wants_user: bool,
}

impl Server {
    async fn start(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

fn said(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, body.to_string()).into_response()
}

fn failed(status: u16, code: u64, message: &str) -> Response {
    said(status, &json!({ "error_code": code, "message": message }))
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    if let Some((status, body)) = server.always {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let given = request.headers().get("authorization");
    // base64 of me:secret
    if server.wants_user && given.is_none_or(|given| given != "Basic bWU6c2VjcmV0") {
        return failed(401, 40101, "Unauthorized");
    }
    let path = request.uri().path().to_string();
    let with_deleted = request.uri().query() == Some("deleted=true");
    let path: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|part| {
            let decoded = Url::parse(&format!("http://h/?{}", part.replace('+', "%2B")));
            decoded.unwrap().query_pairs().next().unwrap().0.to_string()
        })
        .collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
    let body: Value = serde_json::from_slice(&body.unwrap()).unwrap_or_default();
    let schema = body["schema"].as_str().unwrap_or_default();
    let registry = &server.registry;
    match path[..] {
        // As Confluent's answers to numbers that it never gives.
        ["base", "schemas", "ids", "1000001"] => failed(404, 404, "HTTP 404 Not Found"),
        ["base", "schemas", "ids", "1000002"] => failed(400, 400, "Bad Request"),
        ["base", "subjects", "inner", ..] if !with_deleted => {
            failed(404, 40402, "Version not found")
        }
        ["base", "schemas", "ids", id] => match registry.schema(id.parse().unwrap()).await.unwrap()
        {
            None => failed(404, 40403, "Schema not found"),
            Some(found) if found.kind == "AVRO" && found.references.is_empty() => {
                said(200, &json!({ "schema": found.text }))
            }
            Some(found) => said(
                200,
                &json!({ "schema": found.text, "schemaType": found.kind, "references": [
                    { "name": "x", "subject": "outer", "version": 1 },
                    { "name": "y", "subject": "inner", "version": 1 }] }),
            ),
        },
        ["base", "subjects", "outer", "versions", "1"] => said(
            200,
            &json!({ "schema": "outer", "references": [{ "name": "y", "subject": "inner", "version": 1 }] }),
        ),
        ["base", "subjects", "inner", "versions", "1"] => said(200, &json!({ "schema": "inner" })),
        ["base", "subjects", subject, "versions"] => match registry.register(subject, schema).await
        {
            Ok(id) => said(200, &json!({ "id": id })),
            Err(error) => failed(409, 409, &error.to_string()),
        },
        ["base", "subjects", subject] => match registry.find(subject, schema).await.unwrap() {
            Some(id) => said(200, &json!({ "id": id, "version": 1, "schema": schema })),
            None => failed(404, 40403, "Schema not found"),
        },
        _ => failed(404, 404, "HTTP 404 Not Found"),
    }
}

fn client(options: &[(&str, &str)]) -> HttpRegistry {
    let options = Options::of(options.iter().copied());
    let settings = Settings::of(&options, "", RecordPart::Value).unwrap();
    HttpRegistry::open(&settings).unwrap()
}

fn at(url: &str) -> HttpRegistry {
    client(&[("avro-confluent.url", url)])
}

async fn failure(url: &str) -> Error {
    at(url).schema(1).await.unwrap_err()
}

#[tokio::test]
async fn a_server_of_the_protocol_keeps_what_every_registry_must() {
    let server = Server::default();
    let keeper = server.registry.clone();
    let keep = move |subject: String| -> BoxFuture<'static, ()> {
        keeper.keep_backward(&subject);
        Box::pin(async {})
    };
    let url = server.start().await;
    suite::passes(&at(&url), "http", Box::new(keep)).await;
}

#[tokio::test]
async fn a_real_registry_does() {
    let Ok(url) = std::env::var("TRIBUTARY_TEST_REGISTRY") else {
        eprintln!("left out: it needs a schema registry in TRIBUTARY_TEST_REGISTRY");
        return;
    };
    let name = format!("r{}", uuid::Uuid::new_v4().simple());
    let registry = at(&url);
    let keep = |subject: String| -> BoxFuture<'_, ()> {
        let registry = &registry;
        Box::pin(async move {
            let wanted = json!({ "compatibility": "BACKWARD" });
            let path = ["config", subject.as_str()];
            let set = registry.ask(Method::PUT, &path, Some(&wanted)).await;
            assert_eq!(set.unwrap().status, 200);
        })
    };
    suite::passes(&registry, &name, Box::new(keep)).await;
}

#[tokio::test]
async fn what_an_answer_asks_for_is_in_its_error() {
    for (status, body, kind, expected) in [
        (500, r#"{"message":"store"}"#, Kind::Retry, "500 store"),
        (503, "", Kind::Retry, "503 without a word"),
        (429, "", Kind::Retry, "429"),
        (401, "", Kind::Job, "basic-auth.user-info"),
        (403, r#"{"message":"no"}"#, Kind::Job, "403: no"),
        (404, "<html>", Kind::Job, "/apis/ccompat/v7"),
        (
            404,
            r#"{"error_code":404,"message":"HTTP 404"}"#,
            Kind::Job,
            "avro-confluent.url",
        ),
        (
            200,
            "<html>",
            Kind::Job,
            "does not answer like a schema registry",
        ),
        (
            200,
            "{}",
            Kind::Job,
            "does not answer like a schema registry",
        ),
        (418, "", Kind::Job, "418"),
    ] {
        let always = Some((status, body.to_string()));
        let url = Server {
            always,
            ..Server::default()
        };
        let error = failure(&url.start().await).await;
        assert_eq!(error.kind(), kind, "{status} {body}: {error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_id_that_no_registry_gives_is_not_there() {
    let server = Server::default();
    server.registry.put_avro(r#""int""#);
    let keeper = server.registry.clone();
    let registry = at(&server.start().await);
    for id in [1 << 31, u32::MAX] {
        assert_eq!(registry.schema(id).await.unwrap(), None);
    }
    assert_eq!(keeper.asked(), 0, "nobody is asked for those");
    // What is not known to be a registry may be a wrong path, which is no reason to call records bad.
    for id in [1_000_001, 1_000_002] {
        assert_eq!(registry.schema(id).await.unwrap_err().kind(), Kind::Job);
    }
    assert!(registry.schema(1).await.unwrap().is_some());
    for id in [1_000_001, 1_000_002] {
        assert_eq!(registry.schema(id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn credentials_are_sent_from_wherever_they_are() {
    let server = Server {
        wants_user: true,
        ..Server::default()
    };
    server.registry.put_avro(r#""int""#);
    let url = server.start().await;
    let (key, info) = ("avro-confluent.url", "avro-confluent.basic-auth.user-info");
    let error = failure(&url).await;
    assert!(error.to_string().contains("401: Unauthorized"), "{error}");
    let wrong = client(&[(key, &url), (info, "me:wrong")]).schema(1).await;
    assert!(!wrong.unwrap_err().to_string().contains("wrong"));
    let with = url.replace("://", &format!("://{USER}@"));
    for registry in [client(&[(key, &url), (info, USER)]), at(&with)] {
        assert_eq!(registry.schema(1).await.unwrap().unwrap().text, r#""int""#);
    }
}

#[tokio::test]
async fn of_several_urls_the_first_that_answers_is_asked() {
    let server = Server::default();
    server.registry.put_avro(r#""int""#);
    let url = server.start().await;
    let broken = Server {
        always: Some((500, String::new())),
        ..Server::default()
    };
    let broken = broken.start().await;
    // Nothing listens on the port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let all = format!("{nobody},{broken},{url}");
    assert!(at(&all).schema(1).await.unwrap().is_some());
    let error = failure(&format!("{nobody},{broken}")).await;
    assert_eq!(error.kind(), Kind::Retry);
    for part in [&nobody, &broken, "Connection refused"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn references_come_behind_what_they_need_also_deleted_ones() {
    let server = Server::default();
    let id = server.registry.put(SchemaText {
        kind: "AVRO".into(),
        text: "whole".into(),
        references: vec!["some".into()],
    });
    let found = at(&server.start().await).schema(id).await.unwrap().unwrap();
    assert_eq!(found.references, ["inner", "outer"]);
}

#[test]
fn certificates_have_to_be_pem() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.pem");
    let open = |option: &str| {
        let options = [
            ("avro-confluent.url", "https://h"),
            (option, path.to_str().unwrap()),
        ];
        let settings = Settings::of(&Options::of(options), "", RecordPart::Value).unwrap();
        let error = HttpRegistry::open(&settings).err().unwrap();
        assert_eq!(error.kind(), Kind::Job);
        error.to_string()
    };
    let (trust, key) = (
        "avro-confluent.ssl.truststore.location",
        "avro-confluent.ssl.keystore.location",
    );
    assert!(open(trust).contains("store.pem cannot be read"));
    std::fs::write(&path, [0xfe, 0xed, 0xfe, 0xed]).unwrap();
    assert!(open(trust).contains("PEM"));
    assert!(open(key).contains("as PEM"));
}
