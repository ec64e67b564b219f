//! What every registry keeps to.

use super::memory::MemoryRegistry;
use super::{Registry, SchemaText};
use crate::error::Kind;
use futures::future::BoxFuture;
use serde_json::Value;

/// How a subject is told to take only what can read its last version.
pub type KeepBackward<'a> = Box<dyn Fn(String) -> BoxFuture<'a, ()> + 'a>;

/// `name` makes the subjects of this run its own.
pub async fn passes(registry: &dyn Registry, name: &str, keep_backward: KeepBackward<'_>) {
    let subject = format!("{name} with / and ü-value");
    let record = |fields: &str| {
        format!(r#"{{"type":"record","name":"R","namespace":"suite.{name}","fields":[{fields}]}}"#)
    };
    let one = record(r#"{"name":"a","type":"int"}"#);
    let two =
        record(r#"{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null}"#);
    let other = record(r#"{"name":"a","type":"string"}"#);

    assert_eq!(registry.find(&subject, &one).await.unwrap(), None);
    let first = registry.register(&subject, &one).await.unwrap();
    let again = registry.register(&subject, &one).await.unwrap();
    assert_eq!(again, first, "a schema has one id");
    assert_eq!(registry.find(&subject, &one).await.unwrap(), Some(first));
    assert_eq!(registry.find(&subject, &two).await.unwrap(), None);

    keep_backward(subject.clone()).await;
    let second = registry.register(&subject, &two).await.unwrap();
    assert_ne!(second, first);
    for (id, text) in [(first, &one), (second, &two)] {
        let schema = registry.schema(id).await.unwrap().unwrap();
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(json(&schema.text), json(text));
        assert_eq!((schema.kind.as_str(), schema.references.len()), ("AVRO", 0));
    }

    let refused = registry.register(&subject, &other).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Job, "{refused}");
    assert!(refused.to_string().contains(&subject), "{refused}");
    assert_eq!(registry.schema(2_000_000_000).await.unwrap(), None);
}

#[tokio::test]
async fn memory_keeps_it() {
    let registry = MemoryRegistry::default();
    let keeper = registry.clone();
    let keep = move |subject: String| -> BoxFuture<'static, ()> {
        keeper.keep_backward(&subject);
        Box::pin(async {})
    };
    passes(&registry, "memory", Box::new(keep)).await;
    let kind = "PROTOBUF".to_string();
    let schema = SchemaText {
        kind,
        text: "message M {}".into(),
        references: vec!["a".into()],
    };
    let id = registry.put(schema.clone());
    assert_eq!(registry.schema(id).await.unwrap(), Some(schema));
}
