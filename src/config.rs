//! The settings of a job: defaults, then the file's SET statements, then what the command line says.

use crate::error::{Error, Result};
use crate::sql::options::OptionSpec;
use crate::sql::refusal::{did_you_mean, refuse};
use crate::sql::values::{self, Kind};
use crate::sql::{Place, Script};
use crate::store::Encryption;
use crate::store::encryption::{self, BUCKET_KEY, KIND, KMS_KEY};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Where a setting is from that is not in the file.
const OUTSIDE: &str = "by -D, an option or the environment";
/// Far beyond what helps on any machine, and what one can start.
const MOST_LANES: u64 = 1024;
/// With less, every round of reading is a few records and every file a few rows.
const LEAST_MEMORY: u64 = 16 << 20;

/// Everything about a job that is not a table or a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `pipeline.name`; the file's name without `.sql` where it is not set.
    pub name: String,
    /// `execution.checkpointing.interval`: how often an epoch is committed.
    pub checkpoint_interval: Duration,
    /// `execution.checkpointing.dir`: where epochs are kept.
    pub checkpoint_dir: String,
    /// `parallelism.default`; not set means one lane for each core.
    pub parallelism: Option<usize>,
    /// `table.exec.source.idle-timeout`; nothing where it is 0, which switches it off.
    pub idle_timeout: Option<Duration>,
    /// `tributary.max-future`: how far ahead of the clock an event time may be.
    pub max_future: Duration,
    /// `tributary.memory`, in bytes.
    pub memory: u64,
    /// `tributary.dead-letters.path`, where the dead-letter table lies if not in its usual place.
    pub dead_letters_path: Option<String>,
    /// `tributary.alignment.max-drift`: how far ahead of the slowest source another may run.
    pub max_drift: Duration,
    /// `tributary.allow-dropped-state`: whether a start may leave behind what the job has no place for any more.
    pub allow_dropped_state: bool,
    /// `tributary.s3.*`: how S3 encrypts what the job writes.
    pub encryption: Encryption,
    /// `tributary.glue.*`
    pub glue: Glue,
    /// What was set and changes nothing, each with its place.
    pub warnings: Vec<String>,
}

/// What the job has to do with the Glue catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Glue {
    /// `tributary.glue.database`: where tables are registered that do not name a database themselves.
    pub database: Option<String>,
    /// `tributary.glue.dead-letters.table`: what the usual dead letters are called there.
    pub dead_letters_table: String,
    /// `tributary.glue.crawler`: who looks at tables that do not name a crawler themselves.
    pub crawler: Option<String>,
    /// `tributary.glue.crawler.min-interval`: the least time from one start to the next.
    pub crawler_min_interval: Duration,
    /// `tributary.glue.crawler.start`: what makes it start.
    pub crawler_start: CrawlerStart,
    /// `tributary.glue.crawler.role`: with it, a crawler that is not there is created.
    pub crawler_role: Option<String>,
    /// `tributary.glue.crawler.schedule`: when a crawler that is created runs by itself.
    pub crawler_schedule: Option<String>,
}

/// What makes a crawler start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrawlerStart {
    NewFiles,
    PartitionCommit,
    Never,
}

/// The settings that others refer to.
pub const GLUE_DATABASE: &str = "tributary.glue.database";
pub const GLUE_CRAWLER: &str = "tributary.glue.crawler";

/// Every setting that is known.
pub const SETTINGS: &[OptionSpec] = &[
    OptionSpec::new(
        "pipeline.name",
        Kind::Text,
        "the job's name; without it, the file's",
    ),
    OptionSpec::new(
        "execution.checkpointing.interval",
        Kind::Duration,
        "how often results are committed and become visible",
    )
    .default("10 s"),
    OptionSpec::new(
        "execution.checkpointing.dir",
        Kind::Location,
        "where checkpoints are kept: a path, file://, s3://, gs:// or az://; without it, ./checkpoints/ and the job's name",
    ),
    OptionSpec::new(
        "state.checkpoints.dir",
        Kind::Location,
        "the older name of execution.checkpointing.dir",
    ),
    OptionSpec::new(
        "execution.checkpointing.mode",
        Kind::OneOf(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]),
        "",
    )
    .default("EXACTLY_ONCE")
    .only("EXACTLY_ONCE", "every result is exactly once"),
    OptionSpec::new(
        "execution.runtime-mode",
        Kind::OneOf(&["streaming", "batch", "automatic"]),
        "",
    )
    .default("streaming")
    .only("streaming", "use --bounded to read to the end and stop"),
    OptionSpec::new("table.local-time-zone", Kind::Text, "the session's zone")
        .default("UTC")
        .only(
            "UTC",
            "other zones are not supported yet: convert where the table is read",
        ),
    OptionSpec::new(
        "parallelism.default",
        Kind::Integer,
        "how many lanes; without it, one for each core",
    ),
    OptionSpec::new(
        "table.exec.source.idle-timeout",
        Kind::Duration,
        "after this long at its end without a row, a partition holds nobody back (0: never)",
    )
    .default("30 s"),
    OptionSpec::new("pipeline.auto-watermark-interval", Kind::Duration, "")
        .no_effect("each row makes a watermark"),
    OptionSpec::new(
        "tributary.max-future",
        Kind::Duration,
        "a row whose event time is further ahead of the clock is a dead letter",
    )
    .default("1 d"),
    OptionSpec::new(
        "tributary.memory",
        Kind::Size,
        "memory for queues, state and open files",
    )
    .default("384 MB"),
    OptionSpec::new(
        "tributary.dead-letters.path",
        Kind::Location,
        "where the dead-letter table lies; without it, dead_letters beside the tables written",
    ),
    OptionSpec::new(
        "tributary.alignment.max-drift",
        Kind::Duration,
        "how far ahead of the slowest source another may run, in event time",
    )
    .default("5 min"),
    OptionSpec::new(
        "tributary.allow-dropped-state",
        Kind::Boolean,
        "true: state of queries and positions of tables that are not in the job any more are dropped, which is said; meant for one start, with -D",
    )
    .default("false"),
    OptionSpec::new(
        KIND,
        Kind::OneOf(encryption::WORDS),
        "how S3 encrypts what is written; without it, as the bucket's default says",
    ),
    OptionSpec::new(
        KMS_KEY,
        Kind::AnyText,
        "the id, alias or ARN of the KMS key; empty: the account's key for S3",
    ),
    OptionSpec::new(
        BUCKET_KEY,
        Kind::Boolean,
        "whether S3 asks KMS for one key for the bucket instead of one for each object",
    ),
    OptionSpec::new(
        GLUE_DATABASE,
        Kind::AnyText,
        "the Glue database in which Parquet tables and the dead letters are registered; empty: none",
    ),
    OptionSpec::new(
        "tributary.glue.dead-letters.table",
        Kind::Text,
        "the name of the dead letters there; jobs that share a database but no lake need one each",
    )
    .default("dead_letters"),
    OptionSpec::new(
        GLUE_CRAWLER,
        Kind::AnyText,
        "the Glue crawler that is started when there is something new; empty: none",
    ),
    OptionSpec::new(
        "tributary.glue.crawler.start",
        Kind::OneOf(&["new-files", "partition-commit", "never"]),
        "what is new: any file, a partition that is complete, or nothing, as its own schedule starts it",
    )
    .default("new-files"),
    OptionSpec::new(
        "tributary.glue.crawler.min-interval",
        Kind::Duration,
        "the least time from one start of a crawler to the next; each run is billed as 10 minutes at least",
    )
    .default("10 min"),
    OptionSpec::new(
        "tributary.glue.crawler.role",
        Kind::AnyText,
        "the IAM role of a crawler that is created because it is not there; empty: it has to be there",
    ),
    OptionSpec::new(
        "tributary.glue.crawler.schedule",
        Kind::AnyText,
        "when a crawler that is created runs by itself: 'cron(15 12 * * ? *)'; empty: never",
    ),
    OptionSpec::new(
        "table.exec.sink.not-null-enforcer",
        Kind::OneOf(&["ERROR", "DROP"]),
        "",
    )
    .default("ERROR")
    .only("ERROR", "filter with WHERE column IS NOT NULL"),
    OptionSpec::new(
        "table.exec.sink.type-length-enforcer",
        Kind::OneOf(&["IGNORE", "TRIM_PAD", "ERROR"]),
        "",
    )
    .default("IGNORE")
    .only("IGNORE", "lengths of columns are not enforced"),
    OptionSpec::not_yet(
        "table.exec.state.ttl",
        "windows and interval joins forget by event time; what a GROUP BY or a ROW_NUMBER without a window holds is held for good",
    ),
    OptionSpec::not_yet("table.exec.legacy-cast-behaviour", "leave it out"),
    OptionSpec::not_yet(
        "execution.savepoint.path",
        "a job goes on from its own checkpoints",
    ),
    OptionSpec::not_yet(
        "execution.state-recovery.path",
        "a job goes on from its own checkpoints",
    ),
    OptionSpec::not_yet(
        "execution.state-recovery.ignore-unclaimed-state",
        "tributary.allow-dropped-state is the setting for it",
    ),
    OptionSpec::not_yet(
        "execution.savepoint.ignore-unclaimed-state",
        "tributary.allow-dropped-state is the setting for it",
    ),
    OptionSpec::new("table.exec.mini-batch.*", Kind::Text, "")
        .no_effect("rows always travel in batches"),
    OptionSpec::new("table.optimizer.*", Kind::Text, "").no_effect("there is one optimiser"),
    OptionSpec::new("table.dml-sync", Kind::Text, "").no_effect("a job's statements run as one"),
    OptionSpec::new("sql-client.*", Kind::Text, "").no_effect("there is no SQL client"),
    OptionSpec::new("state.backend*", Kind::Text, "").no_effect("state has one kind of store"),
    OptionSpec::new("state.savepoints.dir", Kind::Text, "").no_effect("there are no savepoints"),
    OptionSpec::new("execution.checkpointing.timeout", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.checkpointing.min-pause", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new(
        "execution.checkpointing.max-concurrent-checkpoints",
        Kind::Text,
        "",
    )
    .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.checkpointing.num-retained", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new(
        "execution.checkpointing.externalized-checkpoint-retention",
        Kind::Text,
        "",
    )
    .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new(
        "execution.checkpointing.tolerable-failed-checkpoints",
        Kind::Text,
        "",
    )
    .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.checkpointing.unaligned.enabled", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.checkpointing.incremental", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.checkpointing.storage", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.checkpointing.savepoint-dir", Kind::Text, "")
        .no_effect("only interval, dir and mode of checkpoints can be set"),
    OptionSpec::new("execution.target", Kind::Text, "").no_effect("there is no cluster"),
    OptionSpec::new("restart-strategy*", Kind::Text, "")
        .no_effect("failures that may pass are tried again; for the rest there is the supervisor"),
    OptionSpec::new("pipeline.max-parallelism", Kind::Integer, "")
        .no_effect("state can move to any number of lanes"),
    OptionSpec::new("pipeline.object-reuse", Kind::Text, "").no_effect("rows are no objects"),
    OptionSpec::new("pipeline.operator-chaining*", Kind::Text, "")
        .no_effect("operators without keys are always chained"),
    OptionSpec::new("jobmanager.*", Kind::Text, "").no_effect("there is no cluster"),
    OptionSpec::new("taskmanager.*", Kind::Text, "").no_effect("there is no cluster"),
];

impl Settings {
    /// The settings of a job file, with `overrides` (`-D key=value`, in their order) before those of the file.
    pub fn from_script(script: &Script, overrides: &[(String, String)]) -> Result<Settings> {
        let mut settings = Raw {
            path: &script.path,
            values: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for setting in &script.settings {
            settings.set(&setting.key, &setting.value, Some(setting.place))?;
        }
        for (key, value) in overrides {
            settings.set(key, value, None)?;
        }
        settings.typed()
    }
}

/// Values that were checked one by one, by the key of their declaration.
struct Raw<'a> {
    path: &'a str,
    values: BTreeMap<&'static str, (String, Option<Place>)>,
    warnings: Vec<String>,
}

impl Raw<'_> {
    fn set(&mut self, key: &str, value: &str, place: Option<Place>) -> Result<()> {
        let Some(spec) = SETTINGS.iter().find(|spec| spec.covers(key)) else {
            let known = SETTINGS
                .iter()
                .map(|spec| spec.key)
                .filter(|key| !key.contains('*'));
            let near = crate::sql::refusal::nearest(key, known.clone());
            let hint = match near {
                Some(_) => did_you_mean(key, known),
                None => "docs/sql.md lists the settings".to_owned(),
            };
            return Err(self.refuse(place, &format!("there is no setting '{key}'"), &hint));
        };
        let (value, warning) = spec
            .check(key, value)
            .map_err(|(message, hint)| self.refuse(place, &message, &hint))?;
        if let Some(warning) = warning {
            self.warnings.push(match place {
                Some(place) => format!("{}:{place}: {warning}", self.path),
                None => format!("{OUTSIDE}: {warning}"),
            });
        }
        // The two names of one setting are one setting, so that an override of either wins.
        let name = if spec.key == "state.checkpoints.dir" {
            "execution.checkpointing.dir"
        } else {
            spec.key
        };
        if let (Some(_), Some((_, Some(before)))) = (place, self.values.get(name)) {
            return Err(self.refuse(
                place,
                &format!("'{name}' is set twice"),
                &format!("it is also set at {before}, by one of its names"),
            ));
        }
        self.values.insert(name, (value, place));
        Ok(())
    }

    fn refuse(&self, place: Option<Place>, message: &str, hint: &str) -> Error {
        match place {
            Some(place) => refuse(self.path, place, message, hint),
            None => Error::job(format!("{OUTSIDE}: {message}\n  hint: {hint}")),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some((value, _)) => Some(value),
            None => SETTINGS.iter().find(|spec| spec.key == key)?.default,
        }
    }

    /// A duration that was checked, or has a default that the tests check.
    fn duration(&self, key: &str) -> Result<Duration> {
        self.text(key)
            .and_then(values::duration)
            .ok_or_else(|| Error::bug(format!("the setting {key} has no duration")))
    }

    /// A text; an empty one is as good as none, so that `'${NAME:-}'` can be written.
    fn some_text(&self, key: &str) -> Option<String> {
        self.text(key)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    fn glue(&self) -> Result<Glue> {
        let [start, schedule] = [
            "tributary.glue.crawler.start",
            "tributary.glue.crawler.schedule",
        ];
        let glue = Glue {
            database: self.some_text(GLUE_DATABASE),
            dead_letters_table: self
                .some_text("tributary.glue.dead-letters.table")
                .unwrap_or_default(),
            crawler: self.some_text(GLUE_CRAWLER),
            crawler_min_interval: self.duration("tributary.glue.crawler.min-interval")?,
            crawler_start: match self.text(start) {
                Some("partition-commit") => CrawlerStart::PartitionCommit,
                Some("never") => CrawlerStart::Never,
                _ => CrawlerStart::NewFiles,
            },
            crawler_role: self.some_text("tributary.glue.crawler.role"),
            crawler_schedule: self.some_text(schedule),
        };
        if glue.crawler_schedule.is_some() && glue.crawler_role.is_none() {
            return Err(self.refuse(
                self.values.get(schedule).and_then(|(_, place)| *place),
                &format!("'{schedule}' is for a crawler that is created, which needs 'tributary.glue.crawler.role'"),
                "set the role too; the schedule of a crawler that is there already is left as it is",
            ));
        }
        Ok(glue)
    }

    fn typed(self) -> Result<Settings> {
        let name = match self.text("pipeline.name") {
            Some(name) => name.to_owned(),
            None => file_name(self.path),
        };
        let place = |key| self.values.get(key).and_then(|(_, place)| *place);
        if matches!(name.as_str(), "." | "..") || name.contains(['/', '\\']) {
            let key = "pipeline.name";
            return Err(self.refuse(
                place(key),
                &format!("'{key}' cannot be '{name}'"),
                "checkpoints are in a folder of that name: take one without / and \\",
            ));
        }
        let checkpoint_interval = self.duration("execution.checkpointing.interval")?;
        if checkpoint_interval.is_zero() {
            let key = "execution.checkpointing.interval";
            return Err(self.refuse(
                place(key),
                &format!("'{key}' cannot be 0"),
                "results become visible with each checkpoint",
            ));
        }
        let parallelism = self.text("parallelism.default").and_then(values::integer);
        if parallelism == Some(0) {
            let key = "parallelism.default";
            return Err(self.refuse(
                place(key),
                &format!("'{key}' cannot be 0"),
                "leave it out: there is a lane for each core then",
            ));
        }
        if parallelism.is_some_and(|lanes| lanes > MOST_LANES) {
            let key = "parallelism.default";
            return Err(self.refuse(
                place(key),
                &format!("'{key}' cannot be more than {MOST_LANES}"),
                "a lane for each core is enough, which is what is there when it is left out",
            ));
        }
        let memory = self.text("tributary.memory").and_then(values::size);
        if memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            let key = "tributary.memory";
            return Err(self.refuse(
                place(key),
                &format!("'{key}' cannot be less than {} MB", LEAST_MEMORY >> 20),
                "queues and open files share it; with little of it files are many and small",
            ));
        }
        let glue = self.glue()?;
        let encryption = Encryption::new(
            self.text(KIND),
            self.some_text(KMS_KEY).as_deref(),
            self.text(BUCKET_KEY).map(|on| on == "true"),
        )
        .map_err(|(message, hint)| {
            let key = [KMS_KEY, BUCKET_KEY]
                .into_iter()
                .find(|key| self.values.contains_key(key));
            self.refuse(key.and_then(place), &message, &hint)
        })?;
        Ok(Settings {
            checkpoint_interval,
            checkpoint_dir: match self.text("execution.checkpointing.dir") {
                Some(dir) => dir.to_owned(),
                None => format!("./checkpoints/{name}"),
            },
            parallelism: parallelism.and_then(|lanes| usize::try_from(lanes).ok()),
            idle_timeout: Some(self.duration("table.exec.source.idle-timeout")?)
                .filter(|timeout| !timeout.is_zero()),
            max_future: self.duration("tributary.max-future")?,
            memory: memory.ok_or_else(|| Error::bug("the setting tributary.memory has no size"))?,
            dead_letters_path: self.text("tributary.dead-letters.path").map(str::to_owned),
            max_drift: self.duration("tributary.alignment.max-drift")?,
            allow_dropped_state: self.text("tributary.allow-dropped-state") == Some("true"),
            encryption,
            glue,
            warnings: self.warnings,
            name,
        })
    }
}

/// The name of a job that does not name itself.
fn file_name(path: &str) -> String {
    let stem = Path::new(path)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or_else(|| "job".to_owned())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
