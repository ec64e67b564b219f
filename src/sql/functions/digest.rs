//! Digests, as text in hexadecimal.

use super::Takes::{Int, Text};
use super::{Function, Gives, numbers, text_rows, texts};
use arrow::datatypes::{DataType, Int32Type};
use md5::Md5;
use sha2::digest::Digest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

pub(super) fn functions() -> Vec<Function> {
    let text = || Gives::Type(DataType::Utf8);
    let mut functions: Vec<Function> = DIGESTS
        .iter()
        .map(|&(name, of)| {
            Function::new(name, &[Text], text(), move |args| {
                let values = texts(args, 0)?;
                text_rows(args, |row| values.get(row).map(of))
            })
        })
        .collect();
    functions.push(Function::new("sha2", &[Text, Int], text(), |args| {
        let (values, bits) = (texts(args, 0)?, numbers::<Int32Type>(args, 1)?);
        text_rows(args, |row| {
            let value = values.get(row)?;
            match bits.get(row)? {
                224 => Some(hex(&Sha224::digest(value))),
                256 => Some(hex(&Sha256::digest(value))),
                384 => Some(hex(&Sha384::digest(value))),
                512 => Some(hex(&Sha512::digest(value))),
                _ => None,
            }
        })
    }));
    functions
}

type DigestOf = (&'static str, fn(&str) -> String);

const DIGESTS: &[DigestOf] = &[
    ("md5", |s| {
        hex(&md5::Digest::finalize(md5::Digest::chain_update(
            Md5::default(),
            s,
        )))
    }),
    ("sha224", |s| hex(&Sha224::digest(s))),
    ("sha256", |s| hex(&Sha256::digest(s))),
    ("sha384", |s| hex(&Sha384::digest(s))),
    ("sha512", |s| hex(&Sha512::digest(s))),
];

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::sql::functions::testing::check_calls;

    #[test]
    fn digests() {
        check_calls(&[
            ("MD5('abc')", "900150983cd24fb0d6963f7d28e17f72"),
            (
                "SHA256('abc')",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "SHA2('abc', 224)",
                "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
            ),
            ("SHA256(CAST(NULL AS STRING))", "NULL"),
        ]);
    }
}
