//! What goes wrong on the way: events that come late, and bytes that are no good. All systems suffer alike.

pub(super) const SECOND: i64 = 1000;
pub(super) const MINUTE: i64 = 60 * SECOND;
/// How long the watermarks of the jobs wait.
#[cfg(test)]
pub(super) const WATERMARK: i64 = 2 * MINUTE;
/// How far an event that is not late may be behind.
const JITTER: i64 = 3 * SECOND;
const STRAGGLE: std::ops::Range<i64> = 5 * SECOND..90 * SECOND;
/// How far a late event is behind.
const LATE: std::ops::Range<i64> = 5 * MINUTE..20 * MINUTE;

/// What is wrong with an event's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    Truncated,
    WrongType,
    Garbage,
    /// Something is missing that nobody can do without, the time in most cases.
    Missing,
}

/// How far an event is behind, and whether that makes it late.
pub(super) fn behind(random: &mut fastrand::Rng, late: f64) -> (i64, bool) {
    match random.f64() < late {
        true => (random.i64(LATE), true),
        false if random.u8(0..100) == 0 => (random.i64(STRAGGLE), false),
        false => (random.i64(0..JITTER), false),
    }
}

pub(super) fn damage(random: &mut fastrand::Rng, share: f64) -> Option<Damage> {
    let damages = [
        Damage::Truncated,
        Damage::WrongType,
        Damage::Garbage,
        Damage::Missing,
    ];
    (random.f64() < share).then(|| damages[random.usize(0..damages.len())])
}

/// The damage that is done to the bytes as a whole.
pub(super) fn spoil(
    mut value: Vec<u8>,
    damage: Option<Damage>,
    random: &mut fastrand::Rng,
) -> Vec<u8> {
    match damage {
        Some(Damage::Truncated) => value.truncate(random.usize(1..value.len())),
        Some(Damage::Garbage) => value = b"Connection reset by peer".to_vec(),
        _ => {}
    }
    value
}
