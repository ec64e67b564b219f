//! Patients and ambulances.
//!
//! Each patient's vital signs wander; now and then an episode breaks a threshold for some readings. A dispatcher answers
//! most breaches with a vehicle within the response time, and leaves some patients waiting.

use super::json::{decimal, timestamp, uuid, whole};
use super::trouble::{Damage, MINUTE, SECOND, behind, damage, spoil};
use super::{Event, Form, GenerateOptions, Topic, World};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const READINGS: &str = "patient_data";
const DISPATCHES: &str = "emergency_vehicle_data";

pub(super) const TOPICS: [Topic; 2] = [topic(READINGS), topic(DISPATCHES)];

const fn topic(name: &'static str) -> Topic {
    Topic {
        name,
        partitions: 4,
        form: Form::Json,
    }
}

/// The share of episodes that are answered; chosen so that about 80 % of the breaches are.
const ANSWERED: f64 = 0.9;
/// A vehicle is sent this long after the breach: within `RESPONSE_MINUTES` (15), also for what else breaks until then.
const RESPONSE: std::ops::Range<i64> = 10 * SECOND..3 * MINUTE;
/// Who is not answered waits so long.
const IGNORED: std::ops::Range<i64> = 16 * MINUTE..25 * MINUTE;

/// Patients, and the vehicles that are sent to them.
pub(super) struct Fleet {
    options: GenerateOptions,
    patients: Vec<Patient>,
    now_ms: i64,
    /// Vehicles that are on their way to being sent, the earliest first.
    dispatches: BinaryHeap<Reverse<Dispatch>>,
}

struct Patient {
    name: String,
    heart_rate: i64,
    /// Hundredths of a per cent.
    oxygen: i64,
    /// Hundredths.
    vo2: i64,
    /// Millionths of a degree.
    latitude: i64,
    longitude: i64,
    episode: Option<Episode>,
    /// Until then the dispatcher does nothing more for this patient.
    quiet_until: i64,
}

/// What breaks a threshold, for some readings.
#[derive(Clone, Copy)]
struct Episode {
    readings: u32,
    heart: Option<bool>,
    oxygen: bool,
    vo2: bool,
    alert: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Dispatch {
    at_ms: i64,
    patient: usize,
}

impl Fleet {
    pub fn new(options: &GenerateOptions, random: &mut fastrand::Rng) -> Self {
        Fleet {
            now_ms: options.start_ms,
            options: options.clone(),
            patients: (1..=options.keys.max(1))
                .map(|n| Patient::new(n, random))
                .collect(),
            dispatches: BinaryHeap::new(),
        }
    }

    fn reading(&mut self, random: &mut fastrand::Rng) -> Event {
        let index = random.usize(0..self.patients.len());
        let (behind, late) = behind(random, self.options.late);
        let damage = damage(random, self.options.malformed);
        let at_ms = self.now_ms - behind;
        let patient = &mut self.patients[index];
        let alert = patient.live(random);
        if !late && damage.is_none() && patient.breaks(alert) && at_ms >= patient.quiet_until {
            let wait = match random.f64() < ANSWERED {
                true => {
                    let wait = random.i64(RESPONSE);
                    self.dispatches.push(Reverse(Dispatch {
                        at_ms: at_ms + wait,
                        patient: index,
                    }));
                    wait
                }
                false => random.i64(IGNORED),
            };
            patient.quiet_until = at_ms + wait;
        }
        let id = uuid(random.u128(..));
        let value = patient.reading(&id, alert, at_ms * 1000 + random.i64(0..1000), damage);
        self.now_ms += self.options.step_ms;
        Event {
            topic: READINGS,
            key: id,
            value: spoil(value, damage, random),
            event_ms: at_ms,
        }
    }

    fn dispatch(&self, dispatch: &Dispatch, random: &mut fastrand::Rng) -> Event {
        let damage = damage(random, self.options.malformed);
        let id = uuid(random.u128(..));
        let at = dispatch.at_ms * 1000 + random.i64(0..1000);
        let arrival = at + random.i64(5 * MINUTE..30 * MINUTE) * 1000;
        let (kind, capacity) = [
            ("BLS", "Basic Life Support"),
            ("ALS", "Advanced Life Support"),
            ("ICU", "Intensive Care Unit"),
        ][random.usize(0..3)];
        let patient = &self.patients[dispatch.patient];
        let mut out = Vec::with_capacity(384);
        text(&mut out, "{\"id\": \"", &id);
        text(&mut out, "\", \"vehicle_id\": \"", kind.as_bytes());
        out.push(b'-');
        whole(&mut out, random.u64(1..=20));
        text(
            &mut out,
            "\", \"vehicle_type\": \"Ambulance\", \"vehicle_capacity\": \"",
            capacity.as_bytes(),
        );
        let mut near = |degrees| degrees + random.i64(-10_000..=10_000);
        location(
            &mut out,
            "\", ",
            near(patient.latitude),
            near(patient.longitude),
        );
        text(&mut out, ", \"patient_id\": ", b"");
        match damage {
            Some(Damage::WrongType) => out.extend_from_slice(b"{\"nested\": [1, 2]}"),
            _ => text(&mut out, "\"", &[patient.name.as_bytes(), b"\""].concat()),
        }
        if damage != Some(Damage::Missing) {
            time(&mut out, "dispatch_time", at);
        }
        time(&mut out, "timestamp", arrival);
        out.push(b'}');
        Event {
            topic: DISPATCHES,
            key: id,
            value: spoil(out, damage, random),
            event_ms: dispatch.at_ms,
        }
    }
}

impl World for Fleet {
    fn next(&mut self, random: &mut fastrand::Rng) -> Event {
        let due = self
            .dispatches
            .peek()
            .is_some_and(|Reverse(next)| next.at_ms <= self.now_ms);
        match due.then(|| self.dispatches.pop()).flatten() {
            Some(Reverse(dispatch)) => self.dispatch(&dispatch, random),
            None => self.reading(random),
        }
    }
}

impl Patient {
    fn new(number: u64, random: &mut fastrand::Rng) -> Self {
        let platform = if number % 2 == 1 { "IOS" } else { "ANDROID" };
        Patient {
            name: format!("{platform}-{number}"),
            heart_rate: random.i64(65..110),
            oxygen: random.i64(9_300..9_900),
            vo2: random.i64(2_500..4_500),
            latitude: random.i64(51_510_000..51_520_000),
            longitude: random.i64(-128_000..-118_000),
            episode: None,
            quiet_until: i64::MIN,
        }
    }

    /// Goes on living until the next reading; says whether the patient rang the alarm.
    fn live(&mut self, random: &mut fastrand::Rng) -> bool {
        let mut step = |value: &mut i64, by: i64, low: i64, high: i64| {
            *value = (*value + random.i64(-by..=by)).clamp(low, high);
        };
        step(&mut self.heart_rate, 3, 58, 175);
        step(&mut self.oxygen, 30, 8_900, 10_000);
        step(&mut self.vo2, 25, 1_900, 5_000);
        step(&mut self.latitude, 40, 51_510_000, 51_520_000);
        step(&mut self.longitude, 40, -128_000, -118_000);
        if self.episode.is_none() && random.u32(0..150) == 0 {
            let cause = random.u8(0..8);
            self.episode = Some(Episode {
                readings: random.u32(2..16),
                heart: (cause < 3).then_some(cause > 0),
                oxygen: matches!(cause, 1 | 3 | 4),
                vo2: matches!(cause, 4 | 5),
                alert: matches!(cause, 1 | 6 | 7),
            });
        }
        let Some(mut episode) = self.episode else {
            return false;
        };
        match episode.heart {
            Some(true) => self.heart_rate = random.i64(181..=200),
            Some(false) => self.heart_rate = random.i64(50..55),
            None => {}
        }
        if episode.oxygen {
            self.oxygen = random.i64(8_000..8_800);
        }
        if episode.vo2 {
            self.vo2 = random.i64(1_500..1_800);
        }
        episode.readings -= 1;
        self.episode = (episode.readings > 0).then_some(episode);
        episode.alert
    }

    /// Whether the reading breaks one of the job's default thresholds.
    fn breaks(&self, alert: bool) -> bool {
        alert || !(55..=180).contains(&self.heart_rate) || self.oxygen < 8_800 || self.vo2 < 1_800
    }

    fn reading(&self, id: &[u8], alert: bool, at: i64, damage: Option<Damage>) -> Vec<u8> {
        let mut out = Vec::with_capacity(320);
        text(&mut out, "{\"id\": \"", id);
        text(&mut out, "\", \"patient_id\": \"", self.name.as_bytes());
        text(&mut out, "\", \"heart_rate\": ", b"");
        match damage {
            Some(Damage::WrongType) => out.extend_from_slice(b"\"fast\""),
            _ => whole(&mut out, u64::try_from(self.heart_rate).unwrap_or(0)),
        }
        text(&mut out, ", \"oxygen_saturation\": ", b"");
        decimal(&mut out, self.oxygen, 2);
        text(&mut out, ", \"vo2_max\": ", b"");
        decimal(&mut out, self.vo2, 2);
        location(&mut out, ", ", self.latitude, self.longitude);
        let alert: &[u8] = if alert { b"true" } else { b"false" };
        text(&mut out, ", \"emergency_alert\": ", alert);
        if damage != Some(Damage::Missing) {
            time(&mut out, "timestamp", at);
        }
        out.push(b'}');
        out
    }
}

fn text(out: &mut Vec<u8>, before: &str, value: &[u8]) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(value);
}

fn location(out: &mut Vec<u8>, before: &str, latitude: i64, longitude: i64) {
    text(out, before, b"\"location\": {\"latitude\": ");
    decimal(out, latitude, 6);
    text(out, ", \"longitude\": ", b"");
    decimal(out, longitude, 6);
    out.push(b'}');
}

fn time(out: &mut Vec<u8>, name: &str, micros: i64) {
    text(out, ", \"", name.as_bytes());
    text(out, "\": \"", b"");
    timestamp(out, micros);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::System;
    use super::*;
    use serde_json::Value;
    use std::collections::HashMap;

    fn events(count: usize, change: impl FnOnce(&mut GenerateOptions)) -> Vec<Event> {
        super::super::tests::events(System::Emergency, count, change)
    }

    fn ms(value: &Value, name: &str) -> Option<i64> {
        let text = value.get(name)?.as_str()?;
        let at = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.6f").ok()?;
        Some(at.and_utc().timestamp_millis())
    }

    #[test]
    fn most_breaches_are_answered_in_time_and_some_never() {
        let mut breaches: HashMap<String, Vec<i64>> = HashMap::new();
        let mut sent: HashMap<String, Vec<i64>> = HashMap::new();
        let (mut readings, mut furthest) = (0, 0);
        for event in events(400_000, |_| {}) {
            let value: Value = serde_json::from_slice(&event.value).unwrap();
            assert_eq!(value["id"].as_str().unwrap().as_bytes(), event.key);
            let patient = value["patient_id"].as_str().unwrap().to_string();
            if event.topic == DISPATCHES {
                let at = ms(&value, "dispatch_time").unwrap();
                assert!(
                    (5 * MINUTE..=30 * MINUTE).contains(&(ms(&value, "timestamp").unwrap() - at))
                );
                sent.entry(patient).or_default().push(at);
                continue;
            }
            readings += 1;
            let at = ms(&value, "timestamp").unwrap();
            assert!(at > furthest - 2 * MINUTE, "{at} after {furthest}: {value}");
            furthest = furthest.max(at);
            let (heart, oxygen) = (&value["heart_rate"], &value["oxygen_saturation"]);
            assert!((50..=200).contains(&heart.as_i64().unwrap()));
            let breach = value["emergency_alert"] == true
                || !(55..=180).contains(&heart.as_i64().unwrap())
                || oxygen.as_f64().unwrap() < 88.0
                || value["vo2_max"].as_f64().unwrap() < 18.0;
            if breach {
                breaches.entry(patient).or_default().push(at);
            }
        }
        assert_eq!(breaches.len(), 20);
        // What broke at the end may still be answered.
        let judged = |at: i64| at < furthest - 15 * MINUTE;
        let answered = |patient: &String, at: i64| {
            let sent = sent.get(patient).into_iter().flatten();
            sent.into_iter()
                .any(|sent| (at..=at + 15 * MINUTE).contains(sent))
        };
        let all = breaches
            .iter()
            .flat_map(|(patient, at)| at.iter().map(move |at| (patient, *at)));
        let all: Vec<_> = all.filter(|(_, at)| judged(*at)).collect();
        let answered = all
            .iter()
            .filter(|(patient, at)| answered(patient, *at))
            .count();
        let share = answered as f64 / all.len() as f64;
        assert!(
            (0.7..0.9).contains(&share),
            "{share} of {} breaches are answered",
            all.len()
        );
        let breaks = all.len() as f64 / f64::from(readings);
        assert!(
            (0.02..0.12).contains(&breaks),
            "{breaks} of the readings break a threshold"
        );
    }

    #[test]
    fn damage_comes_as_often_as_it_was_asked_for() {
        let near = |count: usize, share: f64| (count as f64 / 50_000.0 - share).abs() < 0.01;
        let damaged = events(50_000, |options| options.malformed = 0.1);
        let bad = damaged
            .iter()
            .filter(|event| serde_json::from_slice::<Value>(&event.value).is_err_and(|_| true));
        assert!(
            near(bad.count(), 0.05),
            "half of the damage breaks the JSON itself"
        );
        let timeless = damaged
            .iter()
            .filter_map(|event| serde_json::from_slice::<Value>(&event.value).ok());
        let timeless =
            timeless.filter(|v| v.get("timestamp").is_none() || v["heart_rate"] == "fast");
        assert!(near(timeless.count(), 0.05), "and half what it says");
    }
}
