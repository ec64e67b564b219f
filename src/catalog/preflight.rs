//! What makes Athena fail, or cost more than it should, found before a job runs.
//!
//! It is about tables that are meant for Athena: those that are registered or crawled, and Parquet on S3. What would make a registered
//! table unreadable is refused; all else is a warning. A table on a local disk that no catalog knows is nobody's business but DuckDB's.

use super::definition::{Job, Registered, location};
use super::{Crawler, feedback, hive};
use crate::config::GLUE_CRAWLER;
use crate::plan::Origin;
use crate::sink::TableSpec;
use crate::sql::connectors::filesystem::PROJECTION;
use crate::sql::refusal::Refusal;
use crate::sql::types::flink_name;
use crate::sql::{Options, Place, Table};
use crate::store::{below, is_cloud};
use arrow::datatypes::{DataType, TimeUnit};

/// More partitions than this in a day make every query slow, and a crawler expensive.
const MANY_PARTITIONS: u64 = 2_000;

const CHECKPOINTS: [&str; 2] = ["execution.checkpointing.dir", "state.checkpoints.dir"];

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    pub refused: Vec<Refusal>,
    pub warnings: Vec<Refusal>,
}

/// Looks at a job that is about to run.
pub fn findings(job: Job<'_>, registered: &[Registered]) -> Findings {
    let mut found = Findings::default();
    for spec in job.tables {
        let look = Look {
            job,
            spec,
            declared: job.declared(spec),
            is_registered: registered.iter().any(|table| table.table == spec.name),
        };
        if look.is_for_athena() {
            look.cloud(&mut found);
            look.names(&mut found);
            look.types(&mut found);
            look.partitions(&mut found);
        }
    }
    folders(job, registered, &mut found);
    feedback::find(job, &mut found);
    checkpoints(job, registered, &mut found);
    found
}

/// One table.
struct Look<'a> {
    job: Job<'a>,
    spec: &'a TableSpec,
    declared: Option<&'a Table>,
    is_registered: bool,
}

impl Look<'_> {
    fn is_for_athena(&self) -> bool {
        self.spec.options.get("format") == Some("parquet")
            && self.spec.options.get("connector") == Some("filesystem")
            && (self.is_registered || crawler(self.job, self.spec).is_some() || is_on_s3(self.spec))
    }

    /// What makes a registered table unreadable is refused.
    fn grave(&self, refusal: Refusal, found: &mut Findings) {
        match self.is_registered {
            true => found.refused.push(refusal),
            false => found.warnings.push(refusal),
        }
    }

    fn place(&self, column: &str) -> Place {
        let Some(table) = self.declared else {
            return Place::default();
        };
        table
            .column(column)
            .map_or(table.place, |column| column.place)
    }

    /// Glue and Athena look at S3 only.
    fn cloud(&self, found: &mut Findings) {
        if let Some(path) = self.spec.options.get("path")
            && is_elsewhere(self.spec)
        {
            let place = self
                .declared
                .map_or(Place::default(), |table| table.option_place("path"));
            let message = format!(
                "the table '{}' is at {path}, and Glue and Athena look at S3 only",
                self.spec.name
            );
            let hint = "keep it on S3, or set 'tributary.glue.database' and 'tributary.glue.crawler' to '' (for the job, or as options of the \
                        table) and read it with 'tributary query --lake'";
            found.refused.push(Refusal::new(place, message).hint(hint));
        }
    }

    fn names(&self, found: &mut Findings) {
        let fields = self.spec.schema.fields();
        let table = &self.spec.name;
        let names = fields.iter().map(|field| field.name().as_str());
        if let Some((one, other)) = hive::clash(names) {
            let partitions = &self.spec.partitioned_by;
            let is_partition = |name: &str| partitions.iter().any(|partition| partition == name);
            let message = if is_partition(one) != is_partition(other) {
                format!(
                    "the columns '{one}' and '{other}' of '{table}' are one to Athena, so the partition column would be in the files too"
                )
            } else {
                format!(
                    "the columns '{one}' and '{other}' of '{table}' are one to Athena, which has no upper case"
                )
            };
            let refusal =
                Refusal::new(self.place(other), message).hint("give one of them another name");
            self.grave(refusal, found);
        }
        for field in fields {
            let place = self.place(field.name());
            let mut name = |name: &str, within: &str| {
                if let Some(trouble) = hive::trouble_with_name(name) {
                    let message = format!(
                        "Athena cannot read {within} '{name}' of '{table}': its name {trouble}"
                    );
                    let hint = "letters, digits and underscores are safe; give it another name with AS and in the table";
                    self.grave(Refusal::new(place, message).hint(hint), found);
                } else if !name.is_ascii() {
                    let message = format!(
                        "{within} '{name}' of '{table}' has letters beyond a to z, which not all that reads a Hive table can"
                    );
                    found.warnings.push(Refusal::new(place, message));
                }
            };
            name(field.name(), "the column");
            let rows = hive::rows(field.data_type());
            for field in rows.iter().flat_map(|fields| fields.iter()) {
                name(field.name(), "the field");
            }
            for fields in rows {
                if let Some((one, other)) =
                    hive::clash(fields.iter().map(|field| field.name().as_str()))
                {
                    let message = format!(
                        "the fields '{one}' and '{other}' in '{}' of '{table}' are one to Athena, which has no upper case",
                        field.name()
                    );
                    self.grave(
                        Refusal::new(place, message).hint("give one of them another name"),
                        found,
                    );
                }
            }
        }
    }

    fn types(&self, found: &mut Findings) {
        for field in self.spec.schema.fields() {
            let warn = |message: String, hint: &str| {
                Refusal::new(self.place(field.name()), message).hint(hint)
            };
            if has_nanoseconds(field.data_type()) {
                let message = format!(
                    "'{}' of '{}' is of type {}: its last three digits are not kept, because Athena reads no nanoseconds",
                    field.name(),
                    self.spec.name,
                    flink_name(field.data_type())
                );
                found
                    .warnings
                    .push(warn(message, "declare it as TIMESTAMP(6) or TIMESTAMP(3)"));
            }
            // Of a registered table the definition has refused it already.
            if !self.is_registered
                && let Err((word, instead)) = hive::hive_type(field.data_type())
            {
                let message = format!(
                    "Athena has no {word}: '{}' of '{}' cannot be read there",
                    field.name(),
                    self.spec.name
                );
                found.warnings.push(warn(message, instead));
            }
        }
    }

    /// How many partitions a day brings: known for times, and where projection says what there is.
    fn partitions(&self, found: &mut Findings) {
        let Some(table) = self.declared else {
            return;
        };
        let mut others: u64 = 1;
        let mut time = Clock::default();
        let mut unknown = Vec::new();
        for name in &table.partitioned_by {
            let origins = self.job.graph.origins(&table.name, name);
            let data_type = self
                .spec
                .schema
                .field_with_name(name)
                .map(|field| field.data_type());
            let known = origins.iter().all(|origin| match origin {
                Origin::Formatted(pattern) => {
                    time.formatted(pattern);
                    true
                }
                Origin::Extracted(unit) => time.extracted(unit),
                Origin::Constant => true,
                Origin::Unknown => matches!(data_type, Ok(DataType::Date32)),
            });
            match (known, data_type) {
                (true, _) => {}
                (false, Ok(DataType::Boolean)) => others = others.saturating_mul(2),
                (false, Ok(DataType::Int8)) => others = others.saturating_mul(256),
                (false, _) => match projected_count(table, name) {
                    Some(count) => others = others.saturating_mul(count),
                    None => unknown.push(name.as_str()),
                },
            }
        }
        let a_day = others.saturating_mul(time.a_day());
        let place = table.option_place("path");
        if a_day > MANY_PARTITIONS {
            let message = format!(
                "'{}' gets up to {a_day} partitions a day, and Athena becomes slow beyond a few thousand",
                table.name
            );
            let hint =
                "partition by the day and the hour at most; what is finer is found within a file";
            found.warnings.push(Refusal::new(place, message).hint(hint));
        } else if let [name, ..] = unknown.as_slice() {
            let message = format!(
                "'{}' is partitioned by '{}', of which it is not known how many values there are: each is a folder, with files of its own",
                table.name,
                unknown.join("', '")
            );
            let hint = format!(
                "keep it if there are a few dozen (an id, or a time in full, is too much); {PROJECTION}{name}.type = 'enum' says which"
            );
            found
                .warnings
                .push(Refusal::new(self.place(name), message).hint(hint));
        }
    }
}

/// How many values projection lists.
fn projected_count(table: &Table, column: &str) -> Option<u64> {
    // The option may write the column in upper case or in lower.
    let option = |word: &str| {
        let wanted = format!("{PROJECTION}{column}.{word}");
        let mut entries = table.options.entries.iter();
        let found = entries.find(|(key, _)| key.eq_ignore_ascii_case(&wanted));
        found.map(|(_, entry)| entry.value.as_str())
    };
    if let Some(values) = option("values") {
        return u64::try_from(values.split(',').count()).ok();
    }
    let (first, last) = option("range")?.split_once(',')?;
    let (first, last): (i64, i64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    u64::try_from(last.checked_sub(first)?).ok()?.checked_add(1)
}

/// Which parts of a day's time are in folders' names, whatever column they are in.
#[derive(Default)]
struct Clock {
    hours: bool,
    minutes: bool,
    seconds: bool,
    fractions: bool,
}

impl Clock {
    fn formatted(&mut self, pattern: &str) {
        for (letter, _) in super::projected::letters(pattern) {
            match letter {
                'H' | 'h' | 'k' | 'K' => self.hours = true,
                'm' => self.minutes = true,
                's' => self.seconds = true,
                'S' => self.fractions = true,
                _ => {}
            }
        }
    }

    /// Whether there is an end to the values.
    fn extracted(&mut self, unit: &str) -> bool {
        match unit {
            "HOUR" => self.hours = true,
            "MINUTE" => self.minutes = true,
            "SECOND" => self.seconds = true,
            "MILLISECOND" => self.fractions = true,
            "EPOCH" => return false,
            _ => {}
        }
        true
    }

    fn a_day(&self) -> u64 {
        let parts = [
            (self.hours, 24),
            (self.minutes, 60),
            (self.seconds, 60),
            (self.fractions, 1000),
        ];
        parts
            .iter()
            .filter(|(there, _)| *there)
            .map(|(_, count)| count)
            .product()
    }
}

fn has_nanoseconds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => true,
        DataType::List(item) => has_nanoseconds(item.data_type()),
        DataType::Map(entries, _) => has_nanoseconds(entries.data_type()),
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| has_nanoseconds(field.data_type())),
        _ => false,
    }
}

/// The crawler that looks at a table.
pub fn crawler<'a>(job: Job<'a>, spec: &'a TableSpec) -> Option<&'a str> {
    match spec.options.get(GLUE_CRAWLER) {
        Some(own) => Some(own).filter(|own| !own.is_empty()),
        None => job.settings.glue.crawler.as_deref(),
    }
}

fn is_on_s3(spec: &TableSpec) -> bool {
    spec.options.get("path").is_some_and(is_s3)
}

/// Whether a table lies where Athena and Glue's crawlers never look: in another cloud.
fn is_elsewhere(spec: &TableSpec) -> bool {
    let path = spec.options.get("path");
    path.is_some_and(|path| is_cloud(path) && !is_s3(path))
}

fn is_s3(path: &str) -> bool {
    path.starts_with("s3://") || path.starts_with("s3a://")
}

/// The tables that are files, each with its folder.
fn with_folders(job: Job<'_>) -> impl Iterator<Item = (&TableSpec, String)> {
    let tables = job.tables.iter();
    tables.filter_map(|spec| Some((spec, folder(&spec.options)?)))
}

/// The folder of a table that is files.
pub fn folder(options: &Options) -> Option<String> {
    if options.get("connector") != Some("filesystem") {
        return None;
    }
    options.get("path").map(location)
}

/// Whoever reads a table reads all that is in its folder.
fn folders(job: Job<'_>, registered: &[Registered], found: &mut Findings) {
    let tables: Vec<_> = with_folders(job).collect();
    for (at, (inner, folder)) in tables.iter().enumerate() {
        for (other_at, (outer, other)) in tables.iter().enumerate() {
            let same_again = folder == other && at < other_at;
            if at == other_at || same_again || below(folder, other).is_none() {
                continue;
            }
            let place = job
                .declared(inner)
                .map_or(Place::default(), |table| table.option_place("path"));
            let message = format!(
                "the folder of '{}' is within that of '{}', so whoever reads '{1}' reads both",
                inner.name, outer.name
            );
            let refusal = Refusal::new(place, message)
                .hint("give each table a folder of its own, side by side");
            let is_registered = registered
                .iter()
                .any(|table| [&inner.name, &outer.name].contains(&&table.table));
            match is_registered {
                true => found.refused.push(refusal),
                false => found.warnings.push(refusal),
            }
        }
    }
}

fn checkpoints(job: Job<'_>, registered: &[Registered], found: &mut Findings) {
    let dir = &job.settings.checkpoint_dir;
    let place = CHECKPOINTS
        .iter()
        .map(|key| job.setting_place(key))
        .find(|place| place.line > 0)
        .unwrap_or_default();
    let checkpoints = location(dir);
    let mut is_told = false;
    for (spec, folder) in with_folders(job) {
        if below(&checkpoints, &folder).is_some() {
            let message = format!(
                "the checkpoints, in {dir}, are in the folder of the table '{}'",
                spec.name
            );
            found.refused.push(
                Refusal::new(place, message)
                    .hint("keep them beside the lake, never in it: 'execution.checkpointing.dir'"),
            );
            is_told = true;
        }
    }
    let in_cloud = |spec: &TableSpec| spec.options.get("path").is_some_and(is_cloud);
    if let Some((spec, _)) = with_folders(job).find(|(spec, _)| in_cloud(spec))
        && !is_cloud(dir)
    {
        let there = if is_on_s3(spec) {
            "on S3"
        } else {
            "in the cloud"
        };
        let message = format!(
            "the checkpoints, in {dir}, are on a disk of this machine, and the table '{}' is {there}: with the disk it would be lost what is published already",
            spec.name
        );
        let hint = format!("keep them {there} too, beside the lake");
        found.warnings.push(Refusal::new(place, message).hint(hint));
    }
    let crawled = with_folders(job).find_map(|(spec, folder)| {
        let lake = folder.rsplit_once('/').map(|(lake, _)| lake.to_owned())?;
        let is_meant = crawler(job, spec).is_some()
            && (spec.options.get("format") == Some("parquet")
                || registered.iter().any(|table| table.table == spec.name));
        (is_meant && below(&checkpoints, &lake).is_some()).then_some(lake)
    });
    if let Some(lake) = crawled
        && !is_told
    {
        let message = format!(
            "the checkpoints, in {dir}, are beside the tables in {lake}: a crawler that looks at all of it takes them for one more"
        );
        found.warnings.push(Refusal::new(place, message).hint(
            "keep them elsewhere, or let the crawler look at the folders of the tables only",
        ));
    }
}

/// What is wrong with the folders that a crawler looks at; known only where the catalog was asked.
pub fn crawled(job: Job<'_>, name: &str, crawler: &Crawler) -> Vec<Refusal> {
    let place = job.setting_place(GLUE_CRAWLER);
    let mut found = Vec::new();
    let mut strangers = vec![(location(&job.settings.checkpoint_dir), "the checkpoints")];
    for (spec, folder) in with_folders(job) {
        if self::crawler(job, spec) != Some(name) {
            continue;
        }
        if !crawler
            .targets
            .iter()
            .any(|target| below(&folder, target).is_some())
        {
            let message = format!(
                "the crawler '{name}' does not look at {folder}, where the table '{}' is",
                spec.name
            );
            found.push(Refusal::new(place, message).hint("add the folder to its targets"));
        }
        if let Some((lake, _)) = folder.rsplit_once('/') {
            let staging = (
                format!("{lake}/_tributary"),
                "files that are not published yet",
            );
            if !strangers.contains(&staging) {
                strangers.push(staging);
            }
        }
    }
    for (folder, what) in strangers {
        let mut targets = crawler.targets.iter();
        let found_in = targets.find_map(|target| Some((target, below(&folder, target)?)));
        let Some((target, below)) = found_in else {
            continue;
        };
        let below = below.trim_start_matches('/');
        if !crawler.exclusions.iter().any(|glob| excludes(glob, below)) {
            let message =
                format!("the crawler '{name}' looks at {target}, and so at {what} in {folder}");
            let hint =
                format!("let it look at the folders of the tables only, or exclude {below}/**");
            found.push(Refusal::new(place, message).hint(hint));
        }
    }
    found
}

/// Whether a crawler's pattern is about all that is in a folder below its target: as far as one can tell without a whole glob.
fn excludes(glob: &str, folder: &str) -> bool {
    let Some(stem) = glob.strip_suffix("/**").or_else(|| glob.strip_suffix("**")) else {
        return false;
    };
    let first = folder.split('/').next().unwrap_or_default();
    match stem.strip_prefix("**/").unwrap_or(stem) {
        "" => true,
        stem => match stem.strip_suffix('*') {
            Some(beginning) => first.starts_with(beginning),
            None => stem == folder || stem == first,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crawlers_patterns_are_about_folders() {
        for glob in [
            "_tributary/**",
            "_tributary**",
            "**/_tributary/**",
            "_*/**",
            "**",
        ] {
            assert!(excludes(glob, "_tributary"), "{glob}");
        }
        for glob in ["_tributary", "*.json", "tributary/**", "_trib/**"] {
            assert!(!excludes(glob, "_tributary"), "{glob}");
        }
        assert!(excludes("checkpoints/**", "checkpoints/emergency"));
    }
}
