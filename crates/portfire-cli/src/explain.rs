//! `portfire explain` and `portfire problems`: why a job does not run, and what keeps any from running.

use std::io::Write;

use portfire_core::Storage;
use portfire_core::explain::explain;
use portfire_core::problems::problems;

use crate::answer;
use crate::escape;
use crate::failure::Failure;
use crate::jobs::find;

/// Says what holds a job back, in the order in which it has to be overcome, and when it starts.
pub(crate) async fn job(
    storage: &dyn Storage,
    id: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = find(storage, id).await?.id;
    let explanation = explain(storage, id).await?;
    // It may have been cleaned since it was found.
    let gone = || Failure::new(format!("there is no job `{id}` any more"));
    let explanation = explanation.ok_or_else(gone)?;
    if json {
        return answer::json(&explanation, out);
    }
    writeln!(out, "{id} is {}", explanation.state)?;
    for reason in &explanation.reasons {
        writeln!(out, "- {}", escape::plain(&reason.to_string()))?;
    }
    if let Some(start) = &explanation.start {
        writeln!(out, "{}", escape::plain(&start.to_string()))?;
    }
    Ok(())
}

/// Says what keeps jobs from running, or may, a line each. With `fail` any is a failure.
pub(crate) async fn all(
    storage: &dyn Storage,
    fail: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let problems = problems(storage).await?;
    if json {
        answer::json(&problems, out)?;
    } else if problems.is_empty() {
        writeln!(out, "No problems.")?;
    } else {
        for problem in &problems {
            writeln!(out, "{}", escape::plain(&problem.to_string()))?;
        }
    }
    match problems.len() {
        0 => Ok(()),
        _ if !fail => Ok(()),
        1 => Err(Failure::new("there is a problem").told()),
        count => Err(Failure::new(format!("there are {count} problems")).told()),
    }
}
