//! The servers, each a process of its own: started, killed without a warning, replaced, and ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portfire::{Counts, StateName};

use crate::directory::Directory;
use crate::{AnyError, effects};

/// Between two looks at a process that is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Longest wait for the servers to end when they are asked to.
const END_MAX: Duration = Duration::from_secs(30);

/// How many servers are killed all the time, where that is what is done.
pub(crate) const DOOMED: u64 = 2;

/// How long those live at least and at most, in milliseconds.
const LIFE: (u64, u64) = (400, 2_400);

/// The running servers. Dropping it leaves no process behind.
pub(crate) struct Fleet {
    directory: PathBuf,
    url: String,
    /// Processes that were started, also those that are dead; each has its number.
    started: u64,
    places: Vec<Place>,
    /// What each server is told besides.
    words: Vec<String>,
    /// Servers that ended by themselves, and were replaced.
    crashes: u64,
    /// When each of the killed ones was killed, by its number.
    deaths: BTreeMap<u64, u64>,
}

struct Place {
    child: Child,
    number: u64,
    since: Instant,
}

impl Fleet {
    /// Starts so many servers, all at once: they find no file, and make it at the same time.
    pub(crate) fn start(directory: &Directory, servers: u64) -> Result<Fleet, AnyError> {
        Fleet::start_with(directory, servers, Vec::new())
    }

    /// As [`start`](Self::start), and tells each server something besides.
    pub(crate) fn start_with(
        directory: &Directory,
        servers: u64,
        words: Vec<String>,
    ) -> Result<Fleet, AnyError> {
        let mut fleet = Fleet {
            directory: directory.path().to_owned(),
            url: directory.url(),
            started: 0,
            places: Vec::new(),
            words,
            crashes: 0,
            deaths: BTreeMap::new(),
        };
        for place in 0..servers {
            let server = fleet.server(place)?;
            fleet.places.push(server);
        }
        Ok(fleet)
    }

    /// How many were killed.
    pub(crate) fn kills(&self) -> u64 {
        self.deaths.len() as u64
    }

    /// When each of the killed ones was killed, by the number in the name of its effect log: in nanoseconds since
    /// 1970, and not later than its death.
    pub(crate) fn deaths(&self) -> &BTreeMap<u64, u64> {
        &self.deaths
    }

    /// Kills those of the first servers that have lived long enough, and starts others in their places. Each length
    /// of life between the bounds comes in its turn.
    pub(crate) fn kill_the_doomed(&mut self, doomed: u64) -> Result<(), AnyError> {
        for place in 0..doomed {
            let (least, most) = LIFE;
            let life = Duration::from_millis(least + self.kills() * 733 % (most - least));
            if self.places[place as usize].since.elapsed() >= life {
                self.replace(place)?;
            }
        }
        Ok(())
    }

    /// Kills the server at a place without a warning, and starts another there.
    pub(crate) fn replace(&mut self, place: u64) -> Result<(), AnyError> {
        let server = &mut self.places[place as usize];
        // Before the kill: what it does in the moment between counts for it either way.
        self.deaths.insert(server.number, effects::now());
        server.child.kill()?;
        server.child.wait()?;
        self.places[place as usize] = self.server(place)?;
        Ok(())
    }

    /// How many servers ended by themselves and were replaced.
    pub(crate) fn crashes(&self) -> u64 {
        self.crashes
    }

    /// Starts others in the places of servers that have ended by themselves.
    pub(crate) fn replace_the_crashed(&mut self) -> Result<(), AnyError> {
        for place in 0..self.places.len() {
            if self.places[place].child.try_wait()?.is_some() {
                self.crashes += 1;
                self.places[place] = self.server(place as u64)?;
            }
        }
        Ok(())
    }

    /// Fails when a server has ended by itself.
    pub(crate) fn fail_if_one_died(&mut self) -> Result<(), AnyError> {
        for place in &mut self.places {
            if let Some(status) = place.child.try_wait()? {
                return Err(death("server", status, &self.directory));
            }
        }
        Ok(())
    }

    /// Asks the servers to end, and waits. One that ends badly or not at all is a fault.
    pub(crate) fn end(&mut self) -> Result<Vec<String>, AnyError> {
        let mut faults = Vec::new();
        for place in &mut self.places {
            drop(place.child.stdin.take());
        }
        let begin = Instant::now();
        for place in &mut self.places {
            let status = loop {
                match place.child.try_wait()? {
                    Some(status) => break Some(status),
                    None if begin.elapsed() > END_MAX => break None,
                    None => std::thread::sleep(LOOK_INTERVAL),
                }
            };
            match status {
                Some(status) if status.success() => {}
                Some(status) => faults.push(format!("a server ended with {status}")),
                None => faults.push(format!("a server did not end within {END_MAX:?}")),
            }
        }
        Ok(faults)
    }

    /// A process of this program, whose log is in the directory.
    pub(crate) fn process(&self, name: &str, word: &str) -> Result<Command, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        let log = File::create(self.directory.join(format!("{name}.log")))?;
        command.args([word, "--storage", &self.url]).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn server(&mut self, place: u64) -> Result<Place, AnyError> {
        let number = self.started;
        self.started += 1;
        let mut command = self.process(&format!("server-{number}"), "server")?;
        let effects = effects::path(&self.directory, number);
        command.args(["--name", &format!("torture-{place}"), "--effects"]).arg(effects);
        command.args(&self.words);
        let child = command.stdin(Stdio::piped()).spawn()?;
        Ok(Place { child, number, since: Instant::now() })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for place in &mut self.places {
            let _ = place.child.kill();
            let _ = place.child.wait();
        }
    }
}

/// The end of a process that was not to end.
pub(crate) fn death(what: &str, status: std::process::ExitStatus, directory: &Path) -> AnyError {
    format!("a {what} ended with {status}: see the logs in {}", directory.display()).into()
}

/// Whether every job is final.
pub(crate) fn at_rest(counts: &Counts) -> bool {
    StateName::ALL.into_iter().all(|state| state.is_final() || counts.of(state) == 0)
}
