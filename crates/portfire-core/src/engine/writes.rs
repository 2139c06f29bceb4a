//! What a storage behind a network loads for a [`Workspace`](super::Workspace), and what it writes of it.

use std::collections::BTreeMap;

use super::rows::{
    Batch, Broken, Due, Fault, Job, Node, Number, Position, Reach, Seq, Sweep, What,
};
use crate::batch::{BatchId, NewBatch, Progression};
use crate::continuation::{After, Dependency};
use crate::error::StorageError;
use crate::job::{JobId, Json, NewJob};
use crate::state::{ErrorRecord, StateName};
use crate::transition::Transition;

/// What a call reads. The order of the variants is the one order in which a storage locks them: rows before the ranges
/// that hang on them, a parent before its children, jobs before batches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The number of the job with this id.
    JobOf(JobId),
    /// The number of the batch with this id.
    BatchOf(BatchId),
    /// A job and where it stands.
    Job(Seq),
    /// A batch, what it waits for, and its id.
    Batch(Seq),
    /// How the members of a batch stand.
    Count(Seq),
    /// The range of the open links of a parent, as far as an end of this reach decides about them.
    Children(Seq, Reach),
    /// The range of the members that wait for the start of a batch.
    Starters(Seq),
    /// The range of the members of a batch behind a number.
    Members(Seq, Seq),
    /// The last end of this job or batch that waits in the outbox.
    LastEnd(Seq),
    /// The first of what earlier calls had no room for.
    Outbox,
    /// The first of the cancelled batches whose members are still to be deleted.
    Sweeps,
}

/// What a call must load before it is decided again: each key, for a range with the number of rows.
pub type Footprint = BTreeMap<Key, usize>;

/// The open link of a child, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether the child is a batch.
    pub is_batch: bool,
    /// Which end it waits for.
    pub after: After,
    /// Its place among what the child waits for, when it gets the outcome of its parent.
    pub pass: Option<usize>,
}

/// A job as it is stored and loaded.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its facts.
    pub job: Job,
    /// Where it stands.
    pub position: Position,
}

/// A batch as it is stored and loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchRow {
    /// Its id.
    pub id: BatchId,
    /// The batch.
    pub batch: Batch,
    /// What it waits for, or waited.
    pub after: Vec<Dependency>,
}

/// A loaded row or range.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// For [`Key::JobOf`] and [`Key::BatchOf`]. A storage that finds the id of a new job compares kind and args, and
    /// refuses the call when they differ.
    Seq(Option<Seq>),
    /// For [`Key::Job`].
    Job(Option<JobRow>),
    /// For [`Key::Batch`].
    Batch(Option<BatchRow>),
    /// For [`Key::Count`].
    Count(Progression),
    /// For [`Key::Children`]: the first open links by the numbers of the children, and whether these are all. The jobs
    /// among the children are loaded with them, under their own keys.
    Children(Vec<(Seq, Link)>, bool),
    /// For [`Key::Starters`] and [`Key::Members`]: the first by their numbers, and whether these are all. The jobs among
    /// the starters are loaded with them, under their own keys.
    Nodes(Vec<Node>, bool),
    /// For [`Key::LastEnd`].
    End(Option<What>),
    /// For [`Key::Outbox`]: the first, with its turn.
    Due(Option<(i64, Due)>),
    /// For [`Key::Sweeps`]: the first.
    Sweep(Option<Sweep>),
}

/// One row to write, owned. A storage applies them in their order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Write {
    /// A new job, under a number that was drawn for the call.
    JobNew {
        /// What the call said.
        new: Box<NewJob>,
        /// Its row.
        row: Box<JobRow>,
    },
    /// A job moves.
    JobMoved(Box<JobMoved>),
    /// Something waits for the end of a job, or nothing does.
    Followed {
        /// The job.
        job: Seq,
        /// Whether something does.
        followed: bool,
    },
    /// A job that is awaiting waits for less.
    Pending {
        /// The job.
        job: Seq,
        /// How many things it waits for still.
        pending: u32,
        /// Whether the start of its batch is among them.
        start: bool,
    },
    /// A child waits for a parent.
    LinkNew {
        /// The parent.
        parent: Seq,
        /// The child.
        child: Seq,
        /// The link.
        link: Link,
    },
    /// A child waits for a parent no more.
    LinkClosed {
        /// The parent.
        parent: Seq,
        /// The child.
        child: Seq,
    },
    /// A child gets to know how a parent ended: see [`RowChange::Passed`](super::RowChange::Passed).
    Passed {
        /// The child.
        child: Seq,
        /// The place of the parent.
        place: usize,
        /// The end.
        end: StateName,
        /// Whose result or error goes with it.
        of: Option<(Seq, u32)>,
    },
    /// A new batch.
    BatchNew {
        /// Its number.
        seq: Seq,
        /// What the call says of it.
        new: Box<NewBatch>,
        /// Its row.
        row: Box<BatchRow>,
    },
    /// A batch changes.
    BatchPut {
        /// Its number.
        seq: Seq,
        /// What it is now.
        batch: Batch,
    },
    /// A member moves between states, or (`None`) is added. This is added to the counts as they are when the call is
    /// applied, not to those that were loaded.
    Count {
        /// The batch.
        batch: Seq,
        /// The state that the member leaves.
        from: Option<StateName>,
        /// The state that it enters.
        to: StateName,
    },
    /// The members of a cancelled batch are to be deleted.
    SweepNew {
        /// The batch.
        batch: Seq,
    },
    /// Some of them are.
    SweepMoved {
        /// Which sweep.
        turn: i64,
        /// The last member that was seen to.
        position: Seq,
    },
    /// All of them are.
    SweepDone {
        /// Which sweep.
        turn: i64,
    },
    /// Something waits for promotions.
    DueNew(Due),
    /// Some of those who wait were told.
    DueMoved {
        /// Which one.
        turn: i64,
        /// The last that was told.
        position: Seq,
    },
    /// All were told.
    DueDone {
        /// Which one.
        turn: i64,
    },
}

/// A job moves, with what the history and the result say of it.
#[derive(Clone, Debug)]
pub struct JobMoved {
    /// Its number.
    pub seq: Seq,
    /// Where it stood.
    pub from: Position,
    /// Where it stands from now on.
    pub to: Position,
    /// What the state machine decided.
    pub made: Transition,
    /// What it is about.
    pub facts: OwnedFacts,
}

/// [`Facts`](super::Facts), owned.
#[derive(Clone, Debug, Default)]
pub struct OwnedFacts {
    /// The server that it concerns.
    pub server: Option<Number>,
    /// The attempt that ended by it.
    pub attempt: Option<u32>,
    /// What went wrong.
    pub error: Option<ErrorRecord>,
    /// Why it happened.
    pub reason: Option<String>,
    /// What the handler returned.
    pub result: Option<Json>,
    /// How long the handler ran, in microseconds.
    pub duration: i64,
}

/// Why a decision over a workspace has no answer.
#[derive(Debug)]
pub enum Gap {
    /// A row is not loaded. It was asked for.
    Missing,
    /// The engine refused, or rows contradict one another.
    Failed(StorageError),
}

impl From<StorageError> for Gap {
    fn from(error: StorageError) -> Gap {
        Gap::Failed(error)
    }
}

impl From<Broken> for Gap {
    fn from(Broken(what): Broken) -> Gap {
        Gap::Failed(StorageError::Corrupt(what))
    }
}

impl Fault for Gap {
    fn is_refusal(&self) -> bool {
        matches!(self, Gap::Failed(error) if !matches!(error, StorageError::Corrupt(_)))
    }
}
