//! One error for the whole program. Its kind is what the reader of the message, or the loop
//! that caught it, should do about it; its text names the file, table, topic, partition, offset
//! or path, and what to do next.

use std::fmt;

/// What a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server or a disk is away or busy: the same step may succeed later.
    Retry,
    /// The job file or the command line has to be changed first.
    Job,
    /// The data cannot be processed, and the job asked to fail on such data.
    Data,
    /// Another instance owns this job now; this one must stop without publishing.
    Fenced,
    /// Somebody asked the process to stop while it waited for a server: it may end, and the next start does it again.
    Stopped,
    /// Tributary broke one of its own rules.
    Bug,
}

/// A failure: what kind it is, what happened, and where.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    kind: Kind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of anything that can fail in one of the six ways.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Kind::Retry, message)
    }

    pub fn job(message: impl Into<String>) -> Self {
        Self::new(Kind::Job, message)
    }

    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }

    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(Kind::Fenced, message)
    }

    pub fn stopped(message: impl Into<String>) -> Self {
        Self::new(Kind::Stopped, message)
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// Keeps the error that caused this one; it is printed behind the message.
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts the place where it happened in front of the message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same failure, for whoever was only shown it.
    pub fn again(&self) -> Error {
        Self::new(self.kind, self.to_string())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code of the command line's contract.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Job => 2,
            Kind::Fenced => 3,
            Kind::Retry | Kind::Data | Kind::Stopped | Kind::Bug => 1,
        }
    }
}

/// Arrow and DataFusion fail while a job runs only where the engine called them wrongly, or where a
/// value cannot be computed (a division by zero): neither can be retried.
impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::data("a column could not be computed").caused_by(error)
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Error::data("an expression could not be computed").caused_by(error)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Error::data("Parquet").caused_by(error)
    }
}
