//! Why a command did not do what it was asked, and the exit code that says so.

use std::fmt;
use std::io::{self, Write};

use portfire_core::{ClientError, InvalidJob, StorageError};
use serde::Serialize;

use crate::answer;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    place: Vec<String>,
    /// Whether the answer for programs says it already.
    told: bool,
}

/// A failure, for programs.
#[derive(Serialize)]
struct Told<'a> {
    error: ToldError<'a>,
}

#[derive(Serialize)]
struct ToldError<'a> {
    /// `usage` or `failed`.
    kind: &'static str,
    message: &'a str,
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
        Failure::of(Kind::Usage, message.into())
    }

    /// The command was understood and could not be done.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure::of(Kind::Failed, message.into())
    }

    fn of(kind: Kind, message: String) -> Failure {
        Failure { kind, message, place: Vec::new(), told: false }
    }

    /// With the lines that show where the fault is, to stand under the message.
    #[must_use]
    pub fn with_place(self, place: Vec<String>) -> Failure {
        Failure { place, ..self }
    }

    /// For what the answer for programs has said in its own way: nothing is added to that.
    #[must_use]
    pub(crate) fn told(self) -> Failure {
        Failure { told: true, ..self }
    }

    /// Writes the failure as an answer for programs, unless the answer before has said it.
    pub(crate) fn tell(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let kind = match self.kind {
            Kind::Usage => "usage",
            Kind::Failed => "failed",
            Kind::OutputClosed => return Ok(()),
        };
        if self.told {
            return Ok(());
        }
        answer::json(&Told { error: ToldError { kind, message: &self.message } }, out)
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
        Failure::of(kind, error.to_string())
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
