//! Events as files: JSON lines, or CSV with a header. One for each topic, or a new one now and then for whoever watches the folder.

use super::pace::Pace;
use super::{Event, Form, System};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Events between two calls of `progress`.
const PROGRESS: u64 = 1024;

/// Writes up to `count` events to `FOLDER/TOPIC.jsonl` or `.csv`, which appear whole at the end and replace what is there; says how many.
pub fn to_folder(
    folder: impl AsRef<Path>,
    system: System,
    events: impl IntoIterator<Item = Event>,
    count: u64,
    rate: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let folder = folder.as_ref();
    let failed = |path: &Path, error: std::io::Error| {
        Error::retry(format!("'{}' cannot be written", path.display())).caused_by(error)
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut files: BTreeMap<&str, (String, PathBuf, BufWriter<File>)> = BTreeMap::new();
    let pace = Pace::new(rate);
    let mut sent = 0;
    let mut events = events.into_iter();
    while sent < count {
        let Some(event) = events.next() else {
            break;
        };
        if !files.contains_key(event.topic) {
            let (ending, header) = form(system, event.topic);
            let name = format!("{}.{ending}", event.topic);
            let path = hidden(folder, &name);
            let file = File::create(&path).map_err(|error| failed(&path, error))?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            let begun = file.write_all(header.as_bytes());
            begun.map_err(|error| failed(&path, error))?;
            files.insert(event.topic, (name, path, file));
        }
        if let Some((_, path, file)) = files.get_mut(event.topic) {
            let written = file
                .write_all(&event.value)
                .and_then(|()| file.write_all(b"\n"));
            written.map_err(|error| failed(path, error))?;
        }
        sent += 1;
        pace.wait(sent);
        if sent % PROGRESS == 0 {
            progress(sent);
        }
    }
    for (name, path, mut file) in files.into_values() {
        file.flush()
            .and_then(|()| fs::rename(&path, folder.join(name)))
            .map_err(|error| failed(&path, error))?;
    }
    progress(sent);
    Ok(sent)
}

/// Writes so many events at a time to new files `FOLDER/TOPIC-NUMBER.jsonl` or `.csv`, which appear whole and replace none; says how
/// many events.
pub fn to_new_files(
    folder: impl AsRef<Path>,
    system: System,
    events: impl IntoIterator<Item = Event>,
    at_a_time: u64,
    rate: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let folder = folder.as_ref();
    let failed = |error: std::io::Error| {
        let what = format!("new files in '{}' cannot be written", folder.display());
        Error::retry(what).caused_by(error)
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let pace = Pace::new(rate);
    let mut events = events.into_iter();
    let (mut sent, mut number) = (0, 0);
    loop {
        let mut texts: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        let before = sent;
        while sent - before < at_a_time {
            let Some(event) = events.next() else {
                break;
            };
            let text = texts
                .entry(event.topic)
                .or_insert_with(|| form(system, event.topic).1.into_bytes());
            text.extend_from_slice(&event.value);
            text.push(b'\n');
            sent += 1;
            pace.wait(sent);
        }
        if texts.is_empty() {
            break;
        }
        number += 1;
        for (topic, text) in texts {
            let name = |number: u64| format!("{topic}-{number:06}.{}", form(system, topic).0);
            // Whoever watches the folder has read what an earlier run left, and would not read it again.
            while folder.join(name(number)).exists() {
                number += 1;
            }
            let path = hidden(folder, &name(number));
            fs::write(&path, text).map_err(failed)?;
            fs::rename(&path, folder.join(name(number))).map_err(failed)?;
        }
        progress(sent);
    }
    Ok(sent)
}

/// Where a file is until it is whole: readers pass over names that begin with a dot.
fn hidden(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".{name}"))
}

/// How the file of a topic ends, and its first line.
fn form(system: System, topic: &str) -> (&'static str, String) {
    let mut topics = system.topics().iter();
    match topics.find(|known| known.name == topic).map(|it| it.form) {
        Some(Form::Csv { header }) => ("csv", format!("{header}\n")),
        Some(Form::Json) | None => ("jsonl", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GenerateOptions, Generator};
    use super::*;

    #[test]
    fn a_file_of_csv_begins_with_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let written = |system: System, file: &str| {
            let events = Generator::new(system, &GenerateOptions::default());
            to_folder(folder.path(), system, events, 3, None, &mut |_| {}).unwrap();
            fs::read_to_string(folder.path().join(file)).unwrap()
        };
        let csv = written(System::Medical, "medical-entries.csv");
        assert!(
            csv.starts_with("patient_id,medical_entry,timestamp\n"),
            "{csv}"
        );
        let json = written(System::Login, "user-login.jsonl");
        assert_eq!(json.lines().filter(|line| line.starts_with('{')).count(), 3);
    }

    fn names(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_seen_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let events = Generator::new(System::Login, &GenerateOptions::default()).inspect(|_| {
            seen.extend(names(folder.path()));
        });
        to_folder(folder.path(), System::Login, events, 3, None, &mut |_| {}).unwrap();
        assert!(!seen.is_empty());
        for path in seen {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with('.'), "{name}");
        }
        assert_eq!(
            names(folder.path()),
            [folder.path().join("user-login.jsonl")]
        );
    }

    #[test]
    fn new_files_together_hold_every_event_once() {
        let folder = tempfile::tempdir().unwrap();
        let events = || Generator::new(System::Medical, &GenerateOptions::default()).take(25);
        let write = || {
            let nobody = &mut |_| {};
            to_new_files(folder.path(), System::Medical, events(), 10, None, nobody).unwrap()
        };
        assert_eq!(write(), 25);
        let names = || names(folder.path());
        let files = names();
        let texts = files.iter().map(|name| fs::read_to_string(name).unwrap());
        let header = "patient_id,medical_entry,timestamp\n";
        let lines = texts.map(|text| text.strip_prefix(header).unwrap().to_string());
        let expected = events().map(|event| String::from_utf8(event.value).unwrap() + "\n");
        assert_eq!(files.len(), 3);
        assert_eq!(lines.collect::<String>(), expected.collect::<String>());
        write();
        assert_eq!(names().len(), 6);
    }
}
