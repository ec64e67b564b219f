//! The binary encoding: numbers of a variable length, and what is made of them.

use super::schema::{Definition, Schema, Type};

/// How deep values may lie in each other. Far beyond what anybody writes; a schema that holds itself must not exhaust the stack.
const DEEPEST: u32 = 200;
/// How many elements of arrays and maps a record may have beyond the number of its bytes. Nearly all have a byte at least; only nulls, records
/// without fields and the like have none, and a few bytes could stand for any number of them.
const WITHOUT_BYTES: usize = 1_000;

/// The bytes are not what the schema says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Counted from the first byte that the cursor was given.
    pub at: usize,
    pub what: &'static str,
}

pub type Found<T> = Result<T, Broken>;

/// Walks through the bytes of a value.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How many elements may still come.
    elements: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            bytes,
            at: 0,
            elements: bytes.len() + WITHOUT_BYTES,
        }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[cold]
    fn broken(&self, what: &'static str) -> Broken {
        Broken { at: self.at, what }
    }

    #[inline]
    pub fn take(&mut self, count: usize) -> Found<&'a [u8]> {
        let taken = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.get(..count))
            .ok_or_else(|| self.broken("the record ends in the middle of a value"))?;
        self.at += count;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Found<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A zigzag number: seven bits in each byte, the lowest first.
    #[inline]
    pub fn long(&mut self) -> Found<i64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(self.broken("a number has more than ten bytes"))
    }

    #[inline]
    pub fn int(&mut self) -> Found<i32> {
        let start = *self;
        i32::try_from(self.long()?).map_err(|_| start.broken("a number is larger than an int"))
    }

    pub fn boolean(&mut self) -> Found<bool> {
        let start = *self;
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(start.broken("a boolean is neither 0 nor 1")),
        }
    }

    pub fn float(&mut self) -> Found<f32> {
        self.array().map(f32::from_le_bytes)
    }

    pub fn double(&mut self) -> Found<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// Bytes or a text, behind their length.
    #[inline]
    pub fn bytes(&mut self) -> Found<&'a [u8]> {
        let start = *self;
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| start.broken("a length is negative"))?;
        self.take(length)
    }

    /// The index of a union's branch or of an enum's symbol, of which there are so many.
    #[inline]
    pub fn index(&mut self, count: usize) -> Found<usize> {
        let start = *self;
        let index = usize::try_from(self.long()?)
            .ok()
            .filter(|index| *index < count);
        index.ok_or_else(|| start.broken("there is no branch or symbol of this number"))
    }

    /// How many elements the next block of an array or a map has; none at its end. A count that the record is too short for must not keep
    /// anybody counting, nor many that are good by themselves.
    #[inline]
    pub fn block(&mut self) -> Found<usize> {
        let start = *self;
        let count = self.long()?;
        if count < 0 {
            // How many bytes they have, for who would step over them.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).ok();
        let left = count.and_then(|count| Some((count, self.elements.checked_sub(count)?)));
        let (count, left) =
            left.ok_or_else(|| start.broken("the record is too short for so many elements"))?;
        self.elements = left;
        Ok(count)
    }

    /// Steps over a value.
    pub fn skip(&mut self, schema: &Schema, of: &Type) -> Found<()> {
        self.skip_in(schema, of, 0)
    }

    fn skip_in(&mut self, schema: &Schema, of: &Type, depth: u32) -> Found<()> {
        if depth > DEEPEST {
            return Err(self.broken("values lie too deep in each other"));
        }
        match of {
            Type::Null => {}
            Type::Boolean => {
                self.boolean()?;
            }
            Type::Int(_) => {
                self.int()?;
            }
            Type::Long(_) => {
                self.long()?;
            }
            Type::Float => {
                self.take(4)?;
            }
            Type::Double => {
                self.take(8)?;
            }
            Type::Bytes(_) | Type::String => {
                self.bytes()?;
            }
            Type::Array(item) => loop {
                let count = self.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    self.skip_in(schema, item, depth + 1)?;
                }
            },
            Type::Map(value) => loop {
                let count = self.block()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    self.bytes()?;
                    self.skip_in(schema, value, depth + 1)?;
                }
            },
            Type::Union(branches) => {
                let branch = self.index(branches.len())?;
                self.skip_in(schema, &branches[branch], depth + 1)?;
            }
            Type::Named(named) => match &schema.named(*named).definition {
                Definition::Record(fields) => {
                    for field in fields {
                        self.skip_in(schema, &field.of, depth + 1)?;
                    }
                }
                Definition::Enum(symbols) => {
                    self.index(symbols.len())?;
                }
                Definition::Fixed { size, .. } => {
                    self.take(*size)?;
                }
            },
        }
        Ok(())
    }
}

/// Appends a zigzag number.
#[inline]
pub fn put_long(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes or a text behind their length.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // No slice is longer than an i64 can say.
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let numbers = [
            0,
            -1,
            1,
            63,
            -64,
            64,
            1 << 20,
            i64::from(i32::MIN),
            i64::MAX,
            i64::MIN,
        ];
        for number in numbers {
            let mut bytes = Vec::new();
            put_long(&mut bytes, number);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.long(), Ok(number));
            assert_eq!(cursor.left(), 0);
        }
        let mut bytes = Vec::new();
        put_long(&mut bytes, -64);
        put_long(&mut bytes, 64);
        assert_eq!(bytes, [0x7f, 0x80, 0x01], "as the specification has it");
    }

    #[test]
    fn whatever_bytes_come_the_end_is_an_answer() {
        let text = r#"{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]},{"name":"a","type":{"type":"array","items":"null"}}]}"#;
        let schema = Schema::parse(text, &[]).unwrap();
        let skip = |bytes: &[u8]| {
            let mut cursor = Cursor::new(bytes);
            let skipped = cursor.skip(&schema, &schema.root);
            skipped.map(|()| cursor.left())
        };
        assert_eq!(skip(&[0, 0]), Ok(0));
        assert_eq!(skip(&[0]).unwrap_err().at, 1, "cut off");
        assert!(skip(&[4]).unwrap_err().what.contains("no branch"));
        // Records in records without an end, an array of a billion nulls, a number without an end, a negative length.
        assert!(skip(&[2; 1000]).unwrap_err().what.contains("too deep"));
        assert!(
            skip(&[0, 0x80, 0xa8, 0xd6, 0xb9, 0x07])
                .unwrap_err()
                .what
                .contains("too short")
        );
        // Three of them are no more than that, also at the end of the record; many blocks of them are.
        assert_eq!(skip(&[0, 6, 0]), Ok(0));
        let many = [&[0][..], &[0xd0, 0x0f].repeat(2_000), &[0]].concat();
        assert!(skip(&many).unwrap_err().what.contains("too short"));
        assert!(skip(&[0xff; 20]).unwrap_err().what.contains("ten bytes"));
        assert!(
            Cursor::new(&[1])
                .bytes()
                .unwrap_err()
                .what
                .contains("negative")
        );
        assert_eq!(
            Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0x1f])
                .int()
                .unwrap_err()
                .at,
            0
        );
        assert!(Cursor::new(&[2]).boolean().is_err());
    }
}
