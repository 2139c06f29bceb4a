//! A database for one measurement, on a real disk, gone afterwards.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::location::Location;

/// A new directory with room for a database. Dropping it removes both.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
    location: Location,
}

impl Scratch {
    pub(super) fn new() -> Result<Scratch, Failure> {
        let place = place();
        let now = super::probe::now();
        let directory = place.join(format!("portfire-bench-{}-{now:x}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| {
            Failure::new(format!("no directory for a database in `{}`: {error}", place.display()))
        })?;
        let location = Location::sqlite(&directory.join("bench.db"));
        Ok(Scratch { directory, location })
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The system's directory for such things, unless that is in memory: there a commit costs nothing.
fn place() -> PathBuf {
    let temporary = std::env::temp_dir();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    match (is_in_memory(&temporary, &mounts), std::env::current_dir()) {
        (true, Ok(current)) => current,
        _ => temporary,
    }
}

/// Whether a path lies on a file system in memory, by the list of mounts that Linux keeps.
fn is_in_memory(path: &Path, mounts: &str) -> bool {
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let nearest = mounted
        .filter(|(at, _)| path.starts_with(at))
        .max_by_key(|(at, _)| Path::new(at).components().count());
    nearest.is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_in_memory_is_known_by_the_nearest_mount() {
        let mounts =
            "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk ext4 rw 0 0\n";
        assert!(is_in_memory(Path::new("/tmp/a"), mounts));
        assert!(!is_in_memory(Path::new("/tmp/disk/a"), mounts));
        assert!(!is_in_memory(Path::new("/var/tmp"), mounts));
        assert!(!is_in_memory(Path::new("/tmp"), ""));
    }

    #[test]
    fn nothing_is_left() {
        let scratch = Scratch::new().unwrap();
        let directory = scratch.directory.clone();
        assert!(directory.is_dir());
        drop(scratch);
        assert!(!directory.exists());
    }
}
