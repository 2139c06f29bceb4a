//! Answers for programs: one line of JSON each.

use std::io::Write;

use serde::Serialize;

use crate::escape;
use crate::failure::Failure;

/// Writes a value as one line of JSON that is safe to show on a terminal.
pub(crate) fn json<T: Serialize>(value: &T, out: &mut dyn Write) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(format!("the answer cannot be written as JSON: {error}")))?;
    writeln!(out, "{}", escape::json(&text))?;
    Ok(())
}
