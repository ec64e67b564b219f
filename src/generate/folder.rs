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

/// Writes up to `count` events to `FOLDER/TOPIC.jsonl` or `.csv`, replacing what is there; says how many.
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
    let mut files: BTreeMap<&str, (PathBuf, BufWriter<File>)> = BTreeMap::new();
    let pace = Pace::new(rate);
    let mut sent = 0;
    let mut events = events.into_iter();
    while sent < count {
        let Some(event) = events.next() else {
            break;
        };
        if !files.contains_key(event.topic) {
            let (ending, header) = form(system, event.topic);
            let path = folder.join(format!("{}.{ending}", event.topic));
            let file = File::create(&path).map_err(|error| failed(&path, error))?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            let begun = file.write_all(header.as_bytes());
            begun.map_err(|error| failed(&path, error))?;
            files.insert(event.topic, (path, file));
        }
        if let Some((path, file)) = files.get_mut(event.topic) {
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
    for (path, mut file) in files.into_values() {
        file.flush().map_err(|error| failed(&path, error))?;
    }
    progress(sent);
    Ok(sent)
}

/// Writes so many events at a time to new files `FOLDER/TOPIC-NUMBER.jsonl` or `.csv`, which appear whole; says how many events.
pub fn to_new_files(
    folder: impl AsRef<Path>,
    system: System,
    events: impl IntoIterator<Item = Event>,
    at_a_time: u64,
    rate: Option<u64>,
) -> Result<u64> {
    let folder = folder.as_ref();
    let failed = |error: std::io::Error| {
        let what = format!("new files in '{}' cannot be written", folder.display());
        Error::retry(what).caused_by(error)
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let pace = Pace::new(rate);
    let mut events = events.into_iter();
    let mut sent = 0;
    for number in 1.. {
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
        for (topic, text) in texts {
            let file = format!("{topic}-{number:06}.{}", form(system, topic).0);
            // Readers pass over names that begin with a dot, and see this one only when it is whole.
            let hidden = folder.join(format!(".{file}"));
            fs::write(&hidden, text).map_err(failed)?;
            fs::rename(&hidden, folder.join(file)).map_err(failed)?;
        }
    }
    Ok(sent)
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

    #[test]
    fn new_files_together_hold_every_event_once() {
        let folder = tempfile::tempdir().unwrap();
        let events = || Generator::new(System::Medical, &GenerateOptions::default()).take(25);
        let sent = to_new_files(folder.path(), System::Medical, events(), 10, None);
        assert_eq!(sent.unwrap(), 25);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        let texts = names.iter().map(|name| fs::read_to_string(name).unwrap());
        let header = "patient_id,medical_entry,timestamp\n";
        let lines = texts.map(|text| text.strip_prefix(header).unwrap().to_string());
        let expected = events().map(|event| String::from_utf8(event.value).unwrap() + "\n");
        assert_eq!(names.len(), 3);
        assert_eq!(lines.collect::<String>(), expected.collect::<String>());
    }
}
