//! Reads one record into the columns, as its plan says.

use super::super::columns::{Column, Row, Values, note_replaced};
use super::super::fault::{Fault, Parsed};
use super::plan::{Plan, Rescale, RowPlan, Step};
use crate::avro::{Broken, Cursor, HEAD, Schema};

const MILLIS_OF_DAY: i64 = 86_400_000;

pub struct Reader<'a> {
    cursor: Cursor<'a>,
    /// What steps over values that nobody wants.
    schema: &'a Schema,
}

impl From<Broken> for Box<Fault> {
    fn from(broken: Broken) -> Self {
        Fault::syntax(broken.at, broken.what)
    }
}

impl<'a> Reader<'a> {
    /// At the value of a record that has its head.
    pub fn behind_head(record: &'a [u8], schema: &'a Schema) -> Parsed<Reader<'a>> {
        let mut cursor = Cursor::new(record);
        cursor.take(HEAD)?;
        Ok(Reader { cursor, schema })
    }

    /// Nothing may be left: then the record was written with another schema than it says.
    pub fn end(&self) -> Parsed {
        match self.cursor.left() {
            0 => Ok(()),
            left => Err(Fault::syntax(
                self.cursor.at(),
                format!("{left} bytes are left behind the record"),
            )),
        }
    }

    /// Appends one row.
    pub fn row(&mut self, plan: &RowPlan, row: &mut Row) -> Parsed {
        let Row { names, fields, .. } = row;
        for step in &plan.steps {
            match step {
                Step::Skip(of) => self.cursor.skip(self.schema, of)?,
                Step::Read(column, plan) => self
                    .value(plan, &mut fields[*column])
                    .map_err(|fault| fault.within(names.name(*column)))?,
            }
        }
        for (column, default) in &plan.missing {
            let target = &mut fields[*column];
            let filled = match default {
                None => null(
                    target,
                    "it is not in the record, and the column is NOT NULL",
                ),
                Some(default) => {
                    let mut reader = Reader {
                        cursor: Cursor::new(&default.bytes),
                        schema: &default.schema,
                    };
                    reader.value(&default.plan, target)
                }
            };
            filled.map_err(|fault| fault.within(names.name(*column)))?;
        }
        Ok(())
    }

    fn value(&mut self, plan: &Plan, column: &mut Column) -> Parsed {
        let at = self.cursor.at();
        match (plan, &mut column.values) {
            (Plan::Union(branches), _) => {
                let branch = self.cursor.index(branches.len())?;
                return self.value(&branches[branch], column);
            }
            (Plan::Null, _) => return null(column, "NULL, and the column is NOT NULL"),
            (Plan::Boolean, Values::Boolean(values)) => values.append(self.cursor.boolean()?),
            (Plan::Int, Values::Int(values) | Values::Date(values)) => {
                values.push(self.cursor.int()?);
            }
            (Plan::Int, Values::TinyInt(values)) => {
                let int = self.cursor.int()?;
                values.push(i8::try_from(int).map_err(|_| unfit(at, int, "a TINYINT"))?);
            }
            (Plan::Int, Values::SmallInt(values)) => {
                let int = self.cursor.int()?;
                values.push(i16::try_from(int).map_err(|_| unfit(at, int, "a SMALLINT"))?);
            }
            (Plan::Int, Values::BigInt(values)) => values.push(i64::from(self.cursor.int()?)),
            (Plan::Int, Values::Float(values)) => values.push(self.cursor.int()? as f32),
            (Plan::Int, Values::Double(values)) => values.push(f64::from(self.cursor.int()?)),
            (Plan::Int, Values::Time(values)) => {
                values.push(time(at, i64::from(self.cursor.int()?))?);
            }
            (Plan::Time, Values::Time(values)) => {
                values.push(time(at, self.cursor.long()?.div_euclid(1_000))?);
            }
            (Plan::Long, Values::BigInt(values)) => values.push(self.cursor.long()?),
            (Plan::Long, Values::Float(values)) => values.push(self.cursor.long()? as f32),
            (Plan::Long, Values::Double(values)) => values.push(self.cursor.long()? as f64),
            (Plan::Timestamp(scale), Values::Timestamp { values, .. }) => {
                let written = self.cursor.long()?;
                let moment = match scale {
                    Rescale::By(factor) => written.checked_mul(*factor),
                    Rescale::Down(factor) => Some(written.div_euclid(*factor)),
                };
                values.push(
                    moment.ok_or_else(|| unfit(at, written, "a TIMESTAMP of this precision"))?,
                );
            }
            (Plan::Float, Values::Float(values)) => values.push(self.cursor.float()?),
            (Plan::Float, Values::Double(values)) => values.push(f64::from(self.cursor.float()?)),
            (Plan::Double, Values::Double(values)) => values.push(self.cursor.double()?),
            (Plan::Bytes, Values::Bytes(strings)) => strings.push(self.cursor.bytes()?),
            (Plan::Bytes, Values::String(strings)) => {
                strings.push(text(at, self.cursor.bytes()?)?);
            }
            (Plan::Fixed(size), Values::Bytes(strings)) => strings.push(self.cursor.take(*size)?),
            (Plan::Enum(symbols), Values::String(strings)) => {
                let symbol = self.cursor.index(symbols.len())?;
                strings.push(symbols[symbol].as_bytes());
            }
            (
                Plan::Decimal { size, scale },
                Values::Decimal {
                    values,
                    precision,
                    scale: to,
                },
            ) => {
                let bytes = match size {
                    Some(size) => self.cursor.take(*size)?,
                    None => self.cursor.bytes()?,
                };
                let number = unscaled(bytes)
                    .and_then(|number| rescaled(number, i32::from(*to) - scale, *precision));
                values.push(number.ok_or_else(|| {
                    let what = format!("the number is too large for a DECIMAL({precision}, {to})");
                    Fault::value(Some(at), what)
                })?);
            }
            (Plan::Array(item), Values::Array { ends, items }) => {
                loop {
                    let count = self.cursor.block()?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        self.value(item, items)?;
                    }
                }
                ends.push(end(at, items.len())?);
            }
            (
                Plan::Map(value),
                Values::Map {
                    ends,
                    keys,
                    values,
                    replaced,
                },
            ) => {
                let first = values.len();
                loop {
                    let count = self.cursor.block()?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        let at = self.cursor.at();
                        keys.push(text(at, self.cursor.bytes()?)?);
                        self.value(value, values)?;
                    }
                }
                note_replaced(keys, first, values.len(), replaced);
                ends.push(end(at, values.len())?);
            }
            (Plan::Row(plan), Values::Row(row)) => self.row(plan, row)?,
            (Plan::Misfit(what), _) => return Err(Fault::value(Some(at), what.clone())),
            // A plan is made for its column, so there is nothing else.
            _ => {
                return Err(Fault::value(
                    Some(at),
                    "the value was planned for another column",
                ));
            }
        }
        column.appended();
        Ok(())
    }
}

fn null(column: &mut Column, what: &str) -> Parsed {
    if column.required {
        return Err(Fault::missing("", what));
    }
    column.append_null();
    Ok(())
}

/// Where an array or a map ends among the elements of its column.
fn end(at: usize, elements: usize) -> Parsed<i32> {
    i32::try_from(elements).map_err(|_| {
        let what = "a run of records has more elements than a column can hold";
        Fault::value(Some(at), what)
    })
}

#[cold]
fn unfit(at: usize, number: impl std::fmt::Display, expected: &str) -> Box<Fault> {
    Fault::value(Some(at), format!("{number} is not {expected}"))
}

fn text(at: usize, bytes: &[u8]) -> Parsed<&[u8]> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(Fault::value(Some(at), "the text is not UTF-8")),
    }
}

fn time(at: usize, millis: i64) -> Parsed<i32> {
    let of_day = |millis: &i64| (0..MILLIS_OF_DAY).contains(millis);
    let millis = Some(millis)
        .filter(of_day)
        .and_then(|millis| i32::try_from(millis).ok());
    millis.ok_or_else(|| Fault::value(Some(at), "the time is not of one day"))
}

/// A number in two's complement, the highest byte first.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    const WIDTH: usize = size_of::<i128>();
    let sign = match bytes.first() {
        Some(first) if *first >= 0x80 => 0xff,
        _ => 0,
    };
    let spare = bytes.len().saturating_sub(WIDTH);
    let (above, low) = bytes.split_at(spare);
    let mut wide = [sign; WIDTH];
    wide[WIDTH - low.len()..].copy_from_slice(low);
    let number = i128::from_be_bytes(wide);
    // What stands above has to say nothing but the sign.
    let same_sign = (number < 0) == (sign != 0);
    (above.iter().all(|byte| *byte == sign) && same_sign).then_some(number)
}

/// With so many more digits behind the point, rounded half up as in SQL; nothing where it has more digits than the column then.
fn rescaled(number: i128, digits: i32, precision: u8) -> Option<i128> {
    let factor = 10i128.checked_pow(digits.unsigned_abs());
    let number = match digits {
        0 => number,
        1.. => number.checked_mul(factor?)?,
        // Nothing is left of it.
        _ if factor.is_none() => 0,
        _ => {
            let factor = factor?;
            let (whole, rest) = (number / factor, number % factor);
            let up = rest.unsigned_abs() >= factor.unsigned_abs().div_ceil(2);
            whole + if up { number.signum() } else { 0 }
        }
    };
    let limit = 10u128.checked_pow(u32::from(precision))?;
    (number.unsigned_abs() < limit).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_two_s_complement() {
        for (bytes, expected) in [
            (&[][..], Some(0)),
            (&[0x7b], Some(123)),
            (&[0xff], Some(-1)),
            (&[0x00, 0xff], Some(255)),
            (&[0xff; 20], Some(-1)),
            (&[0x01; 17], None),
        ] {
            assert_eq!(unscaled(bytes), expected, "{bytes:?}");
        }
        // The sign is above the sixteen bytes, and they say the other one.
        let mut bytes = [0x80; 17];
        bytes[0] = 0;
        assert_eq!(unscaled(&bytes), None);
    }

    #[test]
    fn scales_are_brought_to_the_columns() {
        for (number, digits, precision, expected) in [
            (125, -1, 10, Some(13)),
            (-125, -1, 10, Some(-13)),
            (124, -1, 10, Some(12)),
            (5, -50, 10, Some(0)),
            (125, 2, 10, Some(12500)),
            (125, 2, 4, None),
            (i128::MAX, 1, 38, None),
            (100, 0, 2, None),
        ] {
            assert_eq!(rescaled(number, digits, precision), expected, "{number}");
        }
    }
}
