//! How S3 encrypts what is written: staged files, their published copies, and checkpoints.
//!
//! Reading needs no word: S3 knows how each object was encrypted. Where nothing is said, the bucket's own default holds.

use crate::error::{Error, Result};

/// The words of a job, and those of S3.
const KINDS: [(&str, &str); 3] = [
    ("sse-s3", "AES256"),
    ("sse-kms", "aws:kms"),
    ("dsse-kms", "aws:kms:dsse"),
];
/// The words of a job.
pub const WORDS: &[&str] = &[KINDS[0].0, KINDS[1].0, KINDS[2].0];

/// The settings of a job, with the names that the environment has for them.
pub const KIND: &str = "tributary.s3.encryption";
pub const KMS_KEY: &str = "tributary.s3.kms-key-id";
pub const BUCKET_KEY: &str = "tributary.s3.bucket-key";
const KIND_ENV: &str = "AWS_SERVER_SIDE_ENCRYPTION";
const KMS_KEY_ENV: &str = "AWS_SSE_KMS_KEY_ID";
const BUCKET_KEY_ENV: &str = "AWS_SSE_BUCKET_KEY_ENABLED";

/// What S3 is asked for with each object that is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encryption {
    /// In S3's words.
    kind: Option<&'static str>,
    kms_key: Option<String>,
    /// Whether S3 may derive its keys from one for the bucket, so that KMS is asked less often.
    bucket_key: Option<bool>,
}

impl Encryption {
    /// In the words of a job; the error is a message and a hint.
    pub fn new(
        word: Option<&str>,
        kms_key: Option<&str>,
        bucket_key: Option<bool>,
    ) -> Result<Encryption, (String, String)> {
        let kind = KINDS.iter().find(|(ours, _)| Some(*ours) == word);
        let kind = kind.map(|(_, aws)| *aws);
        let uses_kms = kind.is_some_and(|kind| kind.starts_with("aws:kms"));
        let idle = match (kms_key, bucket_key) {
            (Some(_), _) => Some(KMS_KEY),
            (None, Some(_)) => Some(BUCKET_KEY),
            (None, None) => None,
        };
        if let Some(idle) = idle
            && !uses_kms
        {
            return Err((
                format!("'{idle}' is for encryption with a key of KMS"),
                format!("set '{KIND}' = 'sse-kms' too"),
            ));
        }
        Ok(Encryption {
            kind,
            kms_key: kms_key.map(str::to_owned),
            bucket_key,
        })
    }

    /// What the environment says, in the words that other tools know.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Encryption> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let refuse = |name: &str, value: &str, words: &[&str]| {
            Error::job(format!(
                "{name}={value} is not known: it can be {}",
                words.join(", ")
            ))
        };
        let word = match env(KIND_ENV) {
            Some(value) => {
                let kind = KINDS.iter().find(|(_, aws)| *aws == value);
                let words = KINDS.map(|(_, aws)| aws);
                Some(kind.ok_or_else(|| refuse(KIND_ENV, &value, &words))?.0)
            }
            None => None,
        };
        let bucket_key = match env(BUCKET_KEY_ENV).map(|value| value.to_ascii_lowercase()) {
            Some(value) => match value.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                other => return Err(refuse(BUCKET_KEY_ENV, other, &["true", "false"])),
            },
            None => None,
        };
        Encryption::new(word, env(KMS_KEY_ENV).as_deref(), bucket_key).map_err(|_| {
            Error::job(format!(
                "{KMS_KEY_ENV} and {BUCKET_KEY_ENV} are for encryption with a key of KMS: set {KIND_ENV}=aws:kms too"
            ))
        })
    }

    /// The same as a job's settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let word = KINDS.iter().find(|(_, aws)| Some(*aws) == self.kind);
        let settings = [
            (KIND, word.map(|(ours, _)| (*ours).to_owned())),
            (KMS_KEY, self.kms_key.clone()),
            (BUCKET_KEY, self.bucket_key.map(|on| on.to_string())),
        ];
        let settings = settings.into_iter();
        settings
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }

    /// The same as options of the S3 client.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let options = [
            ("aws_server_side_encryption", self.kind.map(str::to_owned)),
            ("aws_sse_kms_key_id", self.kms_key.clone()),
            (
                "aws_sse_bucket_key_enabled",
                self.bucket_key.map(|on| on.to_string()),
            ),
        ];
        let options = options.into_iter();
        options
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)]) -> Result<Encryption> {
        Encryption::from_env(&|name| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_says_what_a_job_can_say() {
        let own = "arn:aws:kms:eu-west-1:123456789012:key/k";
        let found = of(&[
            (KIND_ENV, "aws:kms"),
            (KMS_KEY_ENV, own),
            (BUCKET_KEY_ENV, "True"),
        ]);
        let found = found.unwrap();
        let by_job = Encryption::new(Some("sse-kms"), Some(own), Some(true));
        assert_eq!(found, by_job.unwrap());
        let settings: Vec<_> = found.settings();
        let expected = [(KIND, "sse-kms"), (KMS_KEY, own), (BUCKET_KEY, "true")];
        assert_eq!(
            settings,
            expected.map(|(key, value)| (key.into(), value.into()))
        );
        assert_eq!(
            found.options()[0],
            ("aws_server_side_encryption", "aws:kms".into())
        );
        assert_eq!(of(&[(KIND_ENV, "")]).unwrap(), Encryption::default());
        assert_eq!(Encryption::default().options(), []);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (env, why) in [
            (
                vec![(KIND_ENV, "sse-kms")],
                "it can be AES256, aws:kms, aws:kms:dsse",
            ),
            (
                vec![(KMS_KEY_ENV, "k")],
                "set AWS_SERVER_SIDE_ENCRYPTION=aws:kms too",
            ),
            (
                vec![(KIND_ENV, "AES256"), (BUCKET_KEY_ENV, "true")],
                "with a key of KMS",
            ),
            (vec![(BUCKET_KEY_ENV, "1")], "it can be true, false"),
        ] {
            let error = of(&env).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
