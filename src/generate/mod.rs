//! Events to try a job with.
//!
//! Each [`System`] is a small world of its own, for one job or two: patients and ambulances, a clinic, shops, people who log in. A
//! [`Generator`] lets it live, and sees to duplicates. Guarantee: the same options give the same events, byte for byte, always.

mod emergency;
mod folder;
mod json;
mod kafka;
mod login;
mod medical;
mod pace;
mod retail;
mod trouble;

pub use folder::{to_folder, to_new_files};
pub use kafka::to_kafka;

/// What there are events of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Emergency,
    Medical,
    Retail,
    Login,
}

/// Where some of a system's events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    pub name: &'static str,
    /// How many it gets where it is made here.
    pub partitions: i32,
    pub form: Form,
}

/// What an event's bytes are, and so what a file of them looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Csv { header: &'static str },
}

impl System {
    pub const ALL: [System; 4] = [
        System::Emergency,
        System::Medical,
        System::Retail,
        System::Login,
    ];

    pub fn name(self) -> &'static str {
        match self {
            System::Emergency => "emergency",
            System::Medical => "medical",
            System::Retail => "retail",
            System::Login => "login",
        }
    }

    pub fn named(name: &str) -> Option<System> {
        Self::ALL.into_iter().find(|system| system.name() == name)
    }

    pub fn topics(self) -> &'static [Topic] {
        match self {
            System::Emergency => &emergency::TOPICS,
            System::Medical => &medical::TOPICS,
            System::Retail => &retail::TOPICS,
            System::Login => &login::TOPICS,
        }
    }

    /// How many steps of event time lie between two events, about.
    pub fn steps_per_event(self) -> i64 {
        match self {
            System::Emergency => 1,
            System::Medical => medical::STEPS,
            System::Retail => retail::STEPS * 8 / 10,
            System::Login => login::STEPS * 9 / 10,
        }
    }

    fn world(self, options: &GenerateOptions, random: &mut fastrand::Rng) -> Box<dyn World> {
        match self {
            System::Emergency => Box::new(emergency::Fleet::new(options, random)),
            System::Medical => Box::new(medical::Clinic::new(options)),
            System::Retail => Box::new(retail::Shops::new(options, random)),
            System::Login => Box::new(login::People::new(options, random)),
        }
    }
}

/// What lives, and makes events of it.
trait World: Send {
    /// The next event. All chance comes from `random`.
    fn next(&mut self, random: &mut fastrand::Rng) -> Event;
}

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    pub seed: u64,
    /// How many patients, customers or users there are.
    pub keys: u64,
    /// The share of events whose bytes are no good, in one of several ways.
    pub malformed: f64,
    /// The share of events that come minutes after the watermark has passed them.
    pub late: f64,
    /// The share of events that come twice.
    pub duplicates: f64,
    /// Event time of the first event, in milliseconds since 1970.
    pub start_ms: i64,
    /// How much later in event time each reading of the emergency job is; systems with less going on take a multiple of it.
    pub step_ms: i64,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            seed: 1,
            keys: 20,
            malformed: 0.0,
            late: 0.0,
            duplicates: 0.0,
            // 2024-03-01 00:00:00
            start_ms: 1_709_251_200_000,
            step_ms: 10,
        }
    }
}

/// One record for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub topic: &'static str,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// How far event time has come with it.
    pub event_ms: i64,
}

/// All events of one system, in the order in which they are sent; it has no end.
pub struct Generator {
    random: fastrand::Rng,
    world: Box<dyn World>,
    duplicates: f64,
    again: Option<Event>,
}

impl Generator {
    pub fn new(system: System, options: &GenerateOptions) -> Self {
        let mut random = fastrand::Rng::with_seed(options.seed);
        Generator {
            world: system.world(options, &mut random),
            random,
            duplicates: options.duplicates,
            again: None,
        }
    }
}

impl Iterator for Generator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if let Some(again) = self.again.take() {
            return Some(again);
        }
        let event = self.world.next(&mut self.random);
        if self.random.f64() < self.duplicates {
            self.again = Some(event.clone());
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Events of a system, under changed options.
    pub(super) fn events(
        system: System,
        count: usize,
        change: impl FnOnce(&mut GenerateOptions),
    ) -> Vec<Event> {
        let mut options = GenerateOptions::default();
        change(&mut options);
        Generator::new(system, &options).take(count).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let trouble = |seed| {
            move |options: &mut GenerateOptions| {
                *options = GenerateOptions {
                    seed,
                    malformed: 0.1,
                    late: 0.1,
                    duplicates: 0.1,
                    ..options.clone()
                };
            }
        };
        for system in System::ALL {
            let first = events(system, 5000, trouble(7));
            assert_eq!(first, events(system, 5000, trouble(7)));
            assert_ne!(first, events(system, 5000, trouble(8)));
        }
    }

    #[test]
    fn events_go_to_the_topics_of_their_system() {
        for system in System::ALL {
            assert_eq!(System::named(system.name()), Some(system));
            let made = events(system, 5000, |_| {});
            let made: HashSet<_> = made.iter().map(|event| event.topic).collect();
            assert_eq!(
                made,
                system.topics().iter().map(|topic| topic.name).collect()
            );
        }
        assert_eq!(System::named("Login"), None);
    }

    #[test]
    fn time_goes_on_by_so_many_steps() {
        for system in System::ALL {
            let made = events(system, 50_000, |_| {});
            let options = GenerateOptions::default();
            let last = made.iter().map(|event| event.event_ms).max().unwrap();
            let passed = (last - options.start_ms) as f64;
            let steps = passed / 50_000.0 / options.step_ms as f64;
            let told = system.steps_per_event() as f64;
            assert!((steps / told - 1.0).abs() < 0.15, "{steps} of {system:?}");
        }
    }

    #[test]
    fn duplicates_come_as_often_as_they_were_asked_for() {
        for system in System::ALL {
            let made = events(system, 50_000, |options| options.duplicates = 0.1);
            let again = made.windows(2).filter(|pair| pair[0] == pair[1]).count();
            let share = again as f64 / 50_000.0;
            assert!((share - 0.1 / 1.1).abs() < 0.01, "{share} of {system:?}");
        }
    }

    #[test]
    fn only_late_events_are_behind_the_watermark() {
        for system in [System::Emergency, System::Retail, System::Login] {
            for late in [0.0, 0.1] {
                let made = events(system, 50_000, |options| options.late = late);
                let mut furthest = i64::MIN;
                let behind = made.iter().filter(|event| {
                    furthest = furthest.max(event.event_ms);
                    event.event_ms < furthest - trouble::WATERMARK
                });
                let share = behind.count() as f64 / 50_000.0;
                assert!((share - late).abs() < 0.02, "{share} of {system:?}");
            }
        }
    }
}
