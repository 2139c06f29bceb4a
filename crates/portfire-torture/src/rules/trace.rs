//! When each attempt began and ended, as the effect logs tell.

use std::collections::BTreeMap;
use std::path::Path;

use portfire::JobId;

use crate::{AnyError, effects};

/// One attempt, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) begin: u64,
    /// When it ended, or was killed.
    pub(super) end: u64,
    /// Whether it came to its end.
    pub(super) whole: bool,
}

/// The attempts of all jobs, each in its order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    jobs: BTreeMap<JobId, BTreeMap<u32, Attempt>>,
    /// What does not fit together.
    pub(super) faults: Vec<String>,
}

impl Trace {
    pub(super) fn read(directory: &Path, deaths: &BTreeMap<u64, u64>) -> Result<Trace, AnyError> {
        Trace::of(&effects::lines(directory)?, deaths)
    }

    /// The attempts that lines of servers tell of, of which some were killed.
    pub(super) fn of(
        lines: &[(u64, String)],
        deaths: &BTreeMap<u64, u64>,
    ) -> Result<Trace, AnyError> {
        let mut trace = Trace::default();
        let mut open: BTreeMap<(JobId, u32), (u64, u64)> = BTreeMap::new();
        for (server, line) in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, job, attempt, at] = words[..] else {
                return Err(format!("`{line}` in the log of server {server}").into());
            };
            let key = (job.parse::<JobId>()?, attempt.parse::<u32>()?);
            let at = at.parse::<u64>()?;
            match what {
                "begin" => {
                    if open.insert(key, (*server, at)).is_some() {
                        trace.faults.push(format!("attempt {attempt} of job {job} began twice"));
                    }
                }
                _ => match open.remove(&key) {
                    Some((of, begin)) if of == *server => {
                        trace.insert(key, Attempt { begin, end: at, whole: true });
                    }
                    _ => trace
                        .faults
                        .push(format!("attempt {attempt} of job {job} ended and never began")),
                },
            }
        }
        for ((job, attempt), (server, begin)) in open {
            match deaths.get(&server) {
                // Its server was killed under it: not later than its death, so nothing is held against
                // those who took its place.
                Some(&death) => {
                    trace.insert(
                        (job, attempt),
                        Attempt { begin, end: death.max(begin), whole: false },
                    );
                }
                None => trace.faults.push(format!("attempt {attempt} of job {job} did not end")),
            }
        }
        Ok(trace)
    }

    fn insert(&mut self, (job, attempt): (JobId, u32), times: Attempt) {
        if self.jobs.entry(job).or_default().insert(attempt, times).is_some() {
            self.faults.push(format!("attempt {attempt} of job {job} ran twice"));
        }
    }

    /// The attempts of a job.
    pub(super) fn of_job(&self, job: JobId) -> Vec<Attempt> {
        self.jobs.get(&job).map_or(Vec::new(), |attempts| attempts.values().copied().collect())
    }

    /// The jobs that ran.
    pub(super) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// How many attempts there were.
    pub(super) fn attempts(&self) -> usize {
        self.jobs.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use portfire::Timestamp;

    use super::*;

    fn trace(lines: &[(u64, &str)], deaths: &[(u64, u64)]) -> Trace {
        let id = JobId::from_parts(Timestamp::default(), 1);
        let lines: Vec<(u64, String)> = lines
            .iter()
            .map(|(server, line)| (*server, line.replace("ID", &id.to_string())))
            .collect();
        Trace::of(&lines, &deaths.iter().copied().collect()).unwrap()
    }

    #[test]
    fn an_attempt_without_an_end_ended_with_its_server() {
        let trace =
            trace(&[(0, "begin ID 1 10"), (1, "begin ID 2 30"), (1, "end ID 2 40")], &[(0, 20)]);
        let id = trace.jobs().next().unwrap();
        let killed = Attempt { begin: 10, end: 20, whole: false };
        let whole = Attempt { begin: 30, end: 40, whole: true };
        assert_eq!((trace.of_job(id), trace.faults), (vec![killed, whole], Vec::new()));
    }

    #[test]
    fn what_does_not_fit_together_is_found() {
        let faults = |lines: &[(u64, &str)]| trace(lines, &[]).faults.join("\n");
        assert!(faults(&[(0, "begin ID 1 10")]).contains("did not end"));
        assert!(faults(&[(0, "end ID 1 10")]).contains("never began"));
        assert!(faults(&[(0, "begin ID 1 10"), (1, "end ID 1 11")]).contains("never began"));
        assert!(faults(&[(0, "begin ID 1 10"), (1, "begin ID 1 11")]).contains("began twice"));
        let twice =
            [(0, "begin ID 1 1"), (0, "end ID 1 2"), (1, "begin ID 1 3"), (1, "end ID 1 4")];
        assert!(faults(&twice).contains("ran twice"));
    }
}
