//! Where the registry of a table is, and who asks it: the options of the format `avro-confluent`.

use crate::sql::Options;
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flink's name of the format.
pub const FORMAT: &str = "avro-confluent";

/// The options of the format, without its name; what ends in a dot begins many.
pub const KNOWN: &[&str] = &[
    "url",
    "subject",
    "schema",
    "auto.register.schemas",
    "basic-auth.credentials-source",
    "basic-auth.user-info",
    "bearer-auth.credentials-source",
    "bearer-auth.token",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "properties.",
];

/// The properties of Confluent's client that mean something here. Those that have an option of their own give way to it.
const PROPERTIES: &[&str] = &[
    "auto.register.schemas",
    "basic.auth.credentials.source",
    "basic.auth.user.info",
    "bearer.auth.credentials.source",
    "bearer.auth.token",
    "schema.registry.ssl.truststore.location",
    "schema.registry.ssl.truststore.password",
    "schema.registry.ssl.keystore.location",
    "schema.registry.ssl.keystore.password",
    "http.connect.timeout.ms",
    "http.read.timeout.ms",
    "key.subject.name.strategy",
    "value.subject.name.strategy",
];

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Which part of a record is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPart {
    Key,
    Value,
}

impl RecordPart {
    pub fn word(self) -> &'static str {
        match self {
            RecordPart::Key => "key",
            RecordPart::Value => "value",
        }
    }
}

/// An option that is wrong, by its name without the format's, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub option: String,
    pub what: String,
}

fn wrong(option: &str, what: impl Into<String>) -> Wrong {
    Wrong {
        option: option.to_string(),
        what: what.into(),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Or what stands in the URL.
    None,
    Basic {
        user: String,
        password: String,
    },
    Bearer(String),
}

/// Under which subject a schema is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Given(String),
    Topic,
    Record,
    TopicAndRecord,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Asked one after the other until one answers.
    pub urls: Vec<Url>,
    pub auth: Auth,
    /// Certificates in PEM: whom to trust instead of the system's, and who we are.
    pub truststore: Option<PathBuf>,
    pub keystore: Option<PathBuf>,
    pub connect_within: Duration,
    pub answer_within: Duration,
    /// Whether a schema is registered that is not there.
    pub registers: bool,
    subject: Subject,
}

impl Settings {
    /// What the options say that begin with `prefix` and the format's name.
    pub fn of(options: &Options, prefix: &str, part: RecordPart) -> Result<Settings, Wrong> {
        let given = Given {
            options,
            prefix: format!("{prefix}{FORMAT}."),
        };
        given.check_properties()?;
        let urls = urls(given.get("url").unwrap_or_default())?;
        let auth = auth(&given, &urls)?;
        Ok(Settings {
            urls: match auth {
                Auth::None => urls,
                // Or the client would send both.
                _ => urls.into_iter().map(without_credentials).collect(),
            },
            auth,
            truststore: given.pem("ssl.truststore.location")?,
            keystore: given.pem("ssl.keystore.location")?,
            connect_within: given.millis("http.connect.timeout.ms", CONNECT_WITHIN)?,
            answer_within: given.millis("http.read.timeout.ms", ANSWER_WITHIN)?,
            registers: given.flag("auto.register.schemas", true)?,
            subject: subject(&given, part)?,
        })
    }

    /// The subject of the schema of a record with this name, in this part of the records of a topic.
    pub fn subject(&self, topic: &str, part: RecordPart, record: &str) -> String {
        match &self.subject {
            Subject::Given(subject) => subject.clone(),
            Subject::Topic => format!("{topic}-{}", part.word()),
            Subject::Record => record.to_string(),
            Subject::TopicAndRecord => format!("{topic}-{record}"),
        }
    }

    /// The registry in messages, without anybody's password.
    pub fn name(&self) -> String {
        let urls: Vec<String> = self.urls.iter().map(shown).collect();
        urls.join(", ")
    }
}

/// A URL as it may stand in a message.
pub fn shown(url: &Url) -> String {
    let url = without_credentials(url.clone());
    url.as_str().trim_end_matches('/').to_string()
}

fn without_credentials(mut url: Url) -> Url {
    // Only a URL that cannot have any refuses.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

/// The options of one part of a record.
struct Given<'a> {
    options: &'a Options,
    prefix: String,
}

impl<'a> Given<'a> {
    /// The option, or the property of Confluent's client that says the same.
    fn get(&self, name: &str) -> Option<&'a str> {
        let property = match name {
            "ssl.truststore.location" | "ssl.keystore.location" => {
                format!("schema.registry.{name}")
            }
            _ => name.replace('-', "."),
        };
        let own = self.options.get(&format!("{}{name}", self.prefix));
        own.or_else(|| self.property(&property))
    }

    fn property(&self, name: &str) -> Option<&'a str> {
        self.options
            .get(&format!("{}properties.{name}", self.prefix))
    }

    fn check_properties(&self) -> Result<(), Wrong> {
        let prefix = format!("{}properties.", self.prefix);
        for (name, _) in self.options.with_prefix(&prefix) {
            if !PROPERTIES.contains(&name) {
                let what = format!(
                    "is no property that is known here: {}",
                    PROPERTIES.join(", ")
                );
                return Err(wrong(&format!("properties.{name}"), what));
            }
        }
        Ok(())
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, Wrong> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| wrong(name, format!("'{text}' is neither true nor false"))),
        }
    }

    fn millis(&self, name: &str, default: Duration) -> Result<Duration, Wrong> {
        match self.property(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(millis) => Ok(Duration::from_millis(millis)),
                Err(_) => Err(wrong(
                    &format!("properties.{name}"),
                    format!("'{text}' is no number of milliseconds"),
                )),
            },
        }
    }

    fn pem(&self, name: &str) -> Result<Option<PathBuf>, Wrong> {
        let Some(path) = self.get(name) else {
            return Ok(None);
        };
        let extension = Path::new(path).extension().and_then(|e| e.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some(kind @ ("jks" | "p12" | "pfx" | "jceks")) => Err(wrong(
                name,
                format!(
                    "'{path}' is a Java keystore (.{kind}), and certificates are read as PEM here; make one of it: keytool -importkeystore \
                     -srckeystore {path} -destkeystore store.p12 -deststoretype PKCS12, then openssl pkcs12 -in store.p12 -nodes -out store.pem"
                ),
            )),
            _ => Ok(Some(PathBuf::from(path))),
        }
    }
}

fn urls(text: &str) -> Result<Vec<Url>, Wrong> {
    let mut urls = Vec::new();
    for text in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let what = "a URL begins with http:// or https://, such as http://localhost:8081";
        urls.push(url.ok_or_else(|| wrong("url", what))?);
    }
    match urls.is_empty() {
        true => Err(wrong("url", "says where the schema registry is")),
        false => Ok(urls),
    }
}

fn auth(given: &Given<'_>, urls: &[Url]) -> Result<Auth, Wrong> {
    let (basic, bearer) = (
        "basic-auth.credentials-source",
        "bearer-auth.credentials-source",
    );
    let upper = |name: &str| given.get(name).map(str::to_uppercase);
    match (upper(basic).as_deref(), upper(bearer).as_deref()) {
        (Some(_), Some(_)) => Err(wrong(
            bearer,
            format!("cannot stand with '{FORMAT}.{basic}'"),
        )),
        (Some("USER_INFO"), None) => user_info(given),
        (Some("URL"), None) => match urls.iter().all(|url| !url.username().is_empty()) {
            true => Ok(Auth::None),
            false => Err(wrong(
                basic,
                "URL needs the name and password in the URL: http://name:password@host",
            )),
        },
        (Some(other), None) => Err(wrong(
            basic,
            format!("'{other}' is neither USER_INFO nor URL"),
        )),
        (None, Some("STATIC_TOKEN")) => bearer_token(given),
        (None, Some(other)) => Err(wrong(
            bearer,
            format!("'{other}' is not supported yet; give the token itself, with STATIC_TOKEN"),
        )),
        // Confluent's client would leave them aside, and be refused.
        (None, None) if given.get("basic-auth.user-info").is_some() => user_info(given),
        (None, None) if given.get("bearer-auth.token").is_some() => bearer_token(given),
        (None, None) => Ok(Auth::None),
    }
}

fn user_info(given: &Given<'_>) -> Result<Auth, Wrong> {
    let option = "basic-auth.user-info";
    match given.get(option).and_then(|info| info.split_once(':')) {
        Some((user, password)) => Ok(Auth::Basic {
            user: user.to_string(),
            password: password.to_string(),
        }),
        None => Err(wrong(option, "has to be 'name:password'")),
    }
}

fn bearer_token(given: &Given<'_>) -> Result<Auth, Wrong> {
    let option = "bearer-auth.token";
    match given.get(option) {
        Some(token) => Ok(Auth::Bearer(token.to_string())),
        None => Err(wrong(option, "is needed for STATIC_TOKEN")),
    }
}

fn subject(given: &Given<'_>, part: RecordPart) -> Result<Subject, Wrong> {
    if let Some(subject) = given.get("subject") {
        return Ok(Subject::Given(subject.to_string()));
    }
    let option = format!("{}.subject.name.strategy", part.word());
    let Some(strategy) = given.property(&option) else {
        return Ok(Subject::Topic);
    };
    // Java's class, or its name alone.
    match strategy.rsplit('.').next().unwrap_or(strategy) {
        "TopicNameStrategy" => Ok(Subject::Topic),
        "RecordNameStrategy" => Ok(Subject::Record),
        "TopicRecordNameStrategy" => Ok(Subject::TopicAndRecord),
        _ => Err(wrong(
            &format!("properties.{option}"),
            format!(
                "'{strategy}' is none of TopicNameStrategy, RecordNameStrategy, TopicRecordNameStrategy; or name the subject with '{FORMAT}.subject'"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<Settings, Wrong> {
        let named: Vec<_> = options
            .iter()
            .map(|(name, value)| (format!("avro-confluent.{name}"), *value))
            .collect();
        let named = named.iter().map(|(name, value)| (name.as_str(), *value));
        Settings::of(&Options::of(named), "", RecordPart::Value)
    }

    const URL: (&str, &str) = ("url", "http://a:8081, https://me:secret@b/apis/ccompat/v7/");

    #[test]
    fn urls_are_several_and_passwords_are_not_shown() {
        let settings = of(&[URL]).unwrap();
        assert_eq!(settings.name(), "http://a:8081, https://b/apis/ccompat/v7");
        assert_eq!(settings.urls[1].password(), Some("secret"));
        assert_eq!(settings.auth, Auth::None);
    }

    #[test]
    fn credentials_come_from_where_flink_takes_them() {
        let basic = Auth::Basic {
            user: "me".into(),
            password: "a:b".into(),
        };
        let info = ("basic-auth.user-info", "me:a:b");
        for options in [
            vec![info],
            vec![("basic-auth.credentials-source", "USER_INFO"), info],
            vec![
                ("properties.basic.auth.credentials.source", "USER_INFO"),
                ("properties.basic.auth.user.info", "me:a:b"),
            ],
        ] {
            let settings = of(&[&[URL][..], &options].concat()).unwrap();
            assert_eq!(settings.auth, basic, "{options:?}");
            assert_eq!(settings.urls[1].password(), None);
        }
        let token = ("bearer-auth.token", "t");
        let source = ("bearer-auth.credentials-source", "STATIC_TOKEN");
        let settings = of(&[URL, source, token]).unwrap();
        assert_eq!(settings.auth, Auth::Bearer("t".into()));
    }

    #[test]
    fn subjects_follow_their_strategy() {
        let strategy = "properties.value.subject.name.strategy";
        let class = "io.confluent.kafka.serializers.subject.TopicRecordNameStrategy";
        for (options, expected) in [
            (vec![], "orders-value"),
            (vec![(strategy, "RecordNameStrategy")], "com.Order"),
            (vec![(strategy, class)], "orders-com.Order"),
            (vec![(strategy, class), ("subject", "mine")], "mine"),
        ] {
            let settings = of(&[&[URL][..], &options].concat()).unwrap();
            let subject = settings.subject("orders", RecordPart::Value, "com.Order");
            assert_eq!(subject, expected);
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_its_option() {
        for (options, option, expected) in [
            (vec![("url", "localhost:8081")], "url", "http://"),
            (vec![], "url", "where the schema registry is"),
            (
                vec![URL, ("ssl.truststore.location", "/etc/ca.JKS")],
                "ssl.truststore.location",
                "keytool",
            ),
            (
                vec![URL, ("basic-auth.user-info", "me")],
                "basic-auth.user-info",
                "name:password",
            ),
            (
                vec![URL, ("basic-auth.credentials-source", "URL")],
                "basic-auth.credentials-source",
                "in the URL",
            ),
            (
                vec![URL, ("bearer-auth.credentials-source", "OAUTHBEARER")],
                "bearer-auth.credentials-source",
                "STATIC_TOKEN",
            ),
            (
                vec![URL, ("properties.use.latest.version", "true")],
                "properties.use.latest.version",
                "auto.register.schemas",
            ),
            (
                vec![URL, ("properties.http.read.timeout.ms", "5 s")],
                "properties.http.read.timeout.ms",
                "milliseconds",
            ),
        ] {
            let wrong = of(&options).unwrap_err();
            assert_eq!(wrong.option, option);
            assert!(wrong.what.contains(expected), "{}", wrong.what);
        }
    }
}
