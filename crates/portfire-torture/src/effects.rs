//! The jobs, and the effects that they leave behind: lines in the log of the process that ran them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portfire::prelude::*;

use crate::AnyError;

/// The effect log of this process.
static LOG: OnceLock<File> = OnceLock::new();

/// The file that is there once the cause of failures is repaired.
static REPAIRED: OnceLock<PathBuf> = OnceLock::new();

/// Opens the effect log of this process.
pub(crate) fn open(path: &Path) -> Result<(), AnyError> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let _ = REPAIRED.set(path.with_file_name(REPAIRED_NAME));
    LOG.set(file).map_err(|_| "the effect log is open already".into())
}

const REPAIRED_NAME: &str = "repaired";

/// Repairs the cause of all failures: from now on no [`step`] fails.
pub(crate) fn repair(directory: &Path) -> Result<(), AnyError> {
    File::create(directory.join(REPAIRED_NAME))?;
    Ok(())
}

fn is_repaired() -> bool {
    REPAIRED.get().is_some_and(|file| file.exists())
}

/// The effect log of the server with this number.
pub(crate) fn path(directory: &Path, server: u64) -> PathBuf {
    directory.join(format!("server-{server}.effects"))
}

/// The present on the host's clock, which all its processes share, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Leaves a line behind, whole or not at all: one write is not cut in two by a kill, and lines do not mix.
fn leave(line: &str) -> Result<(), std::io::Error> {
    let mut log = LOG.get().ok_or_else(|| std::io::Error::other("no effect log"))?;
    log.write_all(format!("{line}\n").as_bytes())
}

/// Leaves its number behind.
#[job]
pub(crate) async fn mark(number: u64) -> Result<(), std::io::Error> {
    leave(&number.to_string())
}

/// How long a run of a recurring job goes on after its effect: some are met by a kill, and run again.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// A run of a recurring job: leaves behind of which, for which instant, and which job it is.
#[job]
pub(crate) async fn occur(cx: &JobContext) -> Result<(), JobError> {
    let tick = cx.tick();
    let recurring =
        tick.recurring.ok_or_else(|| JobError::permanent("no recurring job fired it"))?;
    let planned = tick.nominal.as_micros();
    leave(&format!("{recurring} {planned} {}", cx.id()))?;
    tokio::time::sleep(AFTERWARDS).await;
    Ok(())
}

/// A step of something larger: leaves behind when it began and when it ended. It may fail until the cause is repaired.
#[job]
pub(crate) async fn step(millis: u64, fails: bool, cx: &JobContext) -> Result<(), JobError> {
    let (id, attempt) = (cx.id(), cx.attempt());
    leave(&format!("begin {id} {attempt} {}", now()))?;
    tokio::time::sleep(Duration::from_millis(millis)).await;
    leave(&format!("end {id} {attempt} {}", now()))?;
    match fails && !is_repaired() {
        true => Err(JobError::permanent("it was to fail")),
        false => Ok(()),
    }
}

/// Leaves its number behind after a while; or kills its process at once, in one of two ways.
#[job]
pub(crate) async fn risk(number: u64, millis: u64, kills: bool) -> Result<(), std::io::Error> {
    match (kills, number % 2) {
        (true, 0) => std::process::abort(),
        (true, _) => std::process::exit(3),
        (false, _) => {}
    }
    tokio::time::sleep(Duration::from_millis(millis)).await;
    leave(&number.to_string())
}

/// The lines of all effect logs of a directory, each with the number of its server.
pub(crate) fn lines(directory: &Path) -> Result<Vec<(u64, String)>, AnyError> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "effects") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let server = name.strip_prefix("server-").and_then(|number| number.parse().ok());
        let server = server.ok_or_else(|| format!("{} has no number", path.display()))?;
        let text = std::fs::read_to_string(&path)?;
        lines.extend(text.lines().map(|line| (server, line.to_owned())));
    }
    Ok(lines)
}

/// The numbers that [`mark`] left behind, in no order.
pub(crate) fn numbers(directory: &Path) -> Result<Vec<u64>, AnyError> {
    let number = |(server, line): (u64, String)| {
        line.parse().map_err(|_| format!("`{line}` in the log of server {server}").into())
    };
    lines(directory)?.into_iter().map(number).collect()
}
