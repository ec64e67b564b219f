//! The document: from the entries of parts to its text.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const VERSION: u32 = 1;

/// The values of the key's columns, and the text of the value. Texts are kept as they are, so that no digit of a number gets lost.
pub type Entries = BTreeMap<Vec<String>, Box<RawValue>>;

/// What one table has in the document.
#[derive(Debug, Default)]
pub struct Part {
    pub heading: String,
    pub entries: Entries,
}

/// The same as it is stored.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    heading: String,
    entries: Vec<(Vec<String>, Box<RawValue>)>,
}

impl Part {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let entries = self.entries.iter();
        let written = Written {
            version: VERSION,
            heading: self.heading.clone(),
            entries: entries.map(|(k, v)| (k.clone(), v.clone())).collect(),
        };
        serde_json::to_vec(&written)
            .map_err(|error| Error::bug("writing a part of a document").caused_by(error))
    }

    /// `place` says where it lies, for messages.
    pub fn of_bytes(place: &str, bytes: &[u8]) -> Result<Part> {
        let unreadable = || Error::job(format!("{place} is not a part of a document"));
        let written: Written =
            serde_json::from_slice(bytes).map_err(|error| unreadable().caused_by(error))?;
        if written.version != VERSION {
            return Err(Error::job(format!(
                "{place} has the version {}, and this program knows {VERSION}: use the one that wrote it",
                written.version
            )));
        }
        Ok(Part {
            heading: written.heading,
            entries: written.entries.into_iter().collect(),
        })
    }
}

/// A value, or what is below a column of a key.
#[derive(Default)]
struct Node {
    value: Option<Box<RawValue>>,
    below: BTreeMap<String, Node>,
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Some(value) => value.serialize(to),
            None => self.below.serialize(to),
        }
    }
}

/// The text of the document that parts make together. A key of several columns is a path.
pub fn render(parts: impl IntoIterator<Item = Part>) -> Result<Vec<u8>> {
    let mut root = Node::default();
    for Part { heading, entries } in parts {
        let top = root.below.entry(heading).or_default();
        for (key, value) in entries {
            let node = key.into_iter().fold(&mut *top, Node::down);
            node.value = Some(value);
        }
    }
    let mut text = serde_json::to_vec_pretty(&root)
        .map_err(|error| Error::bug("writing a document").caused_by(error))?;
    text.push(b'\n');
    Ok(text)
}

impl Node {
    fn down(&mut self, name: String) -> &mut Node {
        self.below.entry(name).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(heading: &str, entries: &[(&[&str], &str)]) -> Part {
        let entry = |(key, value): &(&[&str], &str)| {
            let key = key.iter().map(ToString::to_string).collect();
            (key, RawValue::from_string(value.to_string()).unwrap())
        };
        Part {
            heading: heading.into(),
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[test]
    fn parts_are_headings_and_keys_are_paths() {
        let parts = [
            part("by locale", &[(&["PA"], "3"), (&["DE"], "1.10")]),
            part(
                "by both",
                &[(&["iOS", "PA"], r#"{"n":1}"#), (&["iOS", "DE"], "null")],
            ),
        ];
        let text = String::from_utf8(render(parts).unwrap()).unwrap();
        let expected = r#"{
  "by both": {
    "iOS": {
      "DE": null,
      "PA": {"n":1}
    }
  },
  "by locale": {
    "DE": 1.10,
    "PA": 3
  }
}
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_heading_without_entries_is_there() {
        let text = render([part("a", &[])]).unwrap();
        assert_eq!(text, b"{\n  \"a\": {}\n}\n");
    }

    #[test]
    fn a_part_is_read_as_it_was_written() {
        let before = part("h", &[(&["a", "b"], "12345678901234567890.10")]);
        let after = Part::of_bytes("x", &before.to_bytes().unwrap()).unwrap();
        assert_eq!(after.heading, "h");
        assert_eq!(
            after.entries[&vec!["a".to_string(), "b".to_string()]].get(),
            "12345678901234567890.10"
        );
        let other = br#"{"version":2,"heading":"h","entries":[]}"#;
        let error = Part::of_bytes("x", other).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        assert!(Part::of_bytes("x", b"{").is_err());
    }
}
