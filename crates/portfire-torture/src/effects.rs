//! The job, and the effect that it leaves behind: a line with its number.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use portfire::prelude::*;

use crate::AnyError;

/// The effect log of this process.
static LOG: OnceLock<File> = OnceLock::new();

/// Opens the effect log of this process.
pub(crate) fn open(path: &Path) -> Result<(), AnyError> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    LOG.set(file).map_err(|_| "the effect log is open already".into())
}

/// Leaves its number behind.
#[job]
pub(crate) async fn mark(number: u64) -> Result<(), std::io::Error> {
    let mut log = LOG.get().ok_or_else(|| std::io::Error::other("no effect log"))?;
    // One write for a whole line: a kill leaves the line or none of it, and lines do not mix.
    log.write_all(format!("{number}\n").as_bytes())
}

/// The numbers in the effect logs of a directory, in no order.
pub(crate) fn read(directory: &Path) -> Result<Vec<u64>, AnyError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "effects") {
            for line in std::fs::read_to_string(&path)?.lines() {
                let number = line.parse();
                numbers.push(number.map_err(|_| format!("{}: `{line}`", path.display()))?);
            }
        }
    }
    Ok(numbers)
}
