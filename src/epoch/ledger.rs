//! The sums that must come out at every epoch.

use super::{Checkpoint, Ledger, OperatorBook, SinkBook, SourceBook};
use crate::error::{Error, Result};

impl Ledger {
    /// Whether no row has vanished and none has appeared. A book that does not balance is named, with its numbers, and the epoch
    /// that it belongs to is not committed.
    pub fn check(&self) -> Result<()> {
        for (name, book) in &self.sources {
            book.check()
                .map_err(|sums| unbalanced("source", name, &sums))?;
        }
        for (name, book) in &self.operators {
            book.check()
                .map_err(|sums| unbalanced("operator", name, &sums))?;
        }
        for (name, book) in &self.sinks {
            book.check()
                .map_err(|sums| unbalanced("sink", name, &sums))?;
        }
        Ok(())
    }
}

impl SourceBook {
    fn check(&self) -> Result<(), String> {
        let SourceBook {
            records,
            decoded,
            null,
            malformed,
            ignored,
            rows,
            accepted,
            refused,
        } = *self;
        balance(
            ("records", records),
            &[
                ("decoded", decoded),
                ("null", null),
                ("malformed", malformed),
                ("ignored", ignored),
            ],
        )?;
        balance(
            ("rows", rows),
            &[("accepted", accepted), ("refused", refused)],
        )
    }
}

impl OperatorBook {
    fn check(&self) -> Result<(), String> {
        let OperatorBook {
            rows_in,
            used,
            filtered,
            late,
            refused,
        } = *self;
        balance(
            ("rows in", rows_in),
            &[
                ("used", used),
                ("filtered", filtered),
                ("late", late),
                ("refused", refused),
            ],
        )
    }
}

impl SinkBook {
    fn check(&self) -> Result<(), String> {
        let SinkBook {
            written,
            published,
            carried,
            rejected,
            files: _,
            bytes: _,
        } = *self;
        balance(
            ("written", written),
            &[
                ("published", published),
                ("carried", carried),
                ("rejected", rejected),
            ],
        )
    }

    /// The table's book behind this epoch: what was shown before, what the checkpoint shows, and what it carries.
    pub(super) fn after(
        before: SinkBook,
        written: u64,
        rejected: u64,
        checkpoint: &Checkpoint,
        table: &str,
    ) -> Self {
        let state = checkpoint.sinks.get(table);
        let tokens = state.map_or(&[][..], |state| &state.tokens);
        let carried = state.map_or(&[][..], |state| &state.carried);
        SinkBook {
            written: before.written + written,
            published: before.published + tokens.iter().map(|token| token.rows).sum::<u64>(),
            files: before.files + tokens.len() as u64,
            bytes: before.bytes + tokens.iter().map(|token| token.bytes).sum::<u64>(),
            carried: carried.iter().map(|part| part.rows).sum(),
            rejected,
        }
    }
}

/// The whole must be its parts; else the numbers, as a sentence.
fn balance(whole: (&str, u64), parts: &[(&str, u64)]) -> Result<(), String> {
    let sum = parts
        .iter()
        .try_fold(0u64, |sum, (_, rows)| sum.checked_add(*rows));
    if sum == Some(whole.1) {
        return Ok(());
    }
    let parts: Vec<_> = parts
        .iter()
        .map(|(name, rows)| format!("{rows} {name}"))
        .collect();
    Err(format!(
        "{} {} are not {}",
        whole.1,
        whole.0,
        parts.join(" + ")
    ))
}

fn unbalanced(what: &str, name: &str, sums: &str) -> Error {
    Error::bug(format!(
        "the books of {what} {name} do not balance: {sums}. The epoch was not committed; nothing is lost, and the job goes on from the \
         one before when it is started again. Please report this"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_book_that_does_not_balance_is_named_with_its_numbers() {
        let mut ledger = Ledger::default();
        let source = SourceBook {
            records: 5,
            decoded: 3,
            null: 1,
            malformed: 1,
            rows: 4,
            accepted: 4,
            ..Default::default()
        };
        ledger.sources.insert("readings".into(), source);
        ledger.operators.insert(
            "vitals".into(),
            OperatorBook {
                rows_in: 4,
                used: 1,
                filtered: 1,
                late: 1,
                refused: 1,
            },
        );
        let sink = SinkBook {
            written: 4,
            published: 2,
            carried: 1,
            rejected: 1,
            ..Default::default()
        };
        ledger.sinks.insert("lake".into(), sink);
        ledger.check().unwrap();

        let broken = |change: &dyn Fn(&mut Ledger)| {
            let mut ledger = ledger.clone();
            change(&mut ledger);
            let error = ledger.check().unwrap_err();
            assert_eq!(error.kind(), Kind::Bug);
            error.to_string()
        };
        let text = broken(&|ledger| ledger.sources.get_mut("readings").unwrap().ignored = 1);
        assert!(
            text.contains("source readings do not balance: 5 records are not 3 decoded + 1 null"),
            "{text}"
        );
        let text = broken(&|ledger| ledger.sources.get_mut("readings").unwrap().refused = 1);
        assert!(
            text.contains("4 rows are not 4 accepted + 1 refused"),
            "{text}"
        );
        let text = broken(&|ledger| ledger.operators.get_mut("vitals").unwrap().late = 0);
        assert!(text.contains("operator vitals"), "{text}");
        let text = broken(&|ledger| ledger.sinks.get_mut("lake").unwrap().carried = u64::MAX);
        assert!(text.contains("sink lake"), "{text}");
    }
}
