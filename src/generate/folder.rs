//! Events as files, one for each topic: JSON lines, or CSV with a header.

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
            let (ending, header) = match form(system, event.topic) {
                Form::Json => ("jsonl", String::new()),
                Form::Csv { header } => ("csv", format!("{header}\n")),
            };
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

fn form(system: System, topic: &str) -> Form {
    let mut topics = system.topics().iter();
    let topic = topics.find(|known| known.name == topic);
    topic.map_or(Form::Json, |topic| topic.form)
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
}
