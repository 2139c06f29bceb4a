//! Why a command did not do what it was asked, and the exit code that says so.

use std::fmt;
use std::io;

use portfire_core::{ClientError, InvalidJob, StorageError};

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    place: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Usage,
    Failed,
    /// Whoever read the output has enough of it; that is no fault.
    OutputClosed,
}

impl Failure {
    /// The command line asks for something that does not exist or makes no sense.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { kind: Kind::Usage, message: message.into(), place: Vec::new() }
    }

    /// The command was understood and could not be done.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { kind: Kind::Failed, message: message.into(), place: Vec::new() }
    }

    /// With the lines that show where the fault is, to stand under the message.
    #[must_use]
    pub fn with_place(self, place: Vec<String>) -> Failure {
        Failure { place, ..self }
    }

    /// The lines that show where the fault is.
    pub fn place(&self) -> &[String] {
        &self.place
    }

    /// 2 when the command line is at fault, 1 when something failed, 0 when only the reader of the
    /// output has gone.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Failed => 1,
            Kind::OutputClosed => 0,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        let kind = if closed { Kind::OutputClosed } else { Kind::Failed };
        Failure { kind, message: error.to_string(), place: Vec::new() }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<InvalidJob> for Failure {
    fn from(error: InvalidJob) -> Failure {
        Failure::usage(error.to_string())
    }
}
