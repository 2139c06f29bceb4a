//! Faults that are planted into a good record: a simulation that does not find them finds nothing.

use crate::power::record::{DATABASE, Event, Record};
use crate::power::story::Line;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// What was acknowledged after a sync of the log is acknowledged before it ends.
    EarlyAcknowledgements,
    /// The log is never synced.
    NoLogSyncs,
    /// The database file is never synced.
    NoDatabaseSyncs,
    /// The directory is never synced.
    NoDirectorySyncs,
}

/// All of them.
pub(crate) const ALL: [Plant; 4] = [
    Plant::EarlyAcknowledgements,
    Plant::NoLogSyncs,
    Plant::NoDatabaseSyncs,
    Plant::NoDirectorySyncs,
];

impl Plant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plant::EarlyAcknowledgements => "early acknowledgements",
            Plant::NoLogSyncs => "no syncs of the log",
            Plant::NoDatabaseSyncs => "no syncs of the database file",
            Plant::NoDirectorySyncs => "no syncs of the directory",
        }
    }

    /// The record with the fault in it.
    pub(crate) fn in_record(self, record: &Record) -> Record {
        if self == Plant::EarlyAcknowledgements {
            return early(record);
        }
        let mut record = record.clone();
        let Record { events, files, .. } = &mut record;
        for event in events {
            match event {
                // A sync of what had ended before anything began.
                Event::Sync { file, since, .. } if self.hits(&files[file.0]) => *since = 0,
                Event::SyncDirectory { since, .. } if self == Plant::NoDirectorySyncs => *since = 0,
                _ => {}
            }
        }
        record
    }

    fn hits(self, file: &str) -> bool {
        match self {
            Plant::NoLogSyncs => file.ends_with("-wal"),
            Plant::NoDatabaseSyncs => file == DATABASE,
            Plant::EarlyAcknowledgements | Plant::NoDirectorySyncs => false,
        }
    }
}

/// Moves each acknowledgement before the end of the last sync of a log above it.
fn early(record: &Record) -> Record {
    let mut order: Vec<(usize, usize)> = Vec::new();
    let mut last_sync = 0;
    for (at, event) in record.events.iter().enumerate() {
        match event {
            Event::Sync { file, .. } if record.files[file.0].ends_with("-wal") => last_sync = at,
            _ => {}
        }
        let is_ack = matches!(event, Event::Tell(Line::Stored(_) | Line::Ended(..)));
        // Behind what stands above the sync, which has twice its own place.
        order.push((if is_ack { (2 * last_sync).saturating_sub(1) } else { 2 * at }, at));
    }
    order.sort_unstable();
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &(_, at))| places[at] = place);
    let moved = |since: usize| {
        let is_told = |at: &usize| matches!(record.events[*at], Event::Tell(_));
        let before = (0..since).rev().find(|at| !is_told(at));
        before.map_or(0, |at| places[at] + 1)
    };
    let events = order.iter().map(|&(_, at)| match record.events[at].clone() {
        Event::Sync { file, since, good } => Event::Sync { file, since: moved(since), good },
        Event::SyncDirectory { since, good } => Event::SyncDirectory { since: moved(since), good },
        other => other,
    });
    Record { events: events.collect(), ..record.clone() }
}

#[cfg(test)]
mod tests {
    use portfire::{JobId, Timestamp};

    use super::*;
    use crate::power::record::FileId;

    fn record() -> Record {
        let job = JobId::from_parts(Timestamp::default(), 1);
        let file = FileId(1);
        Record {
            events: vec![
                Event::Tell(Line::Wish { job, number: 1, group: 1 }),
                Event::Write { file, offset: 0, bytes: vec![1] },
                Event::Sync { file, since: 2, good: true },
                Event::Sync { file: FileId(0), since: 3, good: true },
                Event::Tell(Line::Stored(job)),
                Event::Write { file, offset: 1, bytes: vec![2] },
                Event::Sync { file, since: 6, good: true },
            ],
            files: vec![DATABASE.to_owned(), "jobs.db-wal".to_owned()],
            unclear: false,
        }
    }

    #[test]
    fn an_acknowledgement_moves_before_its_sync_and_syncs_cover_what_they_did() {
        let events = Plant::EarlyAcknowledgements.in_record(&record()).events;
        assert!(matches!(events[2], Event::Tell(Line::Stored(_))), "{events:?}");
        let file = FileId(1);
        assert_eq!(events[3], Event::Sync { file, since: 2, good: true });
        assert_eq!(events[4], Event::Sync { file: FileId(0), since: 4, good: true });
        assert_eq!(events[6], Event::Sync { file, since: 6, good: true });
    }

    #[test]
    fn a_planted_fault_hits_its_file_alone() {
        let covers = |plant: Plant| -> Vec<usize> {
            let events = plant.in_record(&record()).events;
            let since = |event: Event| match event {
                Event::Sync { since, .. } => Some(since),
                _ => None,
            };
            events.into_iter().filter_map(since).collect()
        };
        assert_eq!(covers(Plant::NoLogSyncs), [0, 3, 0]);
        assert_eq!(covers(Plant::NoDatabaseSyncs), [2, 0, 6]);
        assert_eq!(covers(Plant::NoDirectorySyncs), [2, 3, 6]);
    }
}
