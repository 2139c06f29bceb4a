//! What the recorded processes told of their calls, and what must hold of a storage at a point of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use portfire::{JobId, StateName};

use crate::AnyError;

/// One thing that a process told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It will store this job, with all of its group in one call.
    Wish { job: JobId, number: u64, group: u64 },
    /// That the job is stored was acknowledged.
    Stored(JobId),
    /// It will end this job so.
    Ends(JobId, StateName),
    /// That the job has ended so was acknowledged.
    Ended(JobId, StateName),
    /// A call failed: it may have been applied or not.
    Refused(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Wish { job, number, group } => write!(f, "wish {job} {number} {group}"),
            Line::Stored(job) => write!(f, "stored {job}"),
            Line::Ends(job, state) => write!(f, "ends {job} {state}"),
            Line::Ended(job, state) => write!(f, "ended {job} {state}"),
            Line::Refused(text) => write!(f, "refused {}", text.replace('\n', " ")),
        }
    }
}

impl FromStr for Line {
    type Err = AnyError;

    fn from_str(text: &str) -> Result<Line, AnyError> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let state = |name: &str| match name {
            "succeeded" => Ok(StateName::Succeeded),
            "failed" => Ok(StateName::Failed),
            _ => Err(AnyError::from(format!("`{name}` is no end"))),
        };
        match (word, &words[..]) {
            ("wish", [job, number, group]) => {
                Ok(Line::Wish { job: job.parse()?, number: number.parse()?, group: group.parse()? })
            }
            ("stored", [job]) => Ok(Line::Stored(job.parse()?)),
            ("ends", [job, end]) => Ok(Line::Ends(job.parse()?, state(end)?)),
            ("ended", [job, end]) => Ok(Line::Ended(job.parse()?, state(end)?)),
            ("refused", _) => Ok(Line::Refused(rest.to_owned())),
            _ => Err(format!("`{text}` is nothing that a process tells").into()),
        }
    }
}

/// A job of the record.
#[derive(Clone, Debug)]
struct Job {
    id: JobId,
    number: u64,
    group: u64,
    stored: bool,
    ends: Option<StateName>,
    ended: Option<StateName>,
}

/// The story up to a point.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    jobs: Vec<Job>,
    places: BTreeMap<JobId, usize>,
    /// Acknowledgements, and calls that failed.
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
}

/// Where the jobs of a story stand in a storage, in the order in which they were wished for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    states: Vec<Option<StateName>>,
}

impl Story {
    /// Goes on by a line.
    pub(crate) fn tell(&mut self, line: &Line) -> Result<(), AnyError> {
        match *line {
            Line::Wish { job, number, group } => {
                self.places.insert(job, self.jobs.len());
                self.jobs.push(Job {
                    id: job,
                    number,
                    group,
                    stored: false,
                    ends: None,
                    ended: None,
                });
            }
            Line::Stored(job) => {
                self.job(job)?.stored = true;
                self.acknowledged += 1;
            }
            Line::Ends(job, state) => self.job(job)?.ends = Some(state),
            Line::Ended(job, state) => {
                self.job(job)?.ended = Some(state);
                self.acknowledged += 1;
            }
            Line::Refused(_) => self.refused += 1,
        }
        Ok(())
    }

    fn job(&mut self, id: JobId) -> Result<&mut Job, AnyError> {
        let place = self.places.get(&id).ok_or_else(|| format!("job {id} was never wished for"))?;
        Ok(&mut self.jobs[*place])
    }

    /// The number of a job that was wished for.
    pub(crate) fn number(&self, id: JobId) -> Option<u64> {
        self.places.get(&id).map(|&place| self.jobs[place].number)
    }

    /// Where the jobs stand; those that nobody wished for are left out.
    pub(crate) fn standing(&self, found: &BTreeMap<JobId, StateName>) -> Standing {
        Standing { states: self.jobs.iter().map(|job| found.get(&job.id).copied()).collect() }
    }

    /// Everything that is wrong when the power fails at this point and jobs then stand so. The standing may know
    /// more jobs than this story has come to.
    pub(crate) fn faults(&self, standing: &Standing) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut groups: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
        for (place, state) in standing.states.iter().enumerate() {
            let Some(job) = self.jobs.get(place) else {
                if state.is_some() {
                    faults.push(Fault::Invented("a job that nobody had wished for".to_owned()));
                }
                continue;
            };
            let Job { id, number, .. } = job;
            groups.entry(job.group).or_default()[usize::from(state.is_some())] += 1;
            let Some(state) = *state else {
                if job.stored || job.ended.is_some() {
                    faults
                        .push(Fault::Lost(format!("job {id} (number {number}) was acknowledged")));
                }
                continue;
            };
            match job.ended {
                Some(ended) if ended != state => faults.push(Fault::Lost(format!(
                    "the end of job {id} (number {number}), {ended}, was acknowledged; it is {state}"
                ))),
                None if state.is_final() && job.ends != Some(state) => faults.push(
                    Fault::Invented(format!("job {id} (number {number}) is {state}, which nobody wanted")),
                ),
                _ => {}
            }
        }
        for (group, [missing, found]) in groups {
            if missing > 0 && found > 0 {
                let text = format!(
                    "of group {group}, one call, {found} jobs are there and {missing} are not"
                );
                faults.push(Fault::Torn(text));
            }
        }
        faults
    }
}

/// What is wrong with a storage after a power loss.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// It cannot be opened, or the file is damaged, or its rows contradict each other.
    Damaged(String),
    /// Something that was acknowledged is not there.
    Lost(String),
    /// One call is there in part.
    Torn(String),
    /// Something is there that nobody asked for.
    Invented(String),
}

impl Fault {
    /// Its sort in a word.
    pub(crate) fn sort(&self) -> &'static str {
        match self {
            Fault::Damaged(_) => "damaged",
            Fault::Lost(_) => "lost",
            Fault::Torn(_) => "torn",
            Fault::Invented(_) => "invented",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Damaged(text) => write!(f, "DAMAGED: {text}"),
            Fault::Lost(text) => write!(f, "LOST: {text}"),
            Fault::Torn(text) => write!(f, "TORN: {text}"),
            Fault::Invented(text) => write!(f, "INVENTED: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use portfire::Timestamp;

    use super::*;

    fn id(number: u128) -> JobId {
        JobId::from_parts(Timestamp::default(), number)
    }

    fn story(lines: &[Line]) -> Story {
        let mut story = Story::default();
        lines.iter().for_each(|line| story.tell(line).unwrap());
        story
    }

    fn wish(number: u64, group: u64) -> Line {
        Line::Wish { job: id(u128::from(number)), number, group }
    }

    fn faults(lines: &[Line], found: &[(u128, StateName)]) -> String {
        let story = story(lines);
        let found = found.iter().map(|&(number, state)| (id(number), state)).collect();
        let faults = story.faults(&story.standing(&found));
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let lines = [
            wish(7, 5),
            Line::Stored(id(1)),
            Line::Ends(id(2), StateName::Failed),
            Line::Ended(id(2), StateName::Succeeded),
            Line::Refused("the disk, it fails".to_owned()),
        ];
        for line in lines {
            assert_eq!(line.to_string().parse::<Line>().unwrap(), line);
        }
        assert!("stored".parse::<Line>().is_err());
        assert!("ended x succeeded".parse::<Line>().is_err());
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        use StateName::{Enqueued, Processing, Succeeded};
        assert_eq!(faults(&[wish(1, 1)], &[]), "");
        assert_eq!(faults(&[wish(1, 1)], &[(1, Enqueued)]), "");
        let ends = [wish(1, 1), Line::Stored(id(1)), Line::Ends(id(1), Succeeded)];
        assert_eq!(faults(&ends, &[(1, Succeeded)]), "");
        assert_eq!(faults(&ends, &[(1, Processing)]), "");
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        use StateName::{Failed, Processing, Succeeded};
        let stored = [wish(1, 1), Line::Stored(id(1))];
        assert!(faults(&stored, &[]).contains("LOST: job"));
        let ended = [wish(1, 1), Line::Ends(id(1), Succeeded), Line::Ended(id(1), Succeeded)];
        assert!(faults(&ended, &[(1, Processing)]).contains("LOST: the end"));
        assert!(faults(&ended, &[(1, Failed)]).contains("LOST: the end"));
        assert!(faults(&ended, &[]).contains("LOST: job"));
        assert_eq!(faults(&ended, &[(1, Succeeded)]), "");
    }

    #[test]
    fn nothing_is_invented_and_no_call_is_cut_in_two() {
        use StateName::{Enqueued, Failed, Succeeded};
        assert!(faults(&[wish(1, 1)], &[(1, Failed)]).contains("INVENTED"));
        let ends = [wish(1, 1), Line::Ends(id(1), Succeeded)];
        assert!(faults(&ends, &[(1, Failed)]).contains("INVENTED"));
        let group = [wish(1, 1), wish(2, 1), wish(3, 3)];
        assert!(faults(&group, &[(1, Enqueued)]).contains("TORN: of group 1"));
        assert_eq!(faults(&group, &[(1, Enqueued), (2, Enqueued)]), "");
        // A standing of the whole record, held against an earlier point of it.
        let all = story(&group).standing(&[(id(3), Enqueued)].into());
        let earlier = story(&group[..2]).faults(&all);
        assert!(earlier[0].to_string().contains("INVENTED"), "{earlier:?}");
    }
}
