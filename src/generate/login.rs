//! People who log in with their phones.
//!
//! A few logins come each minute, and now and then a burst of them: those minutes are what login-analytics looks for. Most people have
//! version 2.3.0 of the app, and a few old or coming ones, which login-privacy sorts out. An incomplete record lacks one of its fields,
//! whichever.

use super::json::{Object, uuid};
use super::trouble::{Damage, SECOND, behind, damage, spoil};
use super::{Event, Form, GenerateOptions, Topic, World};

const LOGINS: &str = "user-login";

pub(super) const TOPICS: [Topic; 1] = [Topic {
    name: LOGINS,
    partitions: 4,
    form: Form::Json,
}];

/// A login comes after so many readings of the emergency job: one in ten seconds, six a minute.
pub(super) const STEPS: i64 = 1000;
/// In a burst they come so much faster.
const FASTER: i64 = 10;
/// One login in so many begins a burst.
const BURSTS: u32 = 400;
/// Logins of a burst: more than a minute's usual number.
const BURST: std::ops::Range<u32> = 20..80;

const FIELDS: [&str; 7] = [
    "user_id",
    "app_version",
    "ip",
    "locale",
    "device_id",
    "timestamp",
    "device_type",
];
const LOCALES: [&str; 12] = [
    "PA", "RU", "DE", "FR", "US", "BR", "JP", "KE", "IN", "CA", "ES", "NO",
];

pub(super) struct People {
    options: GenerateOptions,
    people: Vec<Person>,
    now_ms: i64,
    /// Logins that the burst still brings.
    burst: u32,
}

struct Person {
    id: Vec<u8>,
    version: &'static str,
    ip: String,
    locale: &'static str,
    device: String,
    device_type: &'static str,
}

impl Person {
    fn new(random: &mut fastrand::Rng) -> Self {
        let mut upto = |end: u32| random.u32(0..end);
        let version = match upto(10) {
            0 => "2.2.9",
            1 => "2.1.0",
            2 => "2.4.0-beta",
            _ => "2.3.0",
        };
        Person {
            version,
            ip: format!(
                "{}.{}.{}.{}",
                1 + upto(223),
                upto(256),
                upto(256),
                upto(256)
            ),
            locale: LOCALES[upto(12) as usize],
            device: format!("{:03}-{:02}-{:04}", upto(1000), upto(100), upto(10_000)),
            device_type: ["android", "iOS"][upto(2) as usize],
            id: uuid(random.u128(..)),
        }
    }

    /// The record of a login; `without` is the number of a field that it lacks.
    fn login(&self, at_ms: i64, damage: Option<Damage>, without: Option<usize>) -> Vec<u8> {
        let mut login = Object::new();
        for (number, name) in FIELDS.into_iter().enumerate() {
            if without == Some(number) {
                continue;
            }
            match name {
                "user_id" => login.text(name, &self.id),
                "app_version" => login.text(name, self.version.as_bytes()),
                "ip" => login.text(name, self.ip.as_bytes()),
                "locale" => login.text(name, self.locale.as_bytes()),
                "device_id" => login.text(name, self.device.as_bytes()),
                "timestamp" if damage == Some(Damage::WrongType) => login.text(name, b"soon"),
                "timestamp" => login.whole(name, (at_ms / SECOND).unsigned_abs()),
                _ => login.text(name, self.device_type.as_bytes()),
            }
        }
        login.finish()
    }
}

impl People {
    pub fn new(options: &GenerateOptions, random: &mut fastrand::Rng) -> Self {
        People {
            people: (0..options.keys.max(1))
                .map(|_| Person::new(random))
                .collect(),
            now_ms: options.start_ms,
            options: options.clone(),
            burst: 0,
        }
    }
}

impl World for People {
    fn next(&mut self, random: &mut fastrand::Rng) -> Event {
        let person = &self.people[random.usize(0..self.people.len())];
        let (behind, _) = behind(random, self.options.late);
        let damage = damage(random, self.options.malformed);
        let missing = random.usize(0..FIELDS.len());
        let without = (damage == Some(Damage::Missing)).then_some(missing);
        let at_ms = self.now_ms - behind;
        let login = person.login(at_ms, damage, without);
        let step = self.options.step_ms * STEPS;
        match self.burst {
            0 => self.now_ms += step,
            _ => {
                self.now_ms += step / FASTER;
                self.burst -= 1;
            }
        }
        if self.burst == 0 && random.u32(0..BURSTS) == 0 {
            self.burst = random.u32(BURST);
        }
        Event {
            topic: LOGINS,
            key: person.id.clone(),
            value: spoil(login, damage, random),
            event_ms: at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::System;
    use super::super::tests::events;
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn login(event: &Event) -> Option<Value> {
        serde_json::from_slice(&event.value).ok()
    }

    #[test]
    fn few_minutes_are_out_of_the_ordinary() {
        let mut minutes: BTreeMap<i64, u32> = BTreeMap::new();
        let made = events(System::Login, 50_000, |_| {});
        for event in &made {
            let login = login(event).unwrap();
            assert_eq!(login["user_id"].as_str().unwrap().as_bytes(), event.key);
            let at = login["timestamp"].as_i64().unwrap();
            assert_eq!(at, event.event_ms / SECOND);
            *minutes.entry(at / 60).or_default() += 1;
        }
        let unusual = minutes.values().filter(|logins| **logins > 10).count() as f64;
        let share = unusual / minutes.len() as f64;
        assert!((0.005..0.1).contains(&share), "{share}");
    }

    #[test]
    fn each_version_locale_and_device_is_there() {
        let made = events(System::Login, 5000, |options| options.keys = 200);
        let made: Vec<Value> = made.iter().filter_map(login).collect();
        let share = |name: &str, value: &str| {
            made.iter().filter(|login| login[name] == value).count() as f64 / 5000.0
        };
        assert!((0.6..0.8).contains(&share("app_version", "2.3.0")));
        assert!((0.4..0.6).contains(&share("device_type", "iOS")));
        assert!(LOCALES.iter().all(|locale| share("locale", locale) > 0.0));
    }

    #[test]
    fn damage_is_of_every_kind() {
        let made = events(System::Login, 50_000, |options| options.malformed = 0.1);
        let whole: Vec<Value> = made.iter().filter_map(login).collect();
        let near = |count: usize, share: f64| (count as f64 / 50_000.0 - share).abs() < 0.01;
        assert!(near(50_000 - whole.len(), 0.05), "half breaks the JSON");
        let soon = whole.iter().filter(|login| login["timestamp"] == "soon");
        assert!(near(soon.count(), 0.025));
        for name in FIELDS {
            let without = whole.iter().filter(|login| login.get(name).is_none());
            assert!(near(without.count(), 0.025 / 7.0));
        }
    }
}
