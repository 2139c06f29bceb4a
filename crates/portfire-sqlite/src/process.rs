//! The lock file by which others on the host see that this process lives.
//!
//! The operating system releases the lock when the process ends, however it ends, so its servers can
//! be declared dead at once instead of at the end of their leases. Where there is no lock file, for
//! instance because someone removed it, the lease decides alone.

use std::cell::RefCell;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files without a lock that are younger may belong to a process that has yet to lock its own.
const STRAY_AFTER: Duration = Duration::from_secs(60);

/// This process, as it shows itself beside one database file.
#[derive(Debug)]
pub(crate) struct Process {
    database: PathBuf,
    /// Whether a process that holds its lock counts as alive when its lease has lapsed.
    vouches: bool,
    lock: Option<Lock>,
    /// Lock files of processes that were found to have ended in the present transaction.
    ended: RefCell<Vec<PathBuf>>,
}

#[derive(Debug)]
struct Lock {
    name: String,
    path: PathBuf,
    /// Holds the lock until it is closed.
    file: Option<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Who ends in good order leaves nothing behind; whoever does not is cleaned up after. Some
        // systems remove no file that is open.
        drop(self.file.take());
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Process {
    /// This process beside a database. `vouches` unless leases lapse in the moved time of a test: then a lock says
    /// nothing about whether the server is to have crashed.
    pub(crate) fn new(database: &Path, vouches: bool) -> Process {
        let database = database.to_path_buf();
        Process { database, vouches, lock: None, ended: RefCell::default() }
    }

    /// The name under which the servers of this process are stored; takes the lock at first.
    pub(crate) fn name(&mut self) -> Option<&str> {
        if self.lock.is_none() {
            match take_lock(&self.database) {
                Ok(lock) => self.lock = Some(lock),
                Err(error) => {
                    tracing::debug!(%error, "no lock file; a crash is noticed by the lease alone");
                }
            }
        }
        self.lock.as_ref().map(|lock| lock.name.as_str())
    }

    /// Whether the process with this name has ended for sure.
    pub(crate) fn has_ended(&self, name: &str) -> bool {
        let is_own = self.lock.as_ref().is_some_and(|lock| lock.name == name);
        !is_own && lock_path(&self.database, name).is_some_and(|path| is_free(&path))
    }

    /// Whether the process with this name lives for sure: its lease lapsed, and it has not crashed.
    pub(crate) fn lives(&self, name: &str) -> bool {
        let is_own = self.lock.as_ref().is_some_and(|lock| lock.name == name);
        let held = || lock_path(&self.database, name).is_some_and(|path| is_held(&path));
        self.vouches && (is_own || held())
    }

    /// Removes the lock file of a process that has ended once the present transaction commits.
    pub(crate) fn remove_later(&self, name: &str) {
        self.ended.borrow_mut().extend(lock_path(&self.database, name));
    }

    /// Removes lock files that processes left behind whose servers were declared dead by their leases.
    /// `living` are the names that servers which are alive still bear.
    pub(crate) fn remove_strays(&self, living: &[String]) {
        let Some(file) = self.database.file_name().and_then(|name| name.to_str()) else { return };
        let folder = match self.database.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let prefix = format!("{file}-process-");
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let name = file_name.to_str().and_then(|name| name.strip_prefix(&prefix));
            let is_stray = name.is_some_and(|name| !living.iter().any(|living| living == name));
            if is_stray && is_old(&entry) && is_free(&entry.path()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the lock files of processes whose servers were declared dead, after the commit.
    pub(crate) fn remove_ended(&mut self) {
        for path in self.ended.get_mut().drain(..) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn take_lock(database: &Path) -> std::io::Result<Lock> {
    let name = format!("{:016x}", crate::random());
    let Some(path) = lock_path(database, &name) else {
        return Err(std::io::Error::other("the database path has no file name"));
    };
    let mut options = OpenOptions::new();
    // A new file is made: a link that someone put there is not followed.
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(&path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => std::io::Error::other("a new lock file is locked already"),
    })?;
    Ok(Lock { name, path, file: Some(file) })
}

/// The lock file of a name that came from the database, which may hold anything.
fn lock_path(database: &Path, name: &str) -> Option<PathBuf> {
    let legal = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut file = database.file_name()?.to_os_string();
    file.push("-process-");
    file.push(name);
    legal.then(|| database.with_file_name(file))
}

/// Whether there is a lock file that nobody holds.
fn is_free(path: &Path) -> bool {
    let Ok(about) = std::fs::symlink_metadata(path) else { return false };
    if !about.is_file() {
        return false;
    }
    // Opened for reading, which is enough for a lock and cannot change the file. A shared lock, so that two who look
    // at once do not take one another for the owner.
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// Whether there is a lock file that its owner holds.
fn is_held(path: &Path) -> bool {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
    let taken = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_file && File::open(path).is_ok_and(taken)
}

fn is_old(entry: &std::fs::DirEntry) -> bool {
    let age = entry.metadata().and_then(|about| about.modified()).map(|at| at.elapsed());
    matches!(age, Ok(Ok(age)) if age > STRAY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_as_long_as_it_holds_its_lock_and_vouches_only_if_it_is_to() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("jobs.db");
        let mut owner = Process::new(&database, true);
        let name = owner.name().expect("a lock file").to_owned();
        let (other, mute) = (Process::new(&database, true), Process::new(&database, false));
        assert!(owner.lives(&name) && other.lives(&name) && !mute.lives(&name));
        assert!(!owner.has_ended(&name) && !other.has_ended(&name));
        // Its end, without the order in which it removes the file.
        owner.lock.as_mut().unwrap().file = None;
        assert!(other.has_ended(&name) && !other.lives(&name));
        drop(owner);
        assert!(!other.has_ended(&name) && !other.lives(&name), "nothing is known without a file");
    }
}
