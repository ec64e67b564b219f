//! Finding a field by its name, and by habit: a producer writes its fields in one order and its blanks in one way, so what stands between
//! two values is most often, byte for byte, what stood there in the records before.

use std::collections::HashMap;

/// The names of the fields of a row.
pub struct Names {
    names: Vec<String>,
    /// For wide rows, in which a walk through all names would take too long.
    by_name: Option<HashMap<String, usize, ahash::RandomState>>,
}

/// How many names are still compared one by one.
const FEW: usize = 16;

impl Names {
    pub fn new(names: Vec<String>) -> Names {
        let index = || {
            names
                .iter()
                .cloned()
                .enumerate()
                .map(|(at, name)| (name, at))
                .collect()
        };
        Names {
            by_name: (names.len() > FEW).then(index),
            names,
        }
    }

    pub fn name(&self, at: usize) -> &str {
        &self.names[at]
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

/// What stands in front of the values of an object, from the brace or the value before, as seen in the records before.
#[derive(Default)]
pub struct Habit {
    leads: Vec<Lead>,
    /// How often something new was learned, less how often it was of use.
    vain: u32,
}

struct Lead {
    text: Vec<u8>,
    /// It begins with the object's brace.
    first: bool,
    /// The field whose value follows; none where no column wants it.
    field: Option<usize>,
}

/// How many leads of an object are remembered, how many of them are looked through when one is not where it is expected, and how long
/// one may be: enough for what producers do, little enough to cost nothing where they do not.
const MOST_LEADS: usize = 256;
const LOOK_AHEAD: usize = 8;
const LONGEST_LEAD: usize = 128;
/// After so many lessons in vain there is no habit to be learned.
const LAST_LESSON: u32 = 4_096;

impl Habit {
    /// The text that is expected next, and the field that it leads to.
    #[inline(always)]
    pub fn expected(&self, at: usize, first: bool) -> Option<(&[u8], Option<usize>)> {
        let lead = self.leads.get(at).filter(|lead| lead.first == first)?;
        Some((&lead.text, lead.field))
    }

    /// The expected text was there.
    #[inline(always)]
    pub fn confirm(&mut self) {
        self.vain = self.vain.saturating_sub(1);
    }

    /// Another text than the one at this place led to a value. Says which is to be expected behind it.
    #[inline(never)]
    pub fn learn(&mut self, at: usize, first: bool, text: &str, field: Option<usize>) -> usize {
        let text = text.as_bytes();
        let ahead = self.leads.iter().skip(at).take(LOOK_AHEAD);
        let mut ahead = ahead.map(|lead| lead.first == first && lead.text == text);
        if let Some(skipped) = ahead.position(|same| same) {
            return at + skipped + 1;
        }
        if self.vain > LAST_LESSON {
            self.leads.clear();
            return 0;
        }
        // It is read name by name each time; what is expected behind it stays expected.
        if text.len() > LONGEST_LEAD {
            return at;
        }
        self.vain += 1;
        if self.leads.len() < MOST_LEADS {
            let text = text.to_vec();
            self.leads.insert(at, Lead { text, first, field });
        } else if let Some(lead) = self.leads.get_mut(at) {
            lead.text.clear();
            lead.text.extend_from_slice(text);
            (lead.first, lead.field) = (first, field);
        } else {
            return 0;
        }
        at + 1
    }
}
