//! `portfire migrate`: makes a storage, or brings it to the form that this version writes.
//!
//! Programs do the same when they open a storage; this is for those who want it done, or read, first.

use std::io::Write;

use portfire::sqlite::migrations;
use serde::Serialize;

use crate::answer;
use crate::command::MigrateArgs;
use crate::escape;
use crate::failure::Failure;
use crate::location::{Location, Missing};

/// What the command did.
#[derive(Serialize)]
struct Migrated {
    storage: String,
    /// The number of the last step that the storage has now.
    version: u32,
}

/// One step, for `--print --json`.
#[derive(Serialize)]
struct Step {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

pub(crate) async fn run(
    location: &Location,
    args: &MigrateArgs,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    if location.file().is_none() && !location.is_anywhere() {
        return Err(Failure::usage(format!("`{location}` has no tables to migrate")));
    }
    if args.print {
        return print(json, out);
    }
    location.open(Missing::Create).await?;
    let version = migrations().last().map_or(0, |last| last.version);
    let migrated = Migrated { storage: location.to_string(), version };
    if json {
        return answer::json(&migrated, out);
    }
    writeln!(out, "{} is at version {version}", escape::plain(&migrated.storage))?;
    Ok(())
}

fn print(json: bool, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    for step in migrations() {
        let (version, name, sql) = (step.version, step.name, step.sql);
        if json {
            answer::json(&Step { version, name, sql }, out)?;
        } else {
            writeln!(out, "-- Step {version}: {name}\n{}\n", sql.trim_end())?;
        }
    }
    Ok(())
}
