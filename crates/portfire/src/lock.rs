//! `jobs.lock`: what stored jobs look like, committed beside the code, so that a change that could not
//! read jobs that still wait fails a test.
//!
//! [`export`] writes it; [`assert_compatible!`](crate::assert_compatible) compares it with the jobs that
//! are linked into the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use portfire_server::JobDescriptor;
use portfire_server::handler::linked_jobs;
use serde::{Deserialize, Serialize};

/// Set this variable to `update` to write the file instead of comparing it.
pub const UPDATE_VARIABLE: &str = "PORTFIRE_LOCK";

const FORMAT: u32 = 1;

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    /// The version of this file's own format.
    format: u32,
    kinds: BTreeMap<String, Kind>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    version: u32,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    aliases: BTreeSet<String>,
    params: BTreeMap<String, Param>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Param {
    #[serde(rename = "type")]
    ty: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    aliases: BTreeSet<String>,
}

/// The text of `jobs.lock` for all jobs that are linked into this program: JSON, by kind and by
/// parameter, each sorted, so that it changes only when a job does.
pub fn export() -> String {
    export_of(&linked_jobs())
}

/// As [`export`], for these jobs.
pub fn export_of(jobs: &[&JobDescriptor]) -> String {
    let lock = Lock::of(jobs);
    // A map with text keys always serialises.
    let mut text = serde_json::to_string_pretty(&lock).unwrap_or_default();
    text.push('\n');
    text
}

/// Compares the text of a `jobs.lock` with all jobs that are linked into this program.
///
/// # Errors
/// [`Incompatible`] with everything that stands in the way.
pub fn check(text: &str) -> Result<(), Incompatible> {
    check_of(text, &linked_jobs())
}

/// As [`check`], for these jobs.
///
/// # Errors
/// As there.
pub fn check_of(text: &str, jobs: &[&JobDescriptor]) -> Result<(), Incompatible> {
    let locked: Lock = serde_json::from_str(text)
        .map_err(|error| Incompatible::Unreadable { reason: error.to_string() })?;
    if locked.format != FORMAT {
        let reason = format!("its format is {}, and this version knows {FORMAT}", locked.format);
        return Err(Incompatible::Unreadable { reason });
    }
    let present = Lock::of(jobs);
    let breaks = breaks(&locked, &present);
    if !breaks.is_empty() {
        return Err(Incompatible::Breaking(breaks));
    }
    if locked == present {
        return Ok(());
    }
    let news = news(&locked, &present);
    Err(Incompatible::OutOfDate(news))
}

/// Why a `jobs.lock` does not fit the program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incompatible {
    /// Jobs that are stored could not be read any more: one text for each change, with its cure.
    Breaking(Vec<String>),
    /// Stored jobs can all be read, but the file lacks what is new, and so would not protect it.
    OutOfDate(Vec<String>),
    /// The file is not one that [`export`] writes.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, changes: &[String]| {
            changes.iter().try_for_each(|change| write!(f, "\n- {change}"))
        };
        match self {
            Incompatible::Breaking(changes) => {
                f.write_str("jobs that are stored by now could not be read after these changes:")?;
                list(f, changes)
            }
            Incompatible::OutOfDate(changes) => {
                f.write_str("stored jobs can be read, but the file does not know yet:")?;
                list(f, changes)
            }
            Incompatible::Unreadable { reason } => write!(f, "the file cannot be read: {reason}"),
        }
    }
}

impl std::error::Error for Incompatible {}

impl Lock {
    fn of(jobs: &[&JobDescriptor]) -> Lock {
        let kinds = jobs.iter().map(|job| (job.kind.to_owned(), Kind::of(job))).collect();
        Lock { format: FORMAT, kinds }
    }

    /// The kind that runs jobs stored under this name.
    fn find(&self, name: &str) -> Option<(&String, &Kind)> {
        let known = |(kind, job): &(&String, &Kind)| *kind == name || job.aliases.contains(name);
        self.kinds.get_key_value(name).or_else(|| self.kinds.iter().find(known))
    }
}

impl Kind {
    fn of(job: &JobDescriptor) -> Kind {
        let param = |shape: portfire_server::ParamShape| {
            let aliases = shape.aliases.iter().map(|&alias| alias.to_owned()).collect();
            let param = Param { ty: shape.ty.to_owned(), optional: shape.optional, aliases };
            (shape.name.to_owned(), param)
        };
        Kind {
            version: job.version,
            aliases: job.aliases.iter().map(|&alias| alias.to_owned()).collect(),
            params: (job.params)().into_iter().map(param).collect(),
        }
    }

    /// The parameter that reads what is stored under this name.
    fn find(&self, name: &str) -> Option<(&String, &Param)> {
        let known =
            |(param, shape): &(&String, &Param)| *param == name || shape.aliases.contains(name);
        self.params.get_key_value(name).or_else(|| self.params.iter().find(known))
    }
}

fn breaks(locked: &Lock, present: &Lock) -> Vec<String> {
    let mut breaks = Vec::new();
    for (name, kind) in &locked.kinds {
        for old in std::iter::once(name).chain(&kind.aliases) {
            if present.find(old).is_none() {
                breaks.push(format!(
                    "`{old}` has no handler any more: keep the job, or add `aliases(\"{old}\")` to the `#[job]` that takes over its jobs; if none can be stored any more, export again"
                ));
            }
        }
        if let Some((_, now)) = present.find(name) {
            compare_kinds(name, kind, now, &mut breaks);
        }
    }
    breaks
}

fn compare_kinds(name: &str, was: &Kind, now: &Kind, breaks: &mut Vec<String>) {
    if now.version < was.version {
        breaks.push(format!(
            "`{name}` went back from version {} to {}: a version only rises",
            was.version, now.version
        ));
    }
    // `migrate` answers for everything between the two versions.
    if now.version != was.version {
        return;
    }
    for (param, shape) in &was.params {
        match now.find(param) {
            Some((_, found)) => compare_params(name, param, shape, found, breaks),
            None if shape.optional => {}
            None => breaks.push(format!(
                "`{name}`: the parameter `{param}: {}` is gone: stored values of it would be ignored; \
                 if it was renamed, put `#[arg(alias = \"{param}\")]` on the new one; if nobody needs it, \
                 keep it as `#[arg(default)] {param}: {}`, or raise `version` with `migrate`",
                shape.ty,
                owned(&shape.ty)
            )),
        }
    }
    for (param, shape) in &now.params {
        let known = was.params.contains_key(param)
            || shape.aliases.iter().any(|alias| was.params.contains_key(alias));
        if !known && !shape.optional {
            breaks.push(format!(
                "`{name}`: the parameter `{param}: {}` is new, and stored jobs lack it: make it \
                 `Option<{}>` or `#[arg(default)]`, or raise `version` with `migrate`",
                shape.ty,
                owned(&shape.ty)
            ));
        }
    }
}

fn compare_params(name: &str, param: &str, was: &Param, now: &Param, breaks: &mut Vec<String>) {
    if was.optional && !now.optional {
        breaks.push(format!(
            "`{name}`: the parameter `{param}` must be there now, and stored jobs may lack it: make it \
             `Option<{}>` or `#[arg(default)]` again, or raise `version` with `migrate`",
            owned(&now.ty)
        ));
    }
    if !readable(&owned(&was.ty), &owned(&now.ty)) {
        breaks.push(format!(
            "`{name}`: the parameter `{param}` was `{}` and is `{}`: go back to the old type, add a new \
             optional parameter beside it, or raise `version` with `migrate`; if the JSON of both is the \
             same, export again",
            was.ty, now.ty
        ));
    }
}

/// Whether JSON that was written from one type can be read as another, as far as their names tell.
fn readable(was: &str, now: &str) -> bool {
    if was == now {
        return true;
    }
    match (inner_option(was), inner_option(now)) {
        (Some(was), Some(now)) => readable(was, now),
        // Every value of the old type is some value of the new one.
        (None, Some(now)) => readable(was, now),
        (Some(_), None) => false,
        (None, None) => is_wider(was, now),
    }
}

fn inner_option(ty: &str) -> Option<&str> {
    ty.strip_prefix("Option<")?.strip_suffix('>')
}

/// Whether every number of one type is one of the other.
fn is_wider(was: &str, now: &str) -> bool {
    let bits = |ty: &str| match ty {
        "usize" | "isize" => Some(64),
        _ => ty.get(1..)?.parse::<u32>().ok(),
    };
    let (Some(was_bits), Some(now_bits)) = (bits(was), bits(now)) else { return false };
    match (was.as_bytes()[0], now.as_bytes()[0]) {
        (b'u', b'u') | (b'i', b'i') | (b'f', b'f') => now_bits >= was_bits,
        (b'u', b'i') => now_bits > was_bits,
        _ => false,
    }
}

/// The type as it is stored: without references, in one spelling.
fn owned(ty: &str) -> String {
    let ty: String = ty.split_whitespace().collect::<Vec<_>>().join(" ");
    let ty = ty.replace("std::string::", "").replace("std::vec::", "").replace("std::option::", "");
    let ty = ty.replace("Cow<'static, str>", "String");
    if let Some(inner) = inner_option(&ty) {
        return format!("Option<{}>", owned(inner));
    }
    let Some(target) = ty.strip_prefix('&') else { return ty };
    match target.trim_start() {
        "str" => "String".to_owned(),
        "Path" | "std::path::Path" => "PathBuf".to_owned(),
        list if list.starts_with('[') && list.ends_with(']') && !list.contains(';') => {
            format!("Vec<{}>", &list[1..list.len() - 1])
        }
        sized => sized.to_owned(),
    }
}

fn news(locked: &Lock, present: &Lock) -> Vec<String> {
    let mut news = Vec::new();
    for (name, kind) in &present.kinds {
        match locked.kinds.get(name) {
            None => news.push(format!("the kind `{name}`")),
            Some(was) if was != kind => news.push(format!("what changed in `{name}`")),
            Some(_) => {}
        }
    }
    if news.is_empty() {
        news.push("that some kinds go by other names now".to_owned());
    }
    news
}

/// The work of [`assert_compatible!`](crate::assert_compatible).
#[doc(hidden)]
#[track_caller]
pub fn assert_file(manifest_dir: &str, file: &str) {
    let path = Path::new(manifest_dir).join(file);
    let done = match std::env::var_os(UPDATE_VARIABLE) {
        Some(value) if value == "update" => write_file(&path),
        _ => compare_file(&path),
    };
    if let Err(reason) = done {
        panic!("{}: {reason}", path.display());
    }
}

fn write_file(path: &Path) -> Result<(), String> {
    std::fs::write(path, export()).map_err(|error| format!("it cannot be written: {error}"))
}

fn compare_file(path: &Path) -> Result<(), String> {
    let write = format!("write it with `{UPDATE_VARIABLE}=update cargo test` and commit it");
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("it cannot be read: {error}\n{write}"))?;
    check(&text).map_err(|mismatch| match mismatch {
        Incompatible::Breaking(_) => {
            format!("{mismatch}\nonce no such job can be stored any more, {write}")
        }
        _ => format!("{mismatch}\n{write}"),
    })
}

/// Fails a test when the jobs of the program could not read what programs of the committed
/// `jobs.lock` have stored. The path counts from the crate's `Cargo.toml`.
///
/// ```no_run
/// #[test]
/// fn stored_jobs_stay_readable() {
///     portfire::assert_compatible!("jobs.lock");
/// }
/// ```
///
/// Breaking are: a kind without handler or alias; a required parameter that is gone, renamed without
/// alias, new, or no longer optional; another type. A raised `version` with `migrate` allows all but
/// the first. The message names each, with its cure. New jobs and parameters must be in the file too,
/// else it could not protect them: `PORTFIRE_LOCK=update cargo test` writes it.
#[macro_export]
macro_rules! assert_compatible {
    ($file:expr $(,)?) => {
        $crate::lock::assert_file(::std::env!("CARGO_MANIFEST_DIR"), $file)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.lock");
        let missing = compare_file(&path).unwrap_err();
        assert!(missing.contains("cannot be read") && missing.contains("PORTFIRE_LOCK=update"));
        write_file(&path).unwrap();
        assert_eq!(compare_file(&path), Ok(()));
        let nowhere = write_file(&dir.path().join("no/such/jobs.lock")).unwrap_err();
        assert!(nowhere.contains("cannot be written"), "{nowhere}");
    }

    #[test]
    fn numbers_may_grow_and_not_shrink() {
        for (was, now) in
            [("u8", "u16"), ("u8", "i16"), ("i32", "i64"), ("f32", "f64"), ("u32", "usize")]
        {
            assert!(is_wider(was, now), "{was} {now}");
            assert!(!is_wider(now, was), "{now} {was}");
        }
        assert!(!is_wider("u64", "f64") && !is_wider("String", "u8") && !is_wider("é", "u8"));
    }
}
