//! Which partitions a process reads, where several share a job: `0-3,8`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Some of a topic's partitions; all of them by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// In ascending order, with gaps between them; none where all partitions are meant.
    ranges: Vec<RangeInclusive<i32>>,
}

impl Share {
    pub fn contains(&self, partition: i32) -> bool {
        self.is_all() || self.ranges.iter().any(|range| range.contains(&partition))
    }

    pub fn is_all(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn overlaps(&self, other: &Share) -> bool {
        let meets = |a: &RangeInclusive<i32>, b: &RangeInclusive<i32>| {
            a.start() <= b.end() && b.start() <= a.end()
        };
        let mut ranges = self.ranges.iter();
        self.is_all() || other.is_all() || ranges.any(|a| other.ranges.iter().any(|b| meets(a, b)))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let wrong = || format!("'{text}' is not a list of partitions such as 0-3 or 0-3,8");
        let number = |text: &str| text.trim().parse().ok().filter(|number: &i32| *number >= 0);
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (
                number(first).ok_or_else(wrong)?,
                number(last).ok_or_else(wrong)?,
            );
            if first > last {
                return Err(wrong());
            }
            ranges.push(first..=last);
        }
        ranges.sort_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<i32>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(before) if *range.start() <= before.end().saturating_add(1) => {
                    *before = *before.start()..=*before.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        Ok(Share { ranges: joined })
    }
}

/// One way to write it, so that it can be a name.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn a_share_has_one_name() {
        for (text, name) in [
            ("0", "0"),
            ("0-3", "0-3"),
            (" 4 , 0-1,2-3 ", "0-4"),
            ("7,1-2,2", "1-2,7"),
            ("1-5,2-3", "1-5"),
        ] {
            assert_eq!(share(text).to_string(), name, "{text}");
        }
        for wrong in ["", "a", "3-1", "-1", "1-", "1,,2", "0-99999999999"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_meet_or_do_not() {
        assert!(share("0-3").overlaps(&share("3-4")));
        assert!(share("0-9").overlaps(&share("4,20")));
        assert!(!share("0-3,8").overlaps(&share("4-7,9")));
        assert!(Share::default().overlaps(&share("5")));
        assert!(share("0-3,8").contains(8) && !share("0-3,8").contains(4));
        assert!(Share::default().contains(63));
    }
}
