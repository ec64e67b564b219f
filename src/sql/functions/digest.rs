//! Digests, as text in hexadecimal; with a key and without.

use super::Takes::{Int, Text};
use super::{Function, Gives, numbers, text_rows, texts};
use arrow::datatypes::{DataType, Int32Type};
use md5::Md5;
use sha1::Sha1;
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
    // Ours alone, and so it is called: Flink has no keyed digest, and a plain one of an IPv4 address is undone by trying them all.
    functions.push(Function::new(
        "tributary_hmac_sha256",
        &[Text, Text],
        text(),
        |args| {
            let (keys, values) = (texts(args, 0)?, texts(args, 1)?);
            text_rows(args, |row| Some(hmac(keys.get(row)?, values.get(row)?)))
        },
    ));
    functions
}

/// RFC 2104 over SHA-256.
fn hmac(key: &str, text: &str) -> String {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        let short = Sha256::digest(key);
        block[..short.len()].copy_from_slice(&short);
    } else {
        block[..key.len()].copy_from_slice(key.as_bytes());
    }
    let pad = |by: u8| block.map(|byte| byte ^ by);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text);
    let outer = Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner.finalize());
    hex(&outer.finalize())
}

type DigestOf = (&'static str, fn(&str) -> String);

const DIGESTS: &[DigestOf] = &[
    ("md5", |s| {
        hex(&md5::Digest::finalize(md5::Digest::chain_update(
            Md5::default(),
            s,
        )))
    }),
    ("sha1", |s| {
        hex(&md5::Digest::finalize(md5::Digest::chain_update(
            Sha1::default(),
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

    /// The first is of RFC 4231.
    #[test]
    fn keyed_digests() {
        let long = "k".repeat(65);
        check_calls(&[
            (
                "TRIBUTARY_HMAC_SHA256('Jefe', 'what do ya want for nothing?')",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                "TRIBUTARY_HMAC_SHA256('', '')",
                "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad",
            ),
            ("TRIBUTARY_HMAC_SHA256(CAST(NULL AS STRING), 'a')", "NULL"),
            ("TRIBUTARY_HMAC_SHA256('a', CAST(NULL AS STRING))", "NULL"),
            // A key of more than a block counts as its digest.
            (
                &format!("TRIBUTARY_HMAC_SHA256('{long}', 'a')"),
                "6ba0e27de4fc34c2514dd16705c9790248f5375b5de2c079e35af7c55f08be79",
            ),
        ]);
    }
}
