//! The folder of the shop's results: whole files only, under their final names.
//!
//! A file is written under a passing name, forced to disk, and then renamed. Whoever looks sees the
//! whole file or none, however often the process is killed; and writing it again puts the same file
//! in the same place. That makes a handler that writes a file idempotent.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::file_stem;

/// The folder with `mail`, `invoices` and, while something is being written, `tmp`.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    written: AtomicU64,
}

impl Files {
    /// Opens the folder, making what is missing.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path) -> io::Result<Files> {
        let files = Files { root: root.to_owned(), written: AtomicU64::new(0) };
        for folder in [files.mail(), files.invoices(), files.passing()] {
            fs::create_dir_all(folder)?;
        }
        Ok(files)
    }

    /// Where the e-mails are.
    pub fn mail(&self) -> PathBuf {
        self.root.join("mail")
    }

    /// Where the invoices are.
    pub fn invoices(&self) -> PathBuf {
        self.root.join("invoices")
    }

    /// Where unfinished files are; on the same file system, since a rename cannot cross one.
    pub fn passing(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The file of an e-mail.
    pub fn mail_file(&self, key: &str) -> PathBuf {
        self.mail().join(format!("{}.eml", file_stem(key)))
    }

    /// The file of an invoice.
    pub fn invoice_file(&self, order_id: &str) -> PathBuf {
        self.invoices().join(format!("{}.html", file_stem(order_id)))
    }

    /// Writes a whole file, in place of one that is there.
    ///
    /// # Errors
    /// When the disk refuses; the final name is then untouched.
    pub fn write(&self, to: &Path, content: &str) -> io::Result<()> {
        let serial = self.written.fetch_add(1, Ordering::Relaxed);
        let passing = self.passing().join(format!("{}-{serial}", std::process::id()));
        let mut file = File::create(&passing)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        drop(file);
        rename(&passing, to)
    }

    /// Gives a file that somebody else wrote into [`passing`](Self::passing) its final name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn adopt(&self, passing: &Path, to: &Path) -> io::Result<()> {
        File::options().write(true).open(passing)?.sync_all()?;
        rename(passing, to)
    }

    /// Removes what killed processes left unfinished. Only for when no job is running anywhere.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.passing())? {
            // Another process may sweep as well.
            let _ = fs::remove_file(entry?.path());
        }
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    // The new name itself must survive a power cut before anybody records that the file is there.
    // Elsewhere than on Unix a folder cannot be opened for that, and the file system sees to it.
    #[cfg(unix)]
    if let Some(folder) = to.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_twice_is_one_file() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(root.path()).unwrap();
        let to = files.invoice_file("2026/17");
        files.write(&to, "first").unwrap();
        files.write(&to, "second").unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "second");
        assert_eq!(fs::read_dir(files.invoices()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(files.passing()).unwrap().count(), 0);
    }

    #[test]
    fn sweeping_removes_only_what_is_unfinished() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(root.path()).unwrap();
        files.write(&files.mail_file("welcome-1"), "x").unwrap();
        fs::write(files.passing().join("1-1"), "half").unwrap();
        files.sweep().unwrap();
        assert_eq!(fs::read_dir(files.passing()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(files.mail()).unwrap().count(), 1);
    }
}
