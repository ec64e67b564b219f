//! `properties.*` of a Kafka table, as librdkafka's configuration.
//!
//! Flink's users write the Java client's names. Most are librdkafka's too; the ones here are translated, passed over
//! because they mean nothing in this program, or refused with the name to use instead. What neither knows is refused.

use crate::error::{Error, Result};
use crate::sql::Options;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// The same thing under two names: Java's, then librdkafka's.
const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("request.timeout.ms", "socket.timeout.ms"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("compression.gzip.level", "compression.level"),
    ("compression.lz4.level", "compression.level"),
    ("compression.zstd.level", "compression.level"),
    ("max.request.size", "message.max.bytes"),
];

/// Java's, without a meaning here: what they steer is done in another way, or not at all.
const PASSED_OVER: &[&str] = &[
    "auto.offset.reset",
    "client.dns.lookup",
    "client.id.prefix",
    "commit.offsets.on.checkpoint",
    "default.api.timeout.ms",
    "enable.auto.commit",
    "exclude.internal.topics",
    "group.instance.id",
    "key.deserializer",
    "key.serializer",
    "max.block.ms",
    "max.poll.records",
    "metric.reporters",
    "partition.assignment.strategy",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partition.discovery.interval.ms",
    "register.consumer.metrics",
    "register.producer.metrics",
    "ssl.protocol",
    "value.deserializer",
    "value.serializer",
];

/// Java's, which need another thing here.
const REFUSED: &[(&str, &str)] = &[
    (
        "interceptor.classes",
        "Java classes cannot be loaded; leave it out",
    ),
    ("partitioner.class", "use 'sink.partitioner'"),
    (
        "partitioner.ignore.keys",
        "use 'sink.partitioner' = 'round-robin', and no key",
    ),
    (
        "transactional.id",
        "it is made of 'sink.transactional-id-prefix', the job's name and the table's",
    ),
    (
        "sasl.client.callback.handler.class",
        "Java classes cannot be loaded; use SASL PLAIN, SCRAM or TLS client certificates",
    ),
    (
        "sasl.login.callback.handler.class",
        "Java classes cannot be loaded; use SASL PLAIN, SCRAM or TLS client certificates",
    ),
    (
        "sasl.kerberos.service.name",
        "this build has no Kerberos; use SASL PLAIN or SCRAM, or TLS client certificates",
    ),
    (
        "ssl.enabled.protocols",
        "OpenSSL chooses the protocol; leave it out",
    ),
    (
        "ssl.keymanager.algorithm",
        "it is a setting of Java; leave it out",
    ),
    (
        "ssl.trustmanager.algorithm",
        "it is a setting of Java; leave it out",
    ),
    (
        "ssl.truststore.password",
        "a PEM file has none; see 'properties.ssl.ca.location'",
    ),
];

/// The client configuration that a table's `properties.*` describe, for a source or a sink.
pub fn client_config(table: &str, options: &Options) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    let java: Vec<(&str, &str)> = options
        .entries
        .iter()
        .filter_map(|(key, entry)| Some((key.strip_prefix("properties.")?, entry.value.as_str())))
        .collect();
    let given = |key: &str| {
        java.iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    };
    if given("bootstrap.servers").is_none_or(|servers| servers.trim().is_empty()) {
        return Err(refusal(
            table,
            "bootstrap.servers",
            "is needed: host:port of a Kafka broker",
        ));
    }
    for &(key, value) in &java {
        if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == key) {
            return Err(refusal(table, key, why));
        }
        if PASSED_OVER.contains(&key) {
            continue;
        }
        match key {
            // Java counts bytes here.
            "buffer.memory" => {
                let bytes: u64 = value
                    .parse()
                    .map_err(|_| refusal(table, key, "needs a number of bytes"))?;
                config.set(
                    "queue.buffering.max.kbytes",
                    (bytes / 1024).max(1).to_string(),
                );
            }
            "sasl.jaas.config" => login(table, value, given("sasl.mechanism"), &mut config)?,
            "ssl.endpoint.identification.algorithm" if value.is_empty() => {
                config.set(key, "none");
            }
            _ if key.starts_with("ssl.truststore.") || key.starts_with("ssl.keystore.") => {
                store(table, key, value, &given, &mut config)?;
            }
            _ => {
                let renamed = RENAMED.iter().find(|(name, _)| *name == key);
                config.set(renamed.map_or(key, |(_, name)| name), value);
            }
        }
    }
    config.create_native_config().map_err(|error| match error {
        KafkaError::ClientConfig(_, what, key, _) => refusal(table, &key, what.trim()),
        other => Error::job(format!("table '{table}': its Kafka properties")).caused_by(other),
    })?;
    Ok(config)
}

/// User and password out of a line for Java's login modules.
fn login(
    table: &str,
    jaas: &str,
    mechanism: Option<&str>,
    config: &mut ClientConfig,
) -> Result<()> {
    let key = "sasl.jaas.config";
    let module = jaas.split_whitespace().next().unwrap_or_default();
    let otherwise = match module.rsplit('.').next().unwrap_or_default() {
        "PlainLoginModule" => "PLAIN",
        "ScramLoginModule" => "SCRAM-SHA-512",
        _ => {
            let what = "only PlainLoginModule and ScramLoginModule are known here; \
                        give 'properties.sasl.mechanism', '.sasl.username' and '.sasl.password'";
            return Err(refusal(table, key, what));
        }
    };
    let value = |name| {
        jaas_value(jaas, name).ok_or_else(|| refusal(table, key, &format!("has no {name}=\"...\"")))
    };
    config.set("sasl.username", value("username")?);
    config.set("sasl.password", value("password")?);
    if mechanism.is_none() {
        config.set("sasl.mechanism", otherwise);
    }
    Ok(())
}

/// The value of `name="..."` or `name='...'`, where a backslash takes the next character as it is.
fn jaas_value(jaas: &str, name: &str) -> Option<String> {
    let mut rest = jaas;
    loop {
        let at = rest.find(name)?;
        let before = rest[..at].chars().next_back();
        rest = &rest[at + name.len()..];
        let Some(value) = rest.trim_start().strip_prefix('=').map(str::trim_start) else {
            continue;
        };
        if before.is_some_and(|c| !c.is_whitespace()) {
            continue;
        }
        let mut characters = value.chars();
        let quote = characters.next().filter(|c| matches!(c, '"' | '\''))?;
        let mut text = String::new();
        while let Some(c) = characters.next() {
            match c {
                '\\' => text.extend(characters.next()),
                c if c == quote => return Some(text),
                c => text.push(c),
            }
        }
        return None;
    }
}

/// Java keeps keys and certificates in stores; OpenSSL reads PEM, and PKCS#12 for the client's own key.
fn store<'a>(
    table: &str,
    key: &str,
    value: &str,
    given: &impl Fn(&str) -> Option<&'a str>,
    config: &mut ClientConfig,
) -> Result<()> {
    let pem = |kind| given(kind).is_some_and(|kind| kind.eq_ignore_ascii_case("PEM"));
    let name = match key {
        "ssl.truststore.type" | "ssl.keystore.type" => return Ok(()),
        "ssl.truststore.location" if pem("ssl.truststore.type") => "ssl.ca.location",
        "ssl.truststore.certificates" => "ssl.ca.pem",
        "ssl.keystore.certificate.chain" => "ssl.certificate.pem",
        "ssl.keystore.key" => "ssl.key.pem",
        "ssl.keystore.location" | "ssl.keystore.password"
            if given("ssl.keystore.type")
                .is_some_and(|kind| kind.eq_ignore_ascii_case("PKCS12")) =>
        {
            key
        }
        "ssl.truststore.location" => {
            let what = "a Java trust store cannot be read; export its certificates as PEM and \
                        name the file in 'properties.ssl.ca.location'";
            return Err(refusal(table, key, what));
        }
        _ => {
            let what = "a Java key store cannot be read; use PEM files in 'properties.ssl.certificate.location' \
                        and 'properties.ssl.key.location', or a PKCS#12 file with 'properties.ssl.keystore.type' = 'PKCS12'";
            return Err(refusal(table, key, what));
        }
    };
    config.set(name, value);
    Ok(())
}

/// Names the option and not its value, which may be a password.
fn refusal(table: &str, key: &str, what: &str) -> Error {
    Error::job(format!(
        "table '{table}', option 'properties.{key}': {what}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::suite;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn config(properties: &[(&str, &str)]) -> Result<ClientConfig> {
        let named = properties
            .iter()
            .map(|(key, value)| (format!("properties.{key}"), *value));
        let named: Vec<(String, &str)> = named.collect();
        let mut options = vec![("properties.bootstrap.servers", "127.0.0.1:1")];
        options.extend(named.iter().map(|(key, value)| (key.as_str(), *value)));
        let table = suite::scan("t", Arc::new(Schema::empty()), &options).table;
        client_config(&table.name, &table.options)
    }

    #[test]
    fn java_names_become_librdkafka_names() {
        let jaas = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="a\"b=c";"#;
        let cases: &[(&str, &str, &str, &str)] = &[
            ("fetch.max.wait.ms", "7", "fetch.wait.max.ms", "7"),
            ("sasl.jaas.config", jaas, "sasl.password", "a\"b=c"),
            ("sasl.jaas.config", jaas, "sasl.username", "me"),
            ("sasl.jaas.config", jaas, "sasl.mechanism", "PLAIN"),
            (
                "ssl.endpoint.identification.algorithm",
                "",
                "ssl.endpoint.identification.algorithm",
                "none",
            ),
            (
                "isolation.level",
                "read_uncommitted",
                "isolation.level",
                "read_uncommitted",
            ),
            ("max.request.size", "5000", "message.max.bytes", "5000"),
            ("compression.type", "lz4", "compression.type", "lz4"),
            (
                "buffer.memory",
                "1048576",
                "queue.buffering.max.kbytes",
                "1024",
            ),
            ("retries", "5", "retries", "5"),
            ("acks", "all", "acks", "all"),
            ("batch.size", "32768", "batch.size", "32768"),
            ("linger.ms", "20", "linger.ms", "20"),
            (
                "delivery.timeout.ms",
                "60000",
                "delivery.timeout.ms",
                "60000",
            ),
        ];
        for (java, value, name, expected) in cases {
            let config = config(&[("security.protocol", "SASL_PLAINTEXT"), (java, value)]).unwrap();
            assert_eq!(config.get(name), Some(*expected), "{java}");
        }
        assert_eq!(
            config(&[("max.poll.records", "5")])
                .unwrap()
                .get("max.poll.records"),
            None
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_without_its_value() {
        let cases: &[(&str, &str, &str)] = &[
            ("no.such.thing", "secret", "'properties.no.such.thing'"),
            (
                "ssl.truststore.location",
                "secret.jks",
                "'properties.ssl.ca.location'",
            ),
            (
                "ssl.keystore.location",
                "secret.jks",
                "'properties.ssl.key.location'",
            ),
            ("sasl.kerberos.service.name", "secret", "no Kerberos"),
            (
                "sasl.jaas.config",
                "com.x.Secret required;",
                "'properties.sasl.jaas.config'",
            ),
            (
                "sasl.jaas.config",
                "x.PlainLoginModule required password=\"secret\";",
                "username",
            ),
            ("fetch.min.bytes", "secret", "'properties.fetch.min.bytes'"),
            ("partitioner.class", "com.x.Secret", "'sink.partitioner'"),
            (
                "transactional.id",
                "secret",
                "'sink.transactional-id-prefix'",
            ),
        ];
        for (key, value, expected) in cases {
            let error = config(&[(key, value)]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
