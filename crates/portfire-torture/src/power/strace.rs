//! Running a program under `strace`, and reading what that wrote: the calls that change files, in the order of
//! their ends.
//!
//! `strace` stops a thread at the begin and at the end of each call, and writes its lines in the order of the
//! stops. So whatever a thread does because a call has ended (an acknowledgement after a sync) stands below that
//! end; and a write whose end stands above the begin of a sync had ended before the sync began.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::AnyError;

/// The calls that are written down. Whatever else changes a file is found by comparing the files with the record.
const CALLS: &str = "trace=openat,open,creat,write,pwrite64,lseek,ftruncate,truncate,fsync,fdatasync,unlink,\
     unlinkat,rename,renameat,renameat2";

/// Longest text of a call in bytes: longer than any write of SQLite's.
const TEXT_MAX: &str = "8388608";

/// A call to the system that came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// How many lines stood above its begin, and above its end.
    pub(crate) begin: usize,
    pub(crate) end: usize,
    pub(crate) thread: u32,
    pub(crate) name: String,
    pub(crate) words: Vec<Word>,
    /// What it answered: a number, or the name of an error. `None` when its thread ended in it.
    pub(crate) answer: Option<Result<u64, String>>,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// An open file: its number, its path, and whether that has been removed.
    File { number: u32, path: String, removed: bool },
    /// Bytes.
    Text(Vec<u8>),
    /// Anything else, such as numbers and flags.
    Plain(String),
}

impl Call {
    /// The path of the open file that the call is about.
    pub(crate) fn file(&self) -> Option<(&str, bool)> {
        match self.words.first()? {
            Word::File { path, removed, .. } => Some((path, *removed)),
            _ => None,
        }
    }

    /// The open file that the call is about, as its thread knows it.
    pub(crate) fn handle(&self) -> Option<(u32, u32)> {
        match self.words.first()? {
            Word::File { number, .. } => Some((self.thread, *number)),
            _ => None,
        }
    }

    /// The bytes at a place of the arguments.
    pub(crate) fn text(&self, place: usize) -> Option<&[u8]> {
        match self.words.get(place)? {
            Word::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The path at a place of the arguments.
    pub(crate) fn path(&self, place: usize) -> Option<&str> {
        std::str::from_utf8(self.text(place)?).ok()
    }

    /// The number at a place of the arguments.
    pub(crate) fn number(&self, place: usize) -> Option<u64> {
        match self.words.get(place)? {
            Word::Plain(word) => word.parse().ok(),
            _ => None,
        }
    }

    /// The flags at a place of the arguments.
    pub(crate) fn flags(&self, place: usize) -> &str {
        match self.words.get(place) {
            Some(Word::Plain(word)) => word,
            _ => "",
        }
    }
}

/// Says what to do when the machine has no `strace`.
pub(crate) fn check() -> Result<(), AnyError> {
    if !cfg!(target_os = "linux") {
        return Err(
            "this runs on Linux only, where `strace` records the writes of a process".into()
        );
    }
    match Command::new("strace").arg("-V").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("`strace -V` ended with {}", output.status).into()),
        Err(error) => Err(format!(
            "`strace`, which records the writes, cannot be run ({error}); install it: on Debian and \
             Ubuntu `apt-get install strace`, on Fedora `dnf install strace`"
        )
        .into()),
    }
}

/// A command that runs a program and writes its calls to `log`. `failing` says which calls are to fail, in the
/// words of `strace --inject`; they are counted for each thread.
pub(crate) fn command(program: &OsStr, log: &Path, failing: &[String]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-xx", "-qq", "-s", TEXT_MAX, "-e", "signal=none", "-e", CALLS]);
    for inject in failing {
        command.args(["-e", inject]);
    }
    command.arg("-o").arg(log).arg("--").arg(program);
    command
}

/// Reads a log; the calls come in the order of their ends.
pub(crate) fn read(text: &str) -> Result<Vec<Call>, AnyError> {
    let mut calls = Vec::new();
    // The calls that have begun, by thread: the line of the begin and its text.
    let mut begun: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let (thread, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let fail = |why: &str| AnyError::from(format!("line {} of the record: {why}", number + 1));
        if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (number, begin.trim_end()));
            continue;
        }
        let (begin, whole) = match rest.strip_prefix("<... ") {
            None => (number, rest.to_owned()),
            Some(resumed) => {
                let (_, end) =
                    resumed.split_once(" resumed>").ok_or_else(|| fail("no `resumed>`"))?;
                let (begin, first) = begun.remove(thread).ok_or_else(|| fail("it never began"))?;
                // `strace` repeats the comma that it broke the line at, or not, as the version has it.
                let first =
                    if end.starts_with(',') { first.trim_end_matches([',', ' ']) } else { first };
                (begin, format!("{first}{end}"))
            }
        };
        calls
            .push(call(thread, (begin, number), &whole).map_err(|error| fail(&error.to_string()))?);
    }
    // Threads that ended in a call, without a line of their own for its end.
    for (thread, (begin, first)) in begun {
        calls.push(call(thread, (begin, text.lines().count()), &format!("{first}) = ?"))?);
    }
    Ok(calls)
}

/// Reads a call whose line is whole.
fn call(thread: &str, (begin, end): (usize, usize), line: &str) -> Result<Call, AnyError> {
    let (name, rest) = line.split_once('(').ok_or("no call")?;
    let (words, rest) = words(rest)?;
    let answer = rest.trim_start().strip_prefix('=').ok_or("no answer")?.trim();
    let answer = match answer.split([' ', '<']).next().unwrap_or_default() {
        "?" => None,
        "-1" => Some(Err(answer.split(' ').nth(1).unwrap_or_default().to_owned())),
        number => Some(Ok(number.parse().map_err(|_| format!("`{number}` is no answer"))?)),
    };
    let thread = thread.parse().map_err(|_| format!("`{thread}` is no thread"))?;
    Ok(Call { begin, end, thread, name: name.to_owned(), words, answer })
}

/// Reads arguments up to the parenthesis that ends them; answers what stands behind it.
fn words(text: &str) -> Result<(Vec<Word>, &str), AnyError> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix(')') {
            return Ok((words, behind));
        }
        if let Some(text) = rest.strip_prefix('"') {
            let (text, behind) = text.split_once('"').ok_or("a text has no end")?;
            if behind.starts_with("...") {
                return Err(format!("a text is cut off after {TEXT_MAX} bytes").into());
            }
            words.push(Word::Text(bytes(text)?));
            rest = behind;
            continue;
        }
        let end = rest.find([',', ')', '<']).ok_or("an argument has no end")?;
        if rest[end..].starts_with('<') {
            let (path, behind) = rest[end + 1..].split_once('>').ok_or("a path has no end")?;
            let behind_removed = behind.strip_prefix("(deleted)");
            let path = String::from_utf8_lossy(&bytes(path)?).into_owned();
            // A directory that is not open has a name instead, `AT_FDCWD`.
            let number = rest[..end].parse().unwrap_or(u32::MAX);
            words.push(Word::File { number, path, removed: behind_removed.is_some() });
            rest = behind_removed.unwrap_or(behind);
        } else {
            words.push(Word::Plain(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
}

/// The bytes of a text in which each stands as `\x68`; a text that names something else, such as a pipe, stands as
/// it is.
fn bytes(text: &str) -> Result<Vec<u8>, AnyError> {
    if !text.starts_with("\\x") {
        return Ok(text.as_bytes().to_vec());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("no digit");
    text.as_bytes()
        .chunks(4)
        .map(|chunk| match chunk {
            [b'\\', b'x', high, low] => Ok((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => Err(format!("`{}` is no byte", String::from_utf8_lossy(chunk)).into()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    #[test]
    fn a_write_is_read_with_its_bytes() {
        let line = format!("7 pwrite64(3<{}>, \"{}\", 3, 4096) = 3\n", hex("/t/a b"), hex("x\n\""));
        let calls = read(&line).unwrap();
        let [write] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(write.name, "pwrite64");
        assert_eq!(write.file(), Some(("/t/a b", false)));
        assert_eq!(write.text(1), Some(&b"x\n\""[..]));
        assert_eq!((write.number(2), write.number(3)), (Some(3), Some(4096)));
        assert_eq!(write.answer, Some(Ok(3)));
    }

    #[test]
    fn a_call_that_was_interrupted_in_the_log_is_put_together() {
        let file = hex("/t/a");
        let log = format!(
            "1 fdatasync(3<{file}> <unfinished ...>\n\
             2 write(4<{file}>, \"{}\", 1 <unfinished ...>\n\
             1 <... fdatasync resumed>)          = -1 EIO (Input/output error) (INJECTED)\n\
             2 <... write resumed>)              = 1\n\
             1 +++ exited with 0 +++\n",
            hex("x")
        );
        let calls = read(&log).unwrap();
        let told: Vec<_> =
            calls.iter().map(|call| (&call.name[..], call.begin, call.end)).collect();
        assert_eq!(told, [("fdatasync", 0, 2), ("write", 1, 3)]);
        assert_eq!(calls[0].answer, Some(Err("EIO".to_owned())));
        assert_eq!(calls[1].text(1), Some(&b"x"[..]));
    }

    #[test]
    fn files_that_were_removed_and_calls_without_an_end_are_told() {
        let file = hex("/t/a");
        let log = format!(
            "1 ftruncate(3<{file}>(deleted), 5) = ?\n\
             1 openat(AT_FDCWD<{file}>, \"{}\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 5<{file}>\n\
             2 fsync(3<{file}> <unfinished ...>\n",
            hex("b")
        );
        let calls = read(&log).unwrap();
        assert_eq!((calls[0].file(), &calls[0].answer), (Some(("/t/a", true)), &None));
        assert_eq!(calls[1].path(1), Some("b"));
        assert_eq!(calls[1].flags(2), "O_RDWR|O_CREAT|O_CLOEXEC");
        assert_eq!(calls[1].answer, Some(Ok(5)));
        assert_eq!((&calls[2].name[..], &calls[2].answer), ("fsync", &None));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for line in
            ["1 write(3<\\x61>, \"\\x61\"..., 9) = 9", "1 write(3", "1 <... x resumed>) = 0"]
        {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
