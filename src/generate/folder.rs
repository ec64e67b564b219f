//! Events as files of JSON lines.

use super::Event;
use super::pace::Pace;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Events between two calls of `progress`.
const PROGRESS: u64 = 1024;

/// Writes up to `count` events to `FOLDER/TOPIC.jsonl`, replacing what is there; says how many.
pub fn to_folder(
    folder: impl AsRef<Path>,
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
            let path = folder.join(format!("{}.jsonl", event.topic));
            let file = File::create(&path).map_err(|error| failed(&path, error))?;
            files.insert(event.topic, (path, BufWriter::with_capacity(1 << 20, file)));
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
