//! A line to the server for one table, once it is opened: who delivers, what was delivered last, and writes that are safe on disk.

use super::batch::{Batch, Verb, epoch_of};
use super::fault::Failed;
use super::options::Settings;
use crate::error::{Error, Result};
use crate::mongo::PATIENCE;
use crate::mongo::fault::explain;
use crate::sink::rows::Mark;
use crate::sql::connectors::mongodb::VERSION;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use std::sync::Arc;
use std::time::Duration;

/// Where the marks are.
const MARKS: &str = "_tributary";
/// The longest that an answer may take that needs a look through a whole collection, which no index helps; it is done once.
const PATIENCE_TO_SCAN: Duration = Duration::from_secs(3600);
/// That a collection is there already.
const NAMESPACE_EXISTS: i32 = 48;

/// A client, which mends its connections itself.
pub struct Server {
    settings: Arc<Settings>,
    database: Database,
    /// When a write has been done.
    concern: Bson,
}

impl Server {
    /// Connects to nothing yet; but an address with `+srv` is looked up.
    pub async fn of(settings: Arc<Settings>) -> Result<Server> {
        let address = &settings.address;
        let options = address.options().await?;
        // What is delivered is removed from the checkpoints, so it must not get lost in the server.
        let concern = match &options.write_concern {
            Some(given) => mongodb::bson::serialize_to_bson(given)
                .map_err(|error| Error::bug("a write concern").caused_by(error))?,
            None => Bson::Document(doc! { "w": "majority", "j": true }),
        };
        let client = Client::with_options(options)
            .map_err(|error| explain(address, "reading 'uri'", error))?;
        Ok(Server {
            database: client.database(&address.database),
            settings,
            concern,
        })
    }

    async fn run(&self, doing: &str, command: Document) -> Result<Document> {
        self.run_within(PATIENCE, doing, command).await
    }

    async fn run_within(
        &self,
        patience: Duration,
        doing: &str,
        command: Document,
    ) -> Result<Document> {
        let answer = tokio::time::timeout(patience, self.database.run_command(command)).await;
        match answer {
            Ok(answer) => answer.map_err(|error| explain(&self.settings.address, doing, error)),
            Err(_) => Err(Error::retry(format!(
                "{}: {doing}: no answer for {} s",
                self.settings.address.place(),
                patience.as_secs()
            ))),
        }
    }

    async fn write(&self, doing: &str, mut command: Document) -> Result<Document> {
        command.insert("writeConcern", self.concern.clone());
        let answer = self.run(doing, command).await?;
        match answer.get_document("writeConcernError") {
            Ok(error) => Err(Error::retry(format!(
                "{}: {doing}: {}",
                self.settings.address.place(),
                error.get_str("errmsg").unwrap_or("not written safely")
            ))),
            Err(_) => Ok(answer),
        }
    }

    /// Makes what has to be there before rows come.
    pub async fn prepare(&self) -> Result<()> {
        let collection = &self.settings.address.collection;
        let asked = self.database.run_command(doc! { "create": collection });
        let created = tokio::time::timeout(PATIENCE, asked).await;
        match created {
            Ok(Err(error)) if is_there(&error) => {}
            Ok(created) => drop(created.map_err(|error| {
                explain(&self.settings.address, "making the collection", error)
            })?),
            Err(_) => {
                let place = self.settings.address.place();
                return Err(Error::retry(format!("{place}: no answer")));
            }
        }
        let indexes = self.settings.indexes();
        if !indexes.is_empty() {
            let command = doc! { "createIndexes": collection, "indexes": indexes };
            self.write("making the indexes", command).await?;
        }
        Ok(())
    }

    /// Takes the table over: from here on nobody else delivers, unless they take it over again. That it is a write, safe on disk, makes
    /// safe whatever it finds there.
    pub async fn claim(&self, owner: &str) -> Result<Claim> {
        let doing = "reading the mark of what was delivered";
        let command = doc! {
            "findAndModify": MARKS,
            "query": { "_id": &self.settings.identity },
            "update": { "$set": { "owner": owner } },
            "upsert": true,
            "new": true,
        };
        let answer = self.write(doing, command).await?;
        let found = answer.get_document("value").cloned().unwrap_or_default();
        let mark = self.mark_in(&found, "mark")?;
        let begun = self.mark_in(&found, "begun")?;
        let after = match found.get("after").and_then(number) {
            Some(after) => after,
            None => self.highest_epoch().await?,
        };
        let claim = Claim { mark, begun, after };
        self.mark(owner, &claim).await?;
        Ok(claim)
    }

    fn mark_in(&self, found: &Document, name: &str) -> Result<Option<Mark>> {
        let Ok(text) = found.get_str(name) else {
            return Ok(None);
        };
        let mark = Mark::parse(text).ok_or_else(|| {
            Error::job(format!(
                "{}: '{}' in the collection '{MARKS}' keeps something else than a mark ('{text}'); remove that document",
                self.settings.address.place(),
                self.settings.identity
            ))
        })?;
        Ok(Some(mark))
    }

    /// The highest epoch among the versions in the collection: of a job whose mark is lost.
    async fn highest_epoch(&self) -> Result<i64> {
        if !self.settings.upsert {
            return Ok(0);
        }
        let command = doc! {
            "find": &self.settings.address.collection,
            "filter": { VERSION: { "$gte": 0_i64 } },
            "sort": { VERSION: -1 },
            "limit": 1,
            "projection": { VERSION: 1 },
        };
        let answer = self
            .run_within(PATIENCE_TO_SCAN, "looking for versions", command)
            .await?;
        let batch = answer.get_document("cursor");
        let batch = batch.and_then(|cursor| cursor.get_array("firstBatch"));
        let first = batch.ok().and_then(|batch| batch.first());
        let version = first.and_then(|document| document.as_document()?.get(VERSION));
        Ok(version.and_then(number).map_or(0, epoch_of))
    }

    /// Writes the mark, if this owner still delivers.
    pub async fn mark(&self, owner: &str, claim: &Claim) -> Result<()> {
        let mut set = doc! { "after": claim.after };
        for (name, mark) in [("mark", &claim.mark), ("begun", &claim.begun)] {
            if let Some(mark) = mark {
                set.insert(name, mark.to_string());
            }
        }
        let query = doc! { "_id": &self.settings.identity, "owner": owner };
        let update = doc! { "q": query, "u": { "$set": set } };
        let command = doc! { "update": MARKS, "updates": [update] };
        let answer = self.write("setting the mark", command).await?;
        if let Some(failed) = Failed::of(&answer).first() {
            return Err(failed.explain(&self.settings.address));
        }
        match answer.get("n").and_then(number) {
            Some(1) => Ok(()),
            _ => Err(self.taken_over()),
        }
    }

    async fn check_owner(&self, owner: &str) -> Result<()> {
        let query = doc! { "_id": &self.settings.identity, "owner": owner };
        let command = doc! { "find": MARKS, "filter": query, "limit": 1 };
        let answer = self.run("looking for the owner", command).await?;
        let batch = answer.get_document("cursor");
        let batch = batch.and_then(|cursor| cursor.get_array("firstBatch"));
        match batch.is_ok_and(|batch| batch.len() == 1) {
            true => Ok(()),
            false => Err(self.taken_over()),
        }
    }

    fn taken_over(&self) -> Error {
        Error::fenced(format!(
            "{}: another process delivers to it now",
            self.settings.address.place()
        ))
    }

    /// Writes a batch, if this owner still delivers.
    pub async fn deliver(&self, owner: &str, batch: &Batch) -> Result<()> {
        self.check_owner(owner).await?;
        let there = self.deliver_some(batch, batch.statements.clone()).await?;
        if batch.verb != Verb::Update || there.is_empty() {
            return Ok(());
        }
        // Those documents have a higher version, or came about while the server looked for them: then they have to be changed.
        let again = batch.without_inserts(&there);
        self.deliver_some(batch, again).await.map(drop)
    }

    /// The numbers of statements that would have inserted what is there already.
    async fn deliver_some(&self, batch: &Batch, statements: Vec<Document>) -> Result<Vec<usize>> {
        let command = batch.command(&self.settings.address.collection, statements);
        let answer = self.write("writing rows", command).await?;
        let (there, failed): (Vec<_>, Vec<_>) = Failed::of(&answer)
            .into_iter()
            .partition(Failed::is_there_already);
        match failed.first() {
            Some(failed) => Err(failed.explain(&self.settings.address)),
            None => Ok(there.into_iter().map(|failed| failed.number).collect()),
        }
    }
}

/// What the document of the mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The epoch that was delivered last.
    pub mark: Option<Mark>,
    /// The epoch whose delivery was begun last: some of its rows may be there.
    pub begun: Option<Mark>,
    /// Behind which number the epochs of this job are counted.
    pub after: i64,
}

impl Claim {
    /// The same once the delivery of an epoch is begun. Numbers that begin anew are counted behind the old ones.
    pub fn begin(&self, mark: &Mark) -> Claim {
        let last = self.begun.as_ref().or(self.mark.as_ref());
        let begins_anew = last.filter(|last| last.epoch >= mark.epoch && *last != mark);
        let behind = begins_anew.map_or(0, |last| last.epoch);
        Claim {
            begun: Some(mark.clone()),
            after: self.after.saturating_add_unsigned(behind),
            mark: self.mark.clone(),
        }
    }

    /// The same once that epoch is delivered.
    pub fn end(self) -> Claim {
        Claim {
            mark: self.begun.clone(),
            ..self
        }
    }
}

/// A number, of whatever kind a server sends it as.
pub fn number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        #[expect(clippy::cast_possible_truncation, reason = "a whole number")]
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

fn is_there(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, mongodb::error::ErrorKind::Command(failed) if failed.code == NAMESPACE_EXISTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_that_begin_anew_are_counted_behind_all_that_were_begun() {
        let mark = |epoch, owner: &str| Mark {
            epoch,
            owner: owner.to_string(),
        };
        let first = Claim {
            mark: None,
            begun: None,
            after: 0,
        };
        let delivered = first.begin(&mark(42, "a")).end();
        assert_eq!(
            (delivered.after, &delivered.mark),
            (0, &Some(mark(42, "a")))
        );
        // It died in the middle of the next one, which may be tried again.
        let begun = delivered.begin(&mark(60, "a"));
        assert_eq!(begun.mark, Some(mark(42, "a")));
        assert_eq!(begun.begin(&mark(60, "a")), begun);
        // Or the checkpoints were thrown away: then even a number above the mark's begins anew.
        let anew = begun.begin(&mark(50, "b"));
        assert_eq!(anew.after, 60);
        assert_eq!(anew.begin(&mark(50, "b")), anew);
        assert_eq!(anew.end().begin(&mark(51, "b")).after, 60);
    }
}
