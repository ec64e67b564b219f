//! Finding a field by its name: producers write fields in one order, so the next one is tried first.

use std::collections::HashMap;

/// The names of the fields of a row.
pub struct Names {
    names: Vec<String>,
    /// Each name as JSON text with its quotes, where that is the only way to write it without escapes.
    quoted: Vec<Vec<u8>>,
    /// For wide rows, in which a walk through all names would take too long.
    by_name: Option<HashMap<String, usize>>,
}

/// How many names are still compared one by one.
const FEW: usize = 16;

impl Names {
    pub fn new(names: Vec<String>) -> Names {
        let quoted = |name: &String| match name.contains(['"', '\\']) {
            true => Vec::new(),
            false => format!("\"{name}\"").into_bytes(),
        };
        let index = || {
            names
                .iter()
                .cloned()
                .enumerate()
                .map(|(at, name)| (name, at))
                .collect()
        };
        Names {
            quoted: names.iter().map(quoted).collect(),
            by_name: (names.len() > FEW).then(index),
            names,
        }
    }

    pub fn name(&self, at: usize) -> &str {
        &self.names[at]
    }

    /// A field's name as JSON text; empty where that text cannot be compared as it stands, or there is no such field.
    #[inline(always)]
    pub fn quoted(&self, at: usize) -> &[u8] {
        self.quoted.get(at).map_or(&[], Vec::as_slice)
    }

    /// The field with this name, looked for from `expected` on.
    pub fn find(&self, name: &[u8], expected: usize) -> Option<usize> {
        if let Some(by_name) = &self.by_name {
            return by_name.get(std::str::from_utf8(name).ok()?).copied();
        }
        let expected = expected.min(self.names.len());
        let (before, after) = self.names.split_at(expected);
        let is = |candidate: &String| candidate.as_bytes() == name;
        after
            .iter()
            .position(is)
            .map(|at| expected + at)
            .or_else(|| before.iter().position(is))
    }
}
