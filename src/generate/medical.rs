//! A clinic that writes down, in words, what it sees and prescribes.
//!
//! Entries are lines of CSV. Some have quotes, commas and line breaks in their text, some tell of several illnesses and medicines,
//! and some of none, which is no damage: people write so. A damaged line has too few or too many fields, or a time that is none; a
//! quote that is never closed is not among it, since it would swallow what follows it in a file.

use super::json::{timestamp, whole};
use super::trouble::{Damage, behind, damage};
use super::{Event, Form, GenerateOptions, Topic, World};

const ENTRIES: &str = "medical-entries";

pub(super) const TOPICS: [Topic; 1] = [Topic {
    name: ENTRIES,
    partitions: 4,
    form: Form::Csv {
        header: "patient_id,medical_entry,timestamp",
    },
}];

/// An entry comes after so many readings of the emergency job: one in twenty seconds.
pub(super) const STEPS: i64 = 2000;
/// One entry in so many tells of no illness, or of no medicine.
const WORDLESS: u32 = 25;

const ILLNESSES: [&str; 8] = [
    "flu",
    "fever",
    "asthma",
    "migraine",
    "anemia",
    "eczema",
    "gout",
    "bronchitis",
];
const MEDICINES: [&str; 8] = [
    "ibuprofen",
    "paracetamol",
    "rest",
    "aspirin",
    "iron",
    "cortisone",
    "tea",
    "penicillin",
];
const BEGINNINGS: [&str; 4] = [
    "Patient shows",
    "After a long journey, patient shows",
    "Patient says \"it hurts, here\" and shows",
    "First visit.\nPatient shows",
];
const ENDINGS: [&str; 3] = [
    ".",
    ". To be seen again, soon.",
    ".\nTold to \"take it easy\".",
];

pub(super) struct Clinic {
    options: GenerateOptions,
    now_ms: i64,
}

impl Clinic {
    pub fn new(options: &GenerateOptions) -> Self {
        Clinic {
            now_ms: options.start_ms,
            options: options.clone(),
        }
    }
}

/// What the doctor wrote.
fn entry(random: &mut fastrand::Rng) -> String {
    let (ill, treated) = match random.u32(0..WORDLESS * 3) {
        0 => (false, false),
        1 => (true, false),
        2 => (false, true),
        _ => (true, true),
    };
    let mut some = |wanted: bool, word: &str, names: &[&str]| -> String {
        let count = if wanted { random.usize(1..4).min(2) } else { 0 };
        let named = (0..count).map(|_| format!("{word} {}", names[random.usize(0..names.len())]));
        named.collect::<Vec<_>>().join(" and ")
    };
    let illness = some(ill, "signs of", &ILLNESSES);
    let medicine = some(treated, "Prescribed", &MEDICINES);
    let beginning = BEGINNINGS[random.usize(0..BEGINNINGS.len())];
    let ending = ENDINGS[random.usize(0..ENDINGS.len())];
    let illness = if ill { &illness } else { "nothing unusual" };
    let medicine = if treated { &medicine } else { "Sent home" };
    format!("{beginning} {illness}. {medicine}{ending}")
}

/// A field of CSV, in quotes.
fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

impl World for Clinic {
    fn next(&mut self, random: &mut fastrand::Rng) -> Event {
        let patient = random.u64(1..=self.options.keys.max(1));
        let (behind, _) = behind(random, self.options.late);
        let damage = damage(random, self.options.malformed);
        let at_ms = self.now_ms - behind;
        self.now_ms += self.options.step_ms * STEPS;
        let mut key = Vec::new();
        whole(&mut key, patient);
        let mut line = key.clone();
        line.push(b',');
        quoted(&mut line, &entry(random));
        match damage {
            None => {
                line.push(b',');
                let mut time = Vec::with_capacity(26);
                timestamp(&mut time, at_ms * 1000);
                // 2024-03-01T00:00:00.000000, to its minutes.
                time.truncate(16);
                time[10] = b' ';
                line.extend_from_slice(&time);
            }
            Some(Damage::WrongType) => line.extend_from_slice(b",yesterday"),
            Some(Damage::Truncated) => line.extend_from_slice(b",2024,3,1"),
            Some(Damage::Missing) => {}
            Some(Damage::Garbage) => line = b"Connection reset by peer".to_vec(),
        }
        Event {
            topic: ENTRIES,
            key,
            value: line,
            event_ms: at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::System;
    use super::super::tests::events;
    use super::*;

    /// The fields of a line.
    fn fields(event: &Event) -> Vec<String> {
        let mut fields = vec![String::new()];
        let (mut inside, mut before) = (false, ' ');
        for letter in String::from_utf8(event.value.clone()).unwrap().chars() {
            match letter {
                '"' if !inside && before == '"' => {
                    inside = true;
                    fields.last_mut().unwrap().push('"');
                }
                '"' => inside = !inside,
                ',' if !inside => fields.push(String::new()),
                other => fields.last_mut().unwrap().push(other),
            }
            before = letter;
        }
        assert!(!inside, "a quote is left open");
        fields
    }

    fn share(events: &[Event], of: impl Fn(&[String]) -> bool) -> f64 {
        events.iter().filter(|event| of(&fields(event))).count() as f64 / events.len() as f64
    }

    #[test]
    fn entries_are_as_people_write_them() {
        let made = events(System::Medical, 20_000, |_| {});
        assert!(made.iter().all(|event| fields(event).len() == 3));
        let with = |part: &'static str| share(&made, move |fields| fields[1].contains(part));
        for part in ["\"", "\n", ", "] {
            assert!((0.2..0.8).contains(&with(part)), "{part:?}");
        }
        let finds = |part: &'static str, count| {
            share(&made, move |fields| {
                fields[1].matches(part).count() == count
            })
        };
        for part in ["signs of ", "Prescribed "] {
            assert!((0.01..0.05).contains(&finds(part, 0)), "{part}");
            assert!(finds(part, 1) > 0.2 && finds(part, 2) > 0.2, "{part}");
        }
        let times = |fields: &[String]| {
            chrono::NaiveDateTime::parse_from_str(&fields[2], "%Y-%m-%d %H:%M").is_ok()
        };
        assert_eq!(share(&made, times), 1.0);
    }

    #[test]
    fn damage_comes_as_often_as_it_was_asked_for() {
        let made = events(System::Medical, 20_000, |options| options.malformed = 0.1);
        let near = |found: f64, wanted: f64| (found - wanted).abs() < 0.01;
        assert!(near(share(&made, |fields| fields.len() < 3), 0.05));
        assert!(near(share(&made, |fields| fields.len() > 3), 0.025));
        let timeless = |fields: &[String]| fields.last().is_some_and(|last| last == "yesterday");
        assert!(near(share(&made, timeless), 0.025));
    }
}
