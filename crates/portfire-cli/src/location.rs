//! Where a storage is, as the command line says it: `sqlite://app.db`, `memory:`.
//!
//! The text may hold a password, so it is never shown as it was given; [`Location`] shows itself with
//! its secrets masked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portfire_core::Storage;
use rusqlite::{Connection, OpenFlags};

use crate::failure::Failure;

/// Where a storage is.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    url: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Memory,
    Sqlite(PathBuf),
    /// `sqlite:` alone: a new file that nobody else knows.
    SqliteAnywhere,
}

/// Whether a storage that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error. For commands that look.
    Refuse,
    /// It is made. For commands that write the first thing.
    Create,
}

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    /// A usage failure that names the schemes this program knows.
    pub fn parse(url: &str) -> Result<Location, Failure> {
        let place = match url.split_once(':') {
            Some(("memory", _)) => Place::Memory,
            Some(("sqlite", rest)) => match rest.strip_prefix("//").unwrap_or(rest) {
                "" => Place::SqliteAnywhere,
                // Paths of Windows may begin with `\\?\`.
                path => match path.strip_prefix(r"\\?\").unwrap_or(path).split_once('?') {
                    Some((file, _)) => {
                        return Err(Failure::usage(format!(
                            "`sqlite://{file}?…`: no settings are read from a URL: write `sqlite://{file}`"
                        )));
                    }
                    None => Place::Sqlite(PathBuf::from(path)),
                },
            },
            Some((scheme, _)) if is_scheme(scheme) => {
                return Err(Failure::usage(format!(
                    "`{}`: this program has no storage for `{scheme}:`; it has `sqlite://FILE` and `memory:`",
                    masked(url)
                )));
            }
            _ => {
                let shown = masked(url);
                return Err(Failure::usage(format!(
                    "`{shown}` is not the URL of a storage: for an SQLite file write `sqlite://{shown}`"
                )));
            }
        };
        Ok(Location { url: url.to_owned(), place })
    }

    /// The location of an SQLite file.
    pub fn sqlite(path: &Path) -> Location {
        let url = format!("sqlite://{}", path.display());
        Location { url, place: Place::Sqlite(path.to_owned()) }
    }

    /// The file, when the storage is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::Sqlite(path) => Some(path),
            Place::Memory | Place::SqliteAnywhere => None,
        }
    }

    /// Whether a new file is asked for that nobody else knows.
    pub fn is_anywhere(&self) -> bool {
        self.place == Place::SqliteAnywhere
    }

    /// Whether other processes can open it, too.
    pub fn is_shared(&self) -> bool {
        matches!(self.place, Place::Sqlite(_))
    }

    /// The text to hand to another process.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens the storage.
    ///
    /// # Errors
    /// A failure that says what is wrong with the storage and where, secrets masked.
    pub async fn open(&self, missing: Missing) -> Result<Arc<dyn Storage>, Failure> {
        if self.is_anywhere() {
            return Err(Failure::usage("`sqlite:` names no file: write `sqlite://FILE`"));
        }
        if let (Some(path), Missing::Refuse) = (self.file(), missing) {
            refuse_to_make(path)?;
        }
        portfire::open(&self.url)
            .await
            .map_err(|error| Failure::new(error.to_string().replace(&self.url, &masked(&self.url))))
    }
}

/// Opening a database makes the tables that it lacks. Who only looks is not to make any, least of all
/// in a database of some other program's.
fn refuse_to_make(path: &Path) -> Result<(), Failure> {
    if !path.exists() {
        return Err(Failure::new(format!("`{}`: there is no such file", path.display())));
    }
    let has_tables = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let select = "select 1 from sqlite_schema where name = 'portfire_schema'";
        connection.prepare(select)?.exists([])
    };
    match has_tables() {
        Ok(false) => Err(Failure::new(format!(
            "`{}` has no tables of Portfire's; `portfire migrate` makes them",
            path.display()
        ))),
        // What cannot be read here is explained by those who open it for good.
        Ok(true) | Err(_) => Ok(()),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.url))
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A word before a colon; one letter is a drive of Windows.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The URL without the secrets in it: a password before the host, and values of parameters whose
/// names speak of secrets.
pub fn masked(url: &str) -> String {
    let shown = mask_password(url);
    let Some((base, query)) = shown.split_once('?') else { return shown };
    let parameters: Vec<String> = query.split('&').map(mask_parameter).collect();
    format!("{base}?{}", parameters.join("&"))
}

fn mask_password(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let (scheme, rest) = match url.find("://") {
        Some(at) => url.split_at(at + "://".len()),
        None => ("", url),
    };
    // Up to the last `@`: people put unescaped `@`, `/` and `?` into passwords. That may mask more
    // than the password, never less.
    match rest.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((name, host)) => format!("{scheme}{name}:***@{host}"),
        None => url.to_owned(),
    }
}

fn mask_parameter(parameter: &str) -> String {
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["pass", "secret", "token", "key", "credential"].iter().any(|word| name.contains(word))
    };
    match parameter.split_once('=') {
        Some((name, _)) if secret(name) => format!("{name}=***"),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_url() {
        let file = |url: &str| Location::parse(url).unwrap().file().map(Path::to_owned);
        assert_eq!(file("sqlite:app.db"), Some(PathBuf::from("app.db")));
        assert_eq!(file("sqlite://app.db"), Some(PathBuf::from("app.db")));
        assert_eq!(file("sqlite:///var/app.db"), Some(PathBuf::from("/var/app.db")));
        assert!(Location::parse("sqlite:").unwrap().is_anywhere());
        assert!(!Location::parse("memory:").unwrap().is_shared());
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_right_one() {
        let refusal = Location::parse("app.db").unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        assert!(refusal.to_string().contains("`sqlite://app.db`"), "{refusal}");
    }

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://me:s3cret@host/db", "postgres://me:***@host/db"),
            ("postgres://me:s3c/r@et@host/db", "postgres://me:***@host/db"),
            ("postgres://me@host/db?password=s3cret&a=1", "postgres://me@host/db?password=***&a=1"),
            ("postgres://me:s3?cret@host/db", "postgres://me:***@host/db"),
            ("me:s3cret@host", "me:***@host"),
            ("redis://:s3cret@host", "redis://:***@host"),
            ("https://host/jobs?auth_token=s3cret", "https://host/jobs?auth_token=***"),
            ("sqlite://a@b/app.db", "sqlite://a@b/app.db"),
        ] {
            assert_eq!(masked(url), shown);
            if let Err(refusal) = Location::parse(url) {
                assert!(!refusal.to_string().contains("s3"), "{refusal}");
            }
        }
    }
}
