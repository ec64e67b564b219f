//! Confluent's wire format: a zero, the id of the schema in four bytes, the value.

/// How many bytes stand before the value, and where among them the id begins.
pub const HEAD: usize = 5;
pub const ID_AT: usize = 1;
const MAGIC: u8 = 0;

/// The id and the value's bytes; or what is wrong with them.
pub fn parts(record: &[u8]) -> Result<(u32, &[u8]), String> {
    match record {
        [MAGIC, a, b, c, d, value @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), value)),
        [MAGIC, ..] => Err(format!(
            "{} bytes are too few for the id of a schema",
            record.len()
        )),
        [first, ..] => Err(format!(
            "the record begins with {first:#04x} and not with 0x00, so it was not written with a schema registry"
        )),
        [] => Err("the record is empty".to_string()),
    }
}

/// What stands before a value that was written with the schema of this id.
pub fn head(id: u32) -> [u8; HEAD] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_says_the_id() {
        let record = [&head(0x0102_0304)[..], b"value"].concat();
        assert_eq!(record[..HEAD], [0, 1, 2, 3, 4]);
        assert_eq!(parts(&record), Ok((0x0102_0304, &b"value"[..])));
        for (record, expected) in [
            (&b""[..], "empty"),
            (b"{\"a\":1}", "0x7b"),
            (&[0, 1, 2], "3 bytes"),
        ] {
            assert!(parts(record).unwrap_err().contains(expected));
        }
    }
}
