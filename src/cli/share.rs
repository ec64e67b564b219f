//! Several processes share a job, each with some of the partitions and with epochs of its own.
//!
//! That is only right where no row of one process concerns a row of another, and where no two processes read the same
//! partition: both are looked at before a job starts.

use super::job::Job;
use crate::catalog::keeper::Duties;
use crate::error::{Error, Result};
use crate::plan::Op;
use crate::source::Share;
use crate::store::{self, Located};

/// The folders of the shares' epochs, below that of the job's: `partitions-0-3`.
const FOLDER: &str = "partitions-";

impl Job {
    /// Makes of the job the part that reads these partitions.
    pub fn take_share(&mut self, share: Share) -> Result<()> {
        let option = format!("--partitions {share}");
        for node in &self.graph.nodes {
            let (name, place) = (&node.name, &node.place);
            let why = match &node.op {
                op if op.is_keyed() => format!(
                    "'{name}' brings the rows of a key together, and these may be in partitions of other processes"
                ),
                Op::Scan(scan) if scan.table.options.get("connector") != Some("kafka") => {
                    format!("'{name}' is not read from Kafka, so each process would read all of it")
                }
                _ => continue,
            };
            return Err(Error::job(format!(
                "{place}: {option}: {why}; run the job in one process, or this file on Flink"
            )));
        }
        let duties = Duties::of(self.judged(), &self.registered)?;
        if let Some(table) = duties.first_that_completes() {
            return Err(Error::job(format!(
                "{option}: table '{table}' says when a partition of it is complete, and no process knows that of the others; take the \
                 success file away, or the crawler's start at 'partition-commit'"
            )));
        }
        let settings = &mut self.settings;
        settings.name = format!("{}-{FOLDER}{share}", settings.name);
        let folder = settings.checkpoint_dir.trim_end_matches('/');
        settings.checkpoint_dir = format!("{folder}/{FOLDER}{share}");
        self.share = share;
        Ok(())
    }

    /// Refuses to read partitions that are read under another share, or by the whole job: their rows would be written twice.
    pub async fn check_share(&self) -> Result<()> {
        let own = format!("{FOLDER}{}", self.share);
        let dir = self.settings.checkpoint_dir.as_str();
        let dir = match self.share.is_all() {
            true => dir,
            false => dir.strip_suffix(&own).unwrap_or(dir),
        };
        let at = store::open_with(dir, &self.settings.encryption)?;
        for folder in folders(&at).await? {
            let clash = match folder.strip_prefix(FOLDER) {
                Some(_) if folder == own => false,
                Some(other) => other
                    .parse::<Share>()
                    .is_ok_and(|other| other.overlaps(&self.share)),
                None => folder == "epochs" && !self.share.is_all(),
            };
            if clash {
                return Err(Error::job(format!(
                    "{dir}: there are epochs of other processes for the same partitions, in '{folder}': rows would be written twice. Go on as \
                     before, or start anew, with another 'execution.checkpointing.dir' and behind what was read"
                )));
            }
        }
        Ok(())
    }
}

async fn folders(at: &Located) -> Result<Vec<String>> {
    let listed = at.store.list_with_delimiter(Some(&at.path)).await;
    let listed = listed.map_err(|error| at.explain(&at.path, error))?;
    let names = listed
        .common_prefixes
        .iter()
        .filter_map(|folder| folder.filename());
    Ok(names.map(str::to_owned).collect())
}
