//! A registry that speaks Confluent's protocol: Confluent's own, Apicurio at `/apis/ccompat/v7`, Karapace, Redpanda.
//!
//! What an answer asks for: to wait (nobody answers, or 5xx), to give other credentials (401, 403), to change the schema (409, 422), or to mend the
//! URL, where it is no registry's answer at all. So a missing schema (40403) is never mistaken for a wrong path. Registries do not agree on what
//! they say to ids that none of them gives, though (404, 400): from a URL that has answered as a registry before, those mean the same.

use super::options::shown;
use super::{Auth, Registry, SchemaText, Settings};
use crate::error::{Error, Result};
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Certificate, Client, Identity, Method, Url};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// Registries count in Java's int: a larger number is garbage, and is not worth a question.
const LAST_ID: u32 = i32::MAX as u32;

pub struct HttpRegistry {
    client: Client,
    at: Vec<At>,
    auth: Auth,
}

/// One of the URLs of a registry.
struct At {
    url: Url,
    /// Whether it has answered as only a registry does.
    proven: AtomicBool,
}

/// What a registry said.
struct Answer {
    status: u16,
    /// Who said it.
    from: String,
    /// Whether that is known to be a registry.
    proven: bool,
    body: Option<Value>,
}

impl HttpRegistry {
    pub fn open(settings: &Settings) -> Result<HttpRegistry> {
        let mut builder = Client::builder()
            .user_agent("tributary")
            .connect_timeout(settings.connect_within)
            .timeout(settings.answer_within);
        if let Some(path) = &settings.truststore {
            let wrong = |error| unread(path, "certificates", error);
            let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(wrong)?;
            if certificates.is_empty() {
                return Err(Error::job(format!(
                    "{} has no certificate in PEM (-----BEGIN CERTIFICATE-----)",
                    path.display()
                )));
            }
            // As in Java, they stand in the place of the system's.
            builder = builder.tls_built_in_root_certs(false);
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        if let Some(path) = &settings.keystore {
            let wrong = |error| {
                unread(
                    path,
                    "a certificate and its key, without a password,",
                    error,
                )
            };
            builder = builder.identity(Identity::from_pem(&read(path)?).map_err(wrong)?);
        }
        let client = builder.build().map_err(|error| {
            Error::job(format!(
                "no client for the schema registry at {} can be made",
                settings.name()
            ))
            .caused_by(error)
        })?;
        Ok(HttpRegistry {
            client,
            at: settings
                .urls
                .iter()
                .map(|url| At {
                    url: url.clone(),
                    proven: AtomicBool::new(false),
                })
                .collect(),
            auth: settings.auth.clone(),
        })
    }

    /// Asks one URL after the other until one answers.
    async fn ask(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Answer> {
        let mut silent = Vec::new();
        for at in &self.at {
            match self.ask_at(at, method.clone(), path, body).await {
                Ok(answer) => return Ok(answer),
                Err(why) => silent.push(format!("{}: {why}", shown(&at.url))),
            }
        }
        Err(Error::retry(format!(
            "the schema registry does not answer ({})",
            silent.join("; ")
        )))
    }

    async fn ask_at(
        &self,
        at: &At,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let mut whole = at.url.clone();
        if let Ok(mut segments) = whole.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        // What a schema refers to is needed for as long as there are records of it, also where it was deleted for new ones.
        if method == Method::GET && path.first() == Some(&"subjects") {
            whole.set_query(Some("deleted=true"));
        }
        let mut request = self.client.request(method, whole).header("Accept", CONTENT);
        request = match &self.auth {
            Auth::None => request,
            Auth::Basic { user, password } => request.basic_auth(user, Some(password)),
            Auth::Bearer(token) => request.bearer_auth(token),
        };
        if let Some(body) = body {
            request = request
                .header("Content-Type", CONTENT)
                .body(body.to_string());
        }
        let response = request.send().await.map_err(|error| reason(&error))?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(|error| reason(&error))?;
        let mut answer = Answer {
            status,
            from: shown(&at.url),
            proven: false,
            body: serde_json::from_slice(&body).ok(),
        };
        if answer.is_a_registrys() {
            at.proven.store(true, Ordering::Relaxed);
        }
        answer.proven = at.proven.load(Ordering::Relaxed);
        match status {
            408 | 429 | 500.. => Err(format!("{status} {}", answer.message())),
            _ => Ok(answer),
        }
    }

    /// Asks about a schema under a subject.
    async fn post(&self, path: &[&str], schema: &str) -> Result<Answer> {
        let body = json!({ "schema": schema });
        self.ask(Method::POST, path, Some(&body)).await?.judged()
    }

    /// The schemas that some references lead to, each behind those that it needs itself. One that is not there is left out: whoever needs it says
    /// that its name is missing.
    fn follow<'a>(
        &'a self,
        references: &'a Value,
        seen: &'a mut Vec<(String, u64)>,
        into: &'a mut Vec<String>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            for reference in references.as_array().into_iter().flatten() {
                let subject = reference["subject"].as_str().unwrap_or_default();
                let version = reference["version"].as_u64().unwrap_or_default();
                let key = (subject.to_string(), version);
                if seen.contains(&key) {
                    continue;
                }
                seen.push(key);
                let version = version.to_string();
                let path = ["subjects", subject, "versions", &version];
                let answer = self.ask(Method::GET, &path, None).await?.judged()?;
                if answer.is_missing()? {
                    continue;
                }
                let body = answer.body()?;
                self.follow(&body["references"], seen, into).await?;
                into.extend(body["schema"].as_str().map(str::to_string));
            }
            Ok(())
        }
        .boxed()
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn schema(&self, id: u32) -> Result<Option<SchemaText>> {
        if id > LAST_ID {
            return Ok(None);
        }
        let id = id.to_string();
        let answer = self
            .ask(Method::GET, &["schemas", "ids", &id], None)
            .await?;
        if answer.proven && matches!(answer.status, 400 | 404) {
            return Ok(None);
        }
        let answer = answer.judged()?;
        if answer.is_missing()? {
            return Ok(None);
        }
        let body = answer.body()?;
        let text = body["schema"]
            .as_str()
            .ok_or_else(|| answer.no_registry())?;
        let mut references = Vec::new();
        self.follow(&body["references"], &mut Vec::new(), &mut references)
            .await?;
        Ok(Some(SchemaText {
            kind: body["schemaType"].as_str().unwrap_or("AVRO").to_string(),
            text: text.to_string(),
            references,
        }))
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let answer = self
            .post(&["subjects", subject, "versions"], schema)
            .await?;
        let (from, message) = (&answer.from, answer.message());
        match answer.status {
            409 => Err(Error::job(format!(
                "subject '{subject}' at {from} has versions that the table's schema is not compatible with: {message}; change the columns so \
                 that what was written before can still be read (a new column may be NULL), or the compatibility of the subject, or write \
                 under another 'avro-confluent.subject'"
            ))),
            422 => Err(Error::job(format!(
                "subject '{subject}' at {from} refuses the table's schema: {message}; the schema is {schema}"
            ))),
            404 => Err(answer.no_registry()),
            _ => answer.id(),
        }
    }

    async fn find(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let answer = self.post(&["subjects", subject], schema).await?;
        match answer.is_missing()? {
            true => Ok(None),
            false => answer.id().map(Some),
        }
    }
}

impl Answer {
    /// What the registry says to people.
    fn message(&self) -> String {
        let body = self.body.as_ref();
        let said = body.and_then(|body| body["message"].as_str());
        said.unwrap_or("without a word").to_string()
    }

    /// Whether only a registry answers so: with a schema, an id, or the number of its own for what it does not have.
    fn is_a_registrys(&self) -> bool {
        let has = |key: &str| self.body.as_ref().is_some_and(|body| !body[key].is_null());
        match self.status {
            200..=299 => has("schema") || has("id"),
            404 => matches!(self.error_code(), Some(40400..=40499)),
            _ => false,
        }
    }

    /// Turns away what no caller has an answer to.
    fn judged(self) -> Result<Answer> {
        let (from, message) = (&self.from, self.message());
        match self.status {
            200..=299 | 404 | 409 | 422 => Ok(self),
            401 => Err(Error::job(format!(
                "the schema registry at {from} does not know who asks (401: {message}): give 'avro-confluent.basic-auth.user-info' = \
                 'name:password', or 'avro-confluent.bearer-auth.token'; of a key's format with 'key.' before it"
            ))),
            403 => Err(Error::job(format!(
                "the schema registry at {from} does not allow that to who asks (403: {message}): it takes the right to read schemas, and where a \
                 table is written, to register them under its subject"
            ))),
            status => Err(Error::job(format!(
                "the schema registry at {from} answers {status}: {message}"
            ))),
        }
    }

    /// Whether the registry says that it does not have what it was asked for.
    fn is_missing(&self) -> Result<bool> {
        match (self.status, self.error_code()) {
            (404, Some(40400..=40499)) => Ok(true),
            (404, _) => Err(self.no_registry()),
            _ => Ok(false),
        }
    }

    fn error_code(&self) -> Option<u64> {
        self.body.as_ref()?["error_code"].as_u64()
    }

    fn body(&self) -> Result<&Value> {
        self.body.as_ref().ok_or_else(|| self.no_registry())
    }

    fn id(&self) -> Result<u32> {
        let id = self.body()?["id"].as_u64();
        let id = id.and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.no_registry())
    }

    fn no_registry(&self) -> Error {
        Error::job(format!(
            "what is at {} does not answer like a schema registry ({}): look at 'avro-confluent.url', also behind the host; of Apicurio it is \
             http://host:8080/apis/ccompat/v7",
            self.from, self.status
        ))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::job(format!("{} cannot be read", path.display())).caused_by(error))
}

fn unread(path: &Path, what: &str, error: reqwest::Error) -> Error {
    Error::job(format!("{} has to hold {what} as PEM", path.display())).caused_by(error)
}

/// The innermost cause says most: `Connection refused`.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match error.is_timeout() {
        true => "no answer in time".to_string(),
        false => innermost.to_string(),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
