//! What is worth compacting: the small files of closed partitions.

use super::journal::VERSION;
use super::{Compaction, Event, Subject};
use crate::catalog::definition::spelled;
use crate::catalog::{Definition, Partition};
use crate::error::{Error, Result};
use crate::lake::tables::{Found, Lake};
use crate::store::Located;
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A file is small below this share of the size that merged files are to have.
const SMALL: u64 = 2;
/// A file that is so many times larger than all smaller ones together stays: most of what is written would be its own bytes.
const DWARFED: u64 = 10;
/// How many files become one at most, so that their footers fit into the memory; the others have their turn in the next run.
const MOST_FILES: usize = 4_000;
/// What one request copies on S3 at most.
const LARGEST_COPY: u64 = 5 << 30;

/// What a run does once all is merged: `_tributary/compacted/<run>/plan.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    pub tables: Vec<PlannedTable>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTable {
    /// Its folder in the lake.
    pub folder: String,
    /// Where the catalog has it, if its partitions are to be swapped there.
    pub registered: Option<Registration>,
    pub partitions: Vec<PlannedPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Registration {
    pub database: String,
    pub table: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPartition {
    /// Below the table's folder: `dt=2024-03-01/hour=07`; empty where the table has no partitions.
    pub folder: String,
    pub swap: Option<Swap>,
    /// The names of the small files, and their sizes in bytes.
    pub merged: BTreeMap<String, u64>,
    /// The files that they become.
    pub into: BTreeMap<String, u64>,
}

/// A partition as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    pub values: Vec<String>,
    /// Where it lies, as the catalog spells it.
    pub live: String,
    /// Where it lies meanwhile.
    pub aside: String,
}

impl Plan {
    pub fn new(tables: Vec<PlannedTable>) -> Plan {
        Plan {
            version: VERSION,
            tables,
        }
    }
}

/// What was found of all tables.
#[derive(Default)]
pub struct Survey {
    pub tables: Vec<Surveyed>,
    /// Partitions that the catalog has in a place which a broken compaction left, with the place where they belong.
    pub strays: Vec<(Definition, Partition)>,
}

/// One table, and what is to be done with it.
pub struct Surveyed {
    pub subject: Subject,
    pub registered: Option<Registration>,
    pub partitions: Vec<Candidate>,
    /// It cannot be compacted while it is read.
    pub wants_offline: bool,
}

/// A partition that is worth it.
pub struct Candidate {
    pub folder: String,
    pub swap: Option<(Vec<String>, String)>,
    pub files: Vec<ObjectMeta>,
}

/// How a table is swapped.
enum Way {
    /// Not at all: nobody reads it.
    Offline,
    /// By the catalog. Its partitions, by the places where they lie.
    Catalog(Registration, BTreeMap<Path, Partition>),
}

impl Compaction {
    /// Looks at all tables; nothing is changed.
    pub async fn survey(&self) -> Result<Survey> {
        let lake = Lake::from(&self.lake);
        let mut listed = Vec::new();
        for subject in &self.tables {
            let found = lake.table(&subject.folder);
            let files = found.files().await?;
            listed.push((subject, found, files));
        }
        // The order matters. Whatever is listed by now was published by an epoch that is not later than the latest, which is read last; and what an
        // earlier epoch published, it published to the end, unless its staged twin is still there.
        let staged = self.staged().await?;
        let open = match &self.writer {
            Some(writer) => writer.open_partitions().await?,
            None => BTreeMap::new(),
        };
        let mut survey = Survey::default();
        for (subject, found, files) in listed {
            let mut table = Surveyed {
                subject: subject.clone(),
                registered: None,
                partitions: Vec::new(),
                wants_offline: false,
            };
            match self.way(subject, &mut survey.strays).await? {
                Err(why) => {
                    table.wants_offline = true;
                    (self.observe)(Event::LeftAlone {
                        table: &subject.spec.name,
                        partition: "",
                        why: &format!("{why}, so it wants --offline"),
                    });
                }
                Ok(way) => {
                    let open = open.get(&subject.spec.name);
                    table.partitions =
                        self.candidates(subject, &found, files, &way, &staged, open)?;
                    if let Way::Catalog(registration, _) = way {
                        table.registered = Some(registration);
                    }
                }
            }
            survey.tables.push(table);
        }
        Ok(survey)
    }

    /// How the table is swapped; or why it cannot be.
    async fn way(
        &self,
        subject: &Subject,
        strays: &mut Vec<(Definition, Partition)>,
    ) -> Result<Result<Way, String>> {
        if self.options.offline {
            return Ok(Ok(Way::Offline));
        }
        let (Some(catalog), Some(name)) = (&self.catalog, &subject.registered) else {
            return Ok(Err("it is not registered in a catalog".to_string()));
        };
        let Registration { database, table } = name;
        let Some(definition) = catalog.table(database, table).await? else {
            return Ok(Err(format!("the catalog has no table {database}.{table}")));
        };
        if definition.partition_keys.is_empty() {
            return Ok(Err("it has no partitions".to_string()));
        }
        if definition.is_projected() {
            return Ok(Err(
                "its partitions are projected, so the catalog cannot lead elsewhere".to_string(),
            ));
        }
        let mut places = BTreeMap::new();
        for partition in catalog.partitions(database, table).await? {
            let Some(path) = path_in(&self.lake, &partition.location) else {
                continue;
            };
            if let Some(location) = home(&partition.location) {
                let home = Partition {
                    location,
                    ..partition
                };
                strays.push((definition.clone(), home));
            } else {
                places.insert(path, partition);
            }
        }
        Ok(Ok(Way::Catalog(name.clone(), places)))
    }

    /// The partitions of a table that are worth it.
    fn candidates(
        &self,
        subject: &Subject,
        found: &Found,
        files: Vec<ObjectMeta>,
        way: &Way,
        staged: &BTreeSet<String>,
        open: Option<&BTreeSet<String>>,
    ) -> Result<Vec<Candidate>> {
        let left = |folder: &str, why: &str| {
            (self.observe)(Event::LeftAlone {
                table: &subject.spec.name,
                partition: folder,
                why,
            });
        };
        if let Err(unlike) = found.partitions(&files) {
            left("", &unlike.to_string());
            return Ok(Vec::new());
        }
        let mut candidates = Vec::new();
        for (folder, files) in by_folder(&found.folder, files) {
            let largest = files.iter().map(|file| file.size).max().unwrap_or(0);
            let ready = files
                .into_iter()
                .filter(|file| !staged.contains(file_name(file)));
            let ready: Vec<_> = ready.collect();
            let youngest = ready.iter().map(|file| file.last_modified).max();
            let chosen = choose(ready, self.options.target as u64);
            // A partition that is large already is nothing to speak of.
            if chosen.is_empty() {
                continue;
            }
            if open.is_some_and(|open| open.contains(&folder)) {
                left(&folder, "the job is still writing it");
                continue;
            }
            let age = youngest.map(|at| self.clock.now_ms() - at.timestamp_millis());
            let settled = i64::try_from(self.options.older_than.as_millis()).unwrap_or(i64::MAX);
            if !subject.tells_complete && age.is_some_and(|age| age < settled) {
                left(&folder, "it has a new file, see --older-than");
                continue;
            }
            let swap = match way {
                Way::Offline => None,
                Way::Catalog(_, places) => {
                    let path = below(&found.folder, &folder)?;
                    let Some(partition) = places.get(&path) else {
                        left(&folder, "the catalog does not have it in this place");
                        continue;
                    };
                    if largest > LARGEST_COPY {
                        left(&folder, "it has a file that is too large to be copied");
                        continue;
                    }
                    Some((partition.values.clone(), partition.location.clone()))
                }
            };
            candidates.push(Candidate {
                folder,
                swap,
                files: chosen,
            });
        }
        Ok(candidates)
    }

    /// The names of files whose publication has not ended.
    async fn staged(&self) -> Result<BTreeSet<String>> {
        let folder = self.lake.child("_tributary/staged");
        let listed: Vec<_> = self
            .lake
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| self.lake.explain(&folder, error))?;
        Ok(listed
            .iter()
            .map(|file| file_name(file).to_string())
            .collect())
    }
}

/// Where a partition belongs whose location is in a folder of compaction.
fn home(location: &str) -> Option<String> {
    let (lake, rest) = location.split_once("/_tributary/compacted/")?;
    let (_run, partition) = rest.split_once('/')?;
    Some(format!("{lake}/{partition}"))
}

/// Where a partition lies while it is aside, if its location is spelled as the lake lays it out.
pub fn aside(live: &str, folders: &str, aside: &str) -> Option<String> {
    let folders = spelled(folders, live);
    let trimmed = live.trim_end_matches('/');
    let slashes = &live[trimmed.len()..];
    let lake = trimmed.strip_suffix(folders.as_str())?.strip_suffix('/')?;
    Some(format!("{lake}/{aside}/{folders}{slashes}"))
}

/// The path that a location leads to, if it is in the same store as the lake.
fn path_in(lake: &Located, location: &str) -> Option<Path> {
    let (store, path) = store_and_path(location)?;
    (store == store_and_path(&lake.url)?.0).then_some(path)
}

/// `("bucket", "a/b")` of `s3://bucket/a/b/`; a local path has no bucket.
fn store_and_path(url: &str) -> Option<(String, Path)> {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme != "file" => {
            let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
            let path = Path::parse(path.trim_matches('/')).ok()?;
            let store = match scheme {
                "s3" | "s3a" | "s3n" => bucket.to_string(),
                _ => format!("{scheme}://{bucket}"),
            };
            Some((store, path))
        }
        _ => {
            let path = crate::store::open(url).ok()?.path;
            Some((String::new(), path))
        }
    }
}

/// A path whose names are escaped already.
pub fn below(folder: &Path, rest: &str) -> Result<Path> {
    match rest {
        "" => Ok(folder.clone()),
        rest => Path::parse(format!("{folder}/{rest}")).map_err(|error| {
            Error::data(format!("'{rest}' cannot be a path below '{folder}'")).caused_by(error)
        }),
    }
}

fn by_folder(table: &Path, files: Vec<ObjectMeta>) -> BTreeMap<String, Vec<ObjectMeta>> {
    let mut folders: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
    let above = table.as_ref().len();
    for file in files {
        let inside = file.location.as_ref()[above..].trim_start_matches('/');
        let folder = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder.to_string()).or_default().push(file);
    }
    folders
}

pub fn file_name(file: &ObjectMeta) -> &str {
    file.location.filename().unwrap_or_default()
}

/// The files that are worth being merged into files of about `target` bytes, in the order in which they were written; none where it
/// would not halve their number.
fn choose(files: Vec<ObjectMeta>, target: u64) -> Vec<ObjectMeta> {
    let mut small: Vec<_> = files
        .into_iter()
        .filter(|file| file.size < target / SMALL)
        .collect();
    small.sort_by_key(|file| file.size);
    small.truncate(MOST_FILES);
    let mut bytes: u64 = small.iter().map(|file| file.size).sum();
    while let Some(largest) = small.last()
        && largest.size > DWARFED * (bytes - largest.size)
    {
        bytes -= largest.size;
        small.pop();
    }
    let after = usize::try_from(bytes.div_ceil(target.max(1)).max(1)).unwrap_or(usize::MAX);
    if small.len() < after.saturating_mul(2) {
        return Vec::new();
    }
    small.sort_by(|a, b| {
        let key = |file: &ObjectMeta| (file.last_modified, file.location.clone());
        key(a).cmp(&key(b))
    });
    small
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[track_caller]
    fn check(sizes: &[u64], chosen: &[u64]) {
        let files = sizes.iter().enumerate().map(|(at, size)| ObjectMeta {
            location: Path::from(format!("t/{at}.parquet")),
            last_modified: DateTime::from_timestamp_millis(at as i64).unwrap(),
            size: *size,
            e_tag: None,
            version: None,
        });
        let got: Vec<_> = choose(files.collect(), 100)
            .iter()
            .map(|file| file.size)
            .collect();
        assert_eq!(got, chosen, "{sizes:?}");
    }

    #[test]
    fn small_files_are_chosen_where_that_halves_their_number() {
        check(&[], &[]);
        check(&[1], &[]);
        check(&[2, 1], &[2, 1]);
        check(&[2, 1, 50, 200], &[2, 1]);
        // 120 bytes are two files of 100.
        check(&[40, 40, 40], &[]);
        check(&[30, 30, 30, 30], &[30, 30, 30, 30]);
    }

    #[test]
    fn a_file_that_dwarfs_the_others_is_not_written_again() {
        check(&[40, 1, 1], &[1, 1]);
        check(&[40, 2, 2], &[40, 2, 2]);
        check(&[40, 1], &[]);
    }

    #[test]
    fn a_partition_goes_aside_and_comes_home() {
        let there = |live: &str| aside(live, "t/dt=a%3Ab", "_tributary/compacted/7");
        let moved = there("s3://b/lake/t/dt=a%3Ab/").unwrap();
        assert_eq!(moved, "s3://b/lake/_tributary/compacted/7/t/dt=a%3Ab/");
        assert_eq!(home(&moved).unwrap(), "s3://b/lake/t/dt=a%3Ab/");
        assert_eq!(home("s3://b/lake/t/dt=a%3Ab"), None);
        assert_eq!(there("s3://b/lake/t/dt=a:b"), None);
        let moved = there("file:///lake/t/dt=a%253Ab").unwrap();
        assert_eq!(moved, "file:///lake/_tributary/compacted/7/t/dt=a%253Ab");
    }

    #[test]
    fn the_same_place_may_be_spelled_in_several_ways() {
        let lake = crate::store::open("memory://places/lake").unwrap();
        let path = Some(Path::parse("lake/t/dt=x%3Ay").unwrap());
        assert_eq!(path_in(&lake, "memory://places/lake/t/dt=x%3Ay/"), path);
        assert_eq!(path_in(&lake, "memory://other/lake/t/dt=x%3Ay/"), None);
        let of = |url: &str| store_and_path(url).unwrap();
        assert_eq!(of("s3a://b/x/"), of("s3://b/x"));
        assert_eq!(of("file:///a/b"), of("/a/b/"));
    }
}
