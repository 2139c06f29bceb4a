//! A record: what processes did to the files of a database and told of their calls, in one order.

use std::collections::BTreeMap;
use std::path::Path;

use crate::AnyError;
use crate::power::disk::{Disk, Keep};
use crate::power::story::{Line, Story};
use crate::power::strace::Call;

/// A file, by the order in which files were made; a name may stand for several of them in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub(crate) usize);

/// One step of a record. What began and ended earlier stands above what began later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A file was made under a name.
    Create { name: String, file: FileId },
    /// A name was taken from its file.
    Remove { name: String },
    /// A file got another name.
    Rename { from: String, to: String, file: FileId },
    /// Bytes are in the cache.
    Write { file: FileId, offset: u64, bytes: Vec<u8> },
    /// A file was cut, or made longer by zeros.
    Resize { file: FileId, length: u64 },
    /// A sync of a file ended; it began when the events before `since` had ended.
    Sync { file: FileId, since: usize, good: bool },
    /// A sync of the directory ended.
    SyncDirectory { since: usize, good: bool },
    /// A process told something.
    Tell(Line),
}

/// What was done to the files of one database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) events: Vec<Event>,
    /// The first name of each file.
    pub(crate) files: Vec<String>,
    /// A process died in the midst of a call, so nobody knows what is in the files.
    pub(crate) unclear: bool,
}

/// The story's file, beside the database.
pub(crate) const STORY: &str = "story";

/// The database's.
pub(crate) const DATABASE: &str = "jobs.db";

/// Whether a file of the directory belongs to what a power loss must not damage. The shared memory is made anew
/// after a crash, and lock files of processes hold nothing.
fn counts(name: &str) -> bool {
    [DATABASE, "jobs.db-wal", "jobs.db-journal"].contains(&name)
}

impl Record {
    /// Puts the calls of several runs, one after another, into one record of what they did in a directory, which was
    /// empty before.
    pub(crate) fn of(directory: &Path, runs: &[Vec<Call>]) -> Result<Record, AnyError> {
        let mut reader = Reader::new(directory)?;
        for calls in runs {
            reader.ends.clear();
            reader.places.clear();
            reader.before = reader.record.events.len();
            for call in calls {
                reader
                    .read(call)
                    .map_err(|error| format!("line {} of the record: {error}", call.end + 1))?;
            }
        }
        Ok(reader.record)
    }

    /// The whole story.
    pub(crate) fn story(&self) -> Result<Story, AnyError> {
        let mut story = Story::default();
        for event in &self.events {
            if let Event::Tell(line) = event {
                story.tell(line)?;
            }
        }
        Ok(story)
    }

    /// Fails when the files in the directory are not what the record says: something was written that is not in it.
    pub(crate) fn compare(&self, directory: &Path) -> Result<(), AnyError> {
        let mut disk = Disk::default();
        self.events.iter().enumerate().for_each(|(at, event)| disk.apply(at, event));
        let told = disk.image(Keep::Everything).files;
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if counts(&name) {
                found.insert(name, std::fs::read(entry.path())?);
            }
        }
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        if names(&told) != names(&found) {
            let (told, found) = (names(&told), names(&found));
            return Err(
                format!("the record leaves the files {told:?}, and there are {found:?}").into()
            );
        }
        for (name, bytes) in &found {
            if *bytes != told[name] {
                let differs = |(one, other): (&u8, &u8)| one != other;
                let place = bytes.iter().zip(&told[name]).position(differs);
                let place = place.unwrap_or(bytes.len().min(told[name].len()));
                return Err(format!("{name} differs from the record at byte {place}").into());
            }
        }
        Ok(())
    }

    /// How many syncs of files whose names end so failed.
    pub(crate) fn failed_syncs(&self, ending: &str) -> usize {
        let failed = |event: &&Event| {
            matches!(event, Event::Sync { file, good: false, .. }
                if self.files[file.0].ends_with(ending))
        };
        self.events.iter().filter(failed).count()
    }

    /// Whether a sync of the database file failed after something had been written to a log; and, when `passes` is
    /// set, after several passes had copied from the log without a good sync of the database file in between.
    pub(crate) fn has_failed_copy(&self, passes: bool) -> bool {
        let mut logged = false;
        // Copied; then logged, then copied again.
        let mut copied = 0;
        for event in &self.events {
            match event {
                Event::Write { file, .. } if self.files[file.0].ends_with("-wal") => {
                    logged = true;
                    copied += copied % 2;
                }
                Event::Write { file, .. } if logged && self.files[file.0] == DATABASE => {
                    copied += 1 - copied % 2;
                }
                Event::Sync { file, good, .. } if self.files[file.0] == DATABASE => {
                    if !good && logged && copied >= if passes { 3 } else { 1 } {
                        return true;
                    }
                    copied = 0;
                }
                _ => {}
            }
        }
        false
    }

    /// How often the log began anew: a write of its header that is not the first to this file.
    pub(crate) fn log_restarts(&self) -> usize {
        let mut begun = Vec::new();
        let mut restarts = 0;
        for event in &self.events {
            if let Event::Write { file, offset: 0, .. } = event
                && self.files[file.0].ends_with("-wal")
            {
                restarts += usize::from(begun.contains(file));
                begun.push(*file);
            }
        }
        restarts
    }
}

/// Reads the calls.
struct Reader {
    directory: String,
    record: Record,
    names: BTreeMap<String, FileId>,
    /// The last file that lost its name, by that name.
    removed: BTreeMap<String, FileId>,
    /// Where threads have moved to in open files.
    places: BTreeMap<(u32, u32), u64>,
    /// The lines at which the events of this run ended, and how many events came before them.
    ends: Vec<usize>,
    before: usize,
}

impl Reader {
    fn new(directory: &Path) -> Result<Reader, AnyError> {
        let directory = directory.to_str().ok_or("the directory has no name in UTF-8")?.to_owned();
        Ok(Reader {
            directory,
            record: Record::default(),
            names: BTreeMap::new(),
            removed: BTreeMap::new(),
            places: BTreeMap::new(),
            ends: Vec::new(),
            before: 0,
        })
    }

    /// The name of a file in the directory; `""` is the directory itself.
    fn name<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&self.directory)?;
        if rest.is_empty() {
            return Some(rest);
        }
        rest.strip_prefix('/').filter(|name| *name == STORY || counts(name))
    }

    fn read(&mut self, call: &Call) -> Result<(), AnyError> {
        match &call.name[..] {
            "openat" => self.open(call, 1),
            "open" | "creat" => self.open(call, 0),
            "write" | "pwrite64" => self.write(call),
            "lseek" => {
                if let (Some(handle), Some(Ok(place))) = (call.handle(), &call.answer) {
                    self.places.insert(handle, *place);
                }
                Ok(())
            }
            "ftruncate" => {
                let length = call.number(1).ok_or("no length")?;
                let Some(file) = self.file(call)? else { return Ok(()) };
                if !self.succeeded(call) {
                    return Ok(());
                }
                self.push(call, Event::Resize { file, length })
            }
            "fsync" | "fdatasync" => self.sync(call),
            "unlink" => self.remove(call, 0),
            "unlinkat" => self.remove(call, 1),
            "rename" => self.rename(call, 0, 1),
            "renameat" | "renameat2" => self.rename(call, 1, 3),
            "truncate" => match call.path(0).and_then(|path| self.name(path)) {
                Some(_) => Err("a file was cut by its name, which is not understood".into()),
                None => Ok(()),
            },
            other => Err(format!("`{other}` is not understood").into()),
        }
    }

    fn push(&mut self, call: &Call, event: Event) -> Result<(), AnyError> {
        self.ends.push(call.end);
        self.record.events.push(event);
        Ok(())
    }

    /// How many events had ended when a call began.
    fn since(&self, call: &Call) -> usize {
        self.before + self.ends.partition_point(|end| *end < call.begin)
    }

    /// The file that a call is about, when it counts.
    fn file(&self, call: &Call) -> Result<Option<FileId>, AnyError> {
        let Some((path, removed)) = call.file() else { return Ok(None) };
        let Some(name) = self.name(path).filter(|name| counts(name)) else { return Ok(None) };
        let files = if removed { &self.removed } else { &self.names };
        let file = files.get(name).copied();
        file.map(Some).ok_or_else(|| format!("{name} was there before the record").into())
    }

    /// Whether a call did its work. One without an end may have done it or not.
    fn succeeded(&mut self, call: &Call) -> bool {
        self.record.unclear |= call.answer.is_none();
        matches!(call.answer, Some(Ok(_)))
    }

    fn open(&mut self, call: &Call, place: usize) -> Result<(), AnyError> {
        let Some(Ok(_)) = call.answer else { return Ok(()) };
        let Some(name) = call.path(place).and_then(|path| self.name(path)) else { return Ok(()) };
        if !counts(name) {
            return Ok(());
        }
        let (name, flags) = (name.to_owned(), call.flags(place + 1));
        if flags.contains("O_TRUNC") {
            return Err(
                format!("{name} was cut when it was opened, which is not understood").into()
            );
        }
        if self.names.contains_key(&name) {
            return Ok(());
        }
        if !flags.contains("O_CREAT") {
            return Err(format!("{name} was there before the record").into());
        }
        let file = FileId(self.record.files.len());
        self.record.files.push(name.clone());
        self.names.insert(name.clone(), file);
        self.push(call, Event::Create { name, file })
    }

    fn write(&mut self, call: &Call) -> Result<(), AnyError> {
        let Some((path, _)) = call.file() else { return Ok(()) };
        let Some(name) = self.name(path) else { return Ok(()) };
        let bytes = call.text(1).ok_or("no bytes")?;
        if name == STORY {
            let text = std::str::from_utf8(bytes)?;
            for line in text.lines() {
                self.push(call, Event::Tell(line.parse()?))?;
            }
            return Ok(());
        }
        let Some(file) = self.file(call)? else { return Ok(()) };
        if !self.succeeded(call) {
            return Ok(());
        }
        let Some(Ok(written)) = call.answer else { return Ok(()) };
        let offset = match call.number(3) {
            Some(offset) => offset,
            // A thread moves there and writes; if others have moved it since, the files differ from the record.
            None => {
                let place = call.handle().and_then(|handle| self.places.get_mut(&handle));
                let place = place.ok_or("a file was written to, and nobody knows where")?;
                *place += written;
                *place - written
            }
        };
        let bytes =
            bytes.get(..written as usize).ok_or("more was written than there was")?.to_vec();
        self.push(call, Event::Write { file, offset, bytes })
    }

    fn sync(&mut self, call: &Call) -> Result<(), AnyError> {
        let Some((path, _)) = call.file() else { return Ok(()) };
        // A sync without an end promises nothing.
        let Some(answer) = &call.answer else { return Ok(()) };
        let (since, good) = (self.since(call), answer.is_ok());
        if self.name(path) == Some("") {
            return self.push(call, Event::SyncDirectory { since, good });
        }
        match self.file(call)? {
            Some(file) => self.push(call, Event::Sync { file, since, good }),
            None => Ok(()),
        }
    }

    fn remove(&mut self, call: &Call, place: usize) -> Result<(), AnyError> {
        let name = call.path(place).and_then(|path| self.name(path)).filter(|name| counts(name));
        let Some(name) = name.map(str::to_owned) else { return Ok(()) };
        if !self.succeeded(call) {
            return Ok(());
        }
        let file = self.names.remove(&name).ok_or("a name was removed that was never given")?;
        self.removed.insert(name.clone(), file);
        self.push(call, Event::Remove { name })
    }

    fn rename(&mut self, call: &Call, from: usize, to: usize) -> Result<(), AnyError> {
        let name = |place| call.path(place).and_then(|path| self.name(path)).map(str::to_owned);
        let (Some(from), Some(to)) = (name(from), name(to)) else {
            return match call.path(from).and_then(|path| self.name(path)) {
                Some(name) => Err(format!("{name} was moved elsewhere").into()),
                None => Ok(()),
            };
        };
        if !self.succeeded(call) {
            return Ok(());
        }
        let file = self.names.remove(&from).ok_or("a name was moved that was never given")?;
        if let Some(replaced) = self.names.insert(to.clone(), file) {
            self.removed.insert(to.clone(), replaced);
        }
        self.push(call, Event::Rename { from, to, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::strace;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    /// A record of lines in which `{…}` stands for hexadecimal text.
    fn record(log: &str) -> Result<Record, AnyError> {
        let mut text = String::new();
        let mut rest = log;
        while let Some((before, behind)) = rest.split_once('{') {
            let (word, behind) = behind.split_once('}').unwrap();
            text.push_str(before);
            text.push_str(&hex(word));
            rest = behind;
        }
        text.push_str(rest);
        Record::of(Path::new("/d"), &[strace::read(&text)?])
    }

    const OPEN: &str =
        "1 openat(AT_FDCWD<{/}>, \"{/d/jobs.db}\", O_RDWR|O_CREAT, 0600) = 3<{/d/jobs.db}>\n";

    #[test]
    fn a_sync_covers_what_had_ended_when_it_began() {
        let record = record(&format!(
            "{OPEN}\
             1 pwrite64(3<{{/d/jobs.db}}>, \"{{ab}}\", 2, 0) = 2\n\
             2 pwrite64(3<{{/d/jobs.db}}>, \"{{cd}}\", 2, 2 <unfinished ...>\n\
             1 fdatasync(3<{{/d/jobs.db}}> <unfinished ...>\n\
             2 <... pwrite64 resumed>) = 1\n\
             1 <... fdatasync resumed>) = 0\n\
             1 write(9<{{/d/story}}>, \"{{refused x}}\", 9) = 9\n"
        ))
        .unwrap();
        let file = FileId(0);
        let [_, first, second, sync, told] = &record.events[..] else { panic!("{record:?}") };
        assert_eq!(*first, Event::Write { file, offset: 0, bytes: b"ab".to_vec() });
        // One byte of the two.
        assert_eq!(*second, Event::Write { file, offset: 2, bytes: b"c".to_vec() });
        assert_eq!(*sync, Event::Sync { file, since: 2, good: true });
        assert_eq!(*told, Event::Tell(Line::Refused("x".to_owned())));
    }

    #[test]
    fn a_name_stands_for_one_file_after_another() {
        let log = format!(
            "{OPEN}1 unlink(\"{{/d/jobs.db}}\") = 0\n{OPEN}\
             1 ftruncate(3<{{/d/jobs.db}}>(deleted), 5) = 0\n\
             1 ftruncate(3<{{/d/jobs.db}}>, 6) = 0\n\
             1 fsync(5<{{/d}}>) = -1 EIO (x)\n"
        );
        let record = record(&log).unwrap();
        assert_eq!(
            record.events[3..],
            [
                Event::Resize { file: FileId(0), length: 5 },
                Event::Resize { file: FileId(1), length: 6 },
                Event::SyncDirectory { since: 5, good: false },
            ]
        );
    }

    #[test]
    fn a_thread_writes_where_it_has_moved_to() {
        let record = record(&format!(
            "{OPEN}\
             1 lseek(3<{{/d/jobs.db}}>, 7, SEEK_SET) = 7\n\
             2 lseek(3<{{/d/jobs.db}}>, 70, SEEK_SET) = 70\n\
             1 write(3<{{/d/jobs.db}}>, \"{{ab}}\", 2) = 2\n\
             1 write(3<{{/d/jobs.db}}>, \"{{c}}\", 1) = 1\n"
        ));
        let file = FileId(0);
        let wanted = [
            Event::Write { file, offset: 7, bytes: b"ab".to_vec() },
            Event::Write { file, offset: 9, bytes: b"c".to_vec() },
        ];
        assert_eq!(record.unwrap().events[1..], wanted);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in [
            "1 openat(AT_FDCWD<{/}>, \"{/d/jobs.db}\", O_RDWR) = 3<{/d/jobs.db}>",
            "1 openat(AT_FDCWD<{/}>, \"{/d/jobs.db}\", O_RDWR|O_CREAT|O_TRUNC) = 3<{/d/jobs.db}>",
            "1 pwrite64(3<{/d/jobs.db}>, \"{a}\", 1, 0) = 1",
            "1 truncate(\"{/d/jobs.db}\", 0) = 0",
            "1 write(3<{/d/jobs.db}>, \"{a}\", 1) = 1",
        ] {
            assert!(record(line).is_err(), "{line}");
        }
        let log = format!("{OPEN}1 pwrite64(3<{{/d/jobs.db}}>, \"{{a}}\", 1, 0) = ?\n");
        assert!(record(&log).unwrap().unclear, "it may be written or not");
        let elsewhere = record("1 pwrite64(3<{/e/jobs.db}>, \"{a}\", 1, 0) = 1").unwrap();
        assert!(elsewhere.events.is_empty());
    }
}
