//! The file of the log, apart from SQLite: writing it again when it may not be on the disk.
//!
//! When a sync fails, Linux says so once to each open file, and takes the pages that it could not write
//! for clean: the next sync succeeds, and they are on no disk. Whoever opens the file later hears nothing.
//! So the same bytes are written again, which makes the pages dirty, and are synced. The checksums of the
//! log tell whether they still are the same: a page that was taken for clean may have been dropped, and
//! read anew from the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Frames that are read and written at a time.
const FRAMES: usize = 64;
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first bytes of a log; the last bit says which way round its checksums are.
const MAGIC: u32 = 0x377f_0682;

/// The file, or in tests something that fails as a disk does.
pub(crate) trait Medium {
    /// Reads as much as there is, up to the length of `into`.
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.seek(SeekFrom::Start(at))?;
        let mut filled = 0;
        while filled < into.len() {
            match Read::read(self, &mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Writes again what counts of a log, and syncs it. Answers how many frames are committed in it.
///
/// For the holder of the write lock, which has written nothing under it: nobody else writes to the file,
/// and those who read see the same bytes throughout.
pub(crate) fn write_again(log: &mut impl Medium) -> io::Result<u64> {
    let mut header = [0; HEADER];
    if log.read(0, &mut header)? < HEADER {
        return Ok(0);
    }
    let Some(mut chain) = Chain::begin(&header) else { return Ok(0) };
    log.write(0, &header)?;
    let mut frames = vec![0; FRAMES * chain.frame];
    let (mut at, mut seen, mut committed) = (HEADER as u64, 0, 0);
    loop {
        let read = log.read(at, &mut frames)?;
        let mut whole = 0;
        for frame in frames[..read].chunks_exact(chain.frame) {
            let Some(commits) = chain.take(frame) else { break };
            (whole, seen) = (whole + chain.frame, seen + 1);
            if commits {
                committed = seen;
            }
        }
        log.write(at, &frames[..whole])?;
        at += whole as u64;
        if whole < frames.len() {
            break;
        }
    }
    log.sync()?;
    Ok(committed)
}

/// The frames of one life of the log: each has the salt of the header, and a checksum over all before it.
struct Chain {
    /// Bytes of a frame.
    frame: usize,
    salt: [u8; 8],
    big: bool,
    sum: (u32, u32),
}

impl Chain {
    fn begin(header: &[u8; HEADER]) -> Option<Chain> {
        let magic = word(&header[..4]);
        let page = word(&header[8..12]) as usize;
        if magic & !1 != MAGIC || !page.is_power_of_two() || !(512..=65_536).contains(&page) {
            return None;
        }
        let salt = header[16..24].try_into().ok()?;
        let mut chain =
            Chain { frame: FRAME_HEADER + page, salt, big: magic & 1 == 1, sum: (0, 0) };
        chain.add(&header[..24]);
        chain.is_at(&header[24..]).then_some(chain)
    }

    /// Whether the next frame ends a commit; `None` when it is none of this life.
    fn take(&mut self, frame: &[u8]) -> Option<bool> {
        let (about, page) = frame.split_at(FRAME_HEADER);
        if about[8..16] != self.salt {
            return None;
        }
        self.add(&about[..8]);
        self.add(page);
        self.is_at(&about[16..]).then(|| word(&about[4..8]) != 0)
    }

    fn is_at(&self, sum: &[u8]) -> bool {
        (word(&sum[..4]), word(&sum[4..])) == self.sum
    }

    /// The checksum of sqlite.org/fileformat2.html, section 4.2.
    fn add(&mut self, bytes: &[u8]) {
        let (mut first, mut second) = self.sum;
        for pair in bytes.chunks_exact(8) {
            let [a, b, c, d, e, f, g, h] = *pair else { continue };
            let of = if self.big { u32::from_be_bytes } else { u32::from_le_bytes };
            first = first.wrapping_add(of([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(of([e, f, g, h])).wrapping_add(first);
        }
        self.sum = (first, second);
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A file behind a cache. A sync that fails takes what it has not written for clean, as Linux does.
    struct Cached {
        cache: Vec<u8>,
        disk: Vec<u8>,
        dirty: Vec<(usize, usize)>,
        fails: bool,
    }

    impl Medium for Cached {
        fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
            let from = self.cache.get(at as usize..).unwrap_or(&[]);
            let length = from.len().min(into.len());
            into[..length].copy_from_slice(&from[..length]);
            Ok(length)
        }

        fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
            let at = at as usize;
            self.cache[at..at + bytes.len()].copy_from_slice(bytes);
            self.dirty.push((at, at + bytes.len()));
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            for (from, to) in std::mem::take(&mut self.dirty) {
                if !self.fails {
                    self.disk[from..to].copy_from_slice(&self.cache[from..to]);
                }
            }
            if std::mem::take(&mut self.fails) { Err(io::Error::other("no disk")) } else { Ok(()) }
        }
    }

    /// The log of a few commits, and of a page that was written and never committed.
    fn log() -> (Vec<u8>, u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE row (text TEXT)",
        )
        .unwrap();
        for _ in 0..3 {
            conn.execute("INSERT INTO row VALUES (zeroblob(200000))", []).unwrap();
        }
        let look = "PRAGMA wal_checkpoint(NOOP)";
        let pages: i64 = conn.query_row(look, [], |row| row.get(1)).unwrap();
        conn.execute_batch(
            "PRAGMA cache_size = 5; BEGIN; INSERT INTO row VALUES (zeroblob(300000)); \
             UPDATE row SET text = zeroblob(200000); ROLLBACK",
        )
        .unwrap();
        (std::fs::read(folder.path().join("jobs.db-wal")).unwrap(), pages.cast_unsigned())
    }

    #[test]
    fn what_a_failed_sync_left_in_the_cache_comes_to_the_disk() {
        let (bytes, pages) = log();
        let frame = FRAME_HEADER + 4_096;
        assert!(pages > 100 && bytes.len() > HEADER + pages as usize * frame, "a rest lies behind");
        let mut log = Cached {
            disk: vec![0; bytes.len()],
            dirty: vec![(0, bytes.len())],
            cache: bytes,
            fails: true,
        };
        log.sync().unwrap_err();
        log.sync().unwrap();
        assert_eq!(
            log.disk[0], 0,
            "the next sync says that all is well, and nothing is on the disk"
        );
        assert_eq!(write_again(&mut log).unwrap(), pages);
        let counts = HEADER + pages as usize * frame;
        assert!(log.disk[..counts] == log.cache[..counts]);
        log.fails = true;
        write_again(&mut log).unwrap_err();
    }

    #[test]
    fn a_log_that_does_not_read_as_it_was_written_counts_up_to_there() {
        let (bytes, pages) = log();
        let frame = FRAME_HEADER + 4_096;
        let count = |cache: Vec<u8>| {
            let disk = cache.clone();
            write_again(&mut Cached { cache, disk, dirty: Vec::new(), fails: false }).unwrap()
        };
        let mut torn = bytes.clone();
        torn[HEADER + 99 * frame + 2_000] ^= 1;
        assert!(count(torn) < 99.min(pages));
        let mut torn = bytes.clone();
        torn[20] ^= 1;
        assert_eq!(count(torn), 0, "the header");
        assert_eq!(count(Vec::new()), 0);
    }
}
