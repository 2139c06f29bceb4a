//! What is stored, as the engine sees it, and [`Rows`]: what a storage does for the engine.
//!
//! Jobs and batches share one order of creation, so a [`Seq`] names either. Kinds, queues, servers and keys of
//! limits are stored under a [`Number`].

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{BatchId, BatchState, NewBatch, Progression};
use crate::clock::Timestamp;
use crate::continuation::{After, Antecedent, Dependency};
use crate::error::StorageError;
use crate::job::{JobId, Json, Limits, NewJob, When};
use crate::state::{Cause, ErrorRecord, StateName};
use crate::ties::{Occurrence, Ties};
use crate::transition::{Retention, Standing, Transition};
use crate::unique::UniqueKey;

/// A place in the order in which jobs and batches were created, from 1.
pub type Seq = i64;

/// The number of a kind, a queue, a server or the key of a limit.
pub type Number = i64;

/// A job or a batch by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A job.
    Job(Seq),
    /// A batch.
    Batch(Seq),
}

impl Node {
    /// The node with this number that is stored under that id.
    pub fn of(id: Antecedent, seq: Seq) -> Node {
        match id {
            Antecedent::Job(_) => Node::Job(seq),
            Antecedent::Batch(_) => Node::Batch(seq),
        }
    }

    /// Its number.
    pub fn seq(self) -> Seq {
        match self {
            Node::Job(seq) | Node::Batch(seq) => seq,
        }
    }
}

/// The facts of a job that never change, but for the last two. The engine never reads args.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number.
    pub seq: Seq,
    /// Its kind.
    pub kind: Number,
    /// Its queue.
    pub queue: Number,
    /// Its negated priority: the order of claims in a queue.
    pub rank: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// The instant that it was created with, when it was created scheduled.
    pub run_at: Option<Timestamp>,
    /// How long it is kept, when the call said so.
    pub retention: Option<Retention>,
    /// What ties it to others, but for its batch; `None` when nothing does.
    pub ties: Option<Arc<Ties>>,
    /// The batch it is a member of.
    pub batch: Option<Seq>,
    /// Whether it was created awaiting.
    pub awaited: bool,
    /// Whether anything waits, or waited, for its end.
    pub followed: bool,
    /// [`Standing::crashes`] when it was read. Most jobs have none, so a storage may keep them beside the body.
    pub crashes: u32,
}

impl Job {
    /// Whether what happens to it concerns no other job and no batch, limits of its kind and its queue apart.
    /// Storages may move such jobs by statements of their own.
    pub fn is_plain(&self) -> bool {
        self.ties.is_none() && self.batch.is_none() && !self.followed
    }

    /// What it waits for, or waited.
    pub fn after(&self) -> &[Dependency] {
        self.ties.as_ref().map_or(&[], |ties| &ties.after)
    }
}

/// Where a job stands: everything about it that changes.
#[derive(Clone, Debug)]
pub struct Position {
    /// Its state, and what is counted of it.
    pub standing: Standing,
    /// The last revision that has a row in the history; later ones are derived from the instants here.
    pub written: u32,
    /// The row of its state.
    pub row: StateRow,
}

/// What the state of a job adds.
#[derive(Clone, Copy, Debug)]
pub enum StateRow {
    /// It waits for others.
    Awaiting {
        /// How many things it waits for still.
        pending: u32,
        /// Whether the start of its batch is among them.
        start: bool,
        /// When it runs after its release.
        when: When,
    },
    /// It is enqueued, and may be claimed.
    Ready {
        /// Its place in its queue, behind its rank.
        place: i64,
        /// When it came there; `None` when that was at its creation.
        enqueued_at: Option<Timestamp>,
    },
    /// It is enqueued, and stands apart from others because it is a [suspect](crate::suspects).
    Apart {
        /// The number that was drawn when it came there. The last comes first.
        turn: i64,
        /// When it came there; `None` when that was at its creation.
        enqueued_at: Option<Timestamp>,
    },
    /// It is enqueued, and was set aside, because a claim met it whose server has no handler of its [kind](super::kinds).
    Aside {
        /// Its place in its queue, behind its rank, which it keeps.
        place: i64,
        /// When it came to its queue; `None` when that was at its creation.
        enqueued_at: Option<Timestamp>,
    },
    /// It is enqueued, and waits in the line of a limit.
    InLine {
        /// The key whose line that is.
        key: Number,
        /// When it was enqueued; `None` when that was at its creation.
        enqueued_at: Option<Timestamp>,
    },
    /// It waits for an instant.
    Scheduled {
        /// That instant.
        run_at: Timestamp,
        /// Why it waits.
        cause: Cause,
    },
    /// A server holds it.
    Running {
        /// Which server.
        server: Number,
        /// The key of the exchange that claimed it.
        exchange: i64,
        /// When it was claimed.
        claimed_at: Timestamp,
        /// Where it goes when it is given back.
        place: i64,
        /// When it was enqueued; `None` when that was at its creation.
        enqueued_at: Option<Timestamp>,
    },
    /// It has ended.
    Finished {
        /// When.
        finished_at: Timestamp,
        /// When it may be cleaned.
        expires_at: Option<Timestamp>,
        /// Its last attempt, when it succeeded.
        ran: Option<Ran>,
    },
}

/// The last attempt of a job that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// Who ran it.
    pub server: Number,
    /// From when.
    pub claimed_at: Timestamp,
    /// When it was enqueued; `None` when that was at its creation.
    pub enqueued_at: Option<Timestamp>,
    /// How long the handler ran, in microseconds.
    pub duration: i64,
}

/// A batch, but for the counts of its members, and for what is written once and only shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The batch it stands in.
    pub parent: Option<Seq>,
    /// How deep it stands in others; 1 without a parent.
    pub depth: u32,
    /// How long it is kept after its end, in microseconds.
    pub retention: i64,
    /// Its state.
    pub state: BatchState,
    /// How many things it waits for still before it starts, the start of its parent included.
    pub waits: u32,
    /// Whether the start of its parent is among them.
    pub start: bool,
    /// Whether anything waits, or waited, for its end.
    pub followed: bool,
    /// Whether it has ended as failed, and for good: a member was deleted, so that it succeeds no more when those that
    /// failed are requeued.
    pub for_good: bool,
    /// When it ended, in microseconds since 1970.
    pub ended_at: Option<i64>,
    /// When it may be cleaned, in microseconds since 1970.
    pub expires_at: Option<i64>,
    /// When a storage looks whether it can be cleaned. It is [`expires_at`](Batch::expires_at), but `None` from a
    /// vain look until the last member is cleaned.
    pub clean_at: Option<i64>,
    /// Why it was cancelled.
    pub reason: Option<Arc<str>>,
}

impl Batch {
    /// Whether its members may run, or have run.
    pub fn has_started(&self) -> bool {
        !matches!(self.state, BatchState::Open | BatchState::Awaiting)
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.state, BatchState::Cancelling | BatchState::Cancelled)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.state.end().is_some()
    }

    /// As which of its members an ended batch counts in the one around it.
    pub fn counts_as(&self) -> Option<StateName> {
        self.state.end().map(|end| if self.for_good { StateName::Deleted } else { end })
    }
}

/// A child that waits still for the end of its parent.
#[derive(Clone, Debug)]
pub struct Child {
    /// Its number.
    pub seq: Seq,
    /// Which end it waits for.
    pub after: After,
    /// Its place among what the child waits for, when it gets the outcome of its parent.
    pub pass: Option<usize>,
    /// The child itself, read with its link.
    pub who: Waiter,
}

/// What waits for an end.
#[derive(Clone, Debug)]
pub enum Waiter {
    /// A batch.
    Batch,
    /// A job that is awaiting.
    Job(Box<Job>, Position),
    /// A job that waits no more: it was moved by hand.
    Gone,
}

/// A member that waits for the start of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Starter {
    /// The member.
    pub node: Node,
    /// Its queue and its kind, when it is a job that waits for nothing else, is under no limit and then runs at
    /// once. A storage that has no statement for a [run](Rows::enqueue_run) of such jobs always says `None`.
    pub plain: Option<(Number, Number)>,
}

/// Something that others wait for, and that they must still be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What has happened.
    pub what: What,
    /// To which job or batch.
    pub seq: Seq,
    /// The last of those who wait that was told; 0 before the first.
    pub position: Seq,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A job has ended, in this state. The end of the retention of a failed job is told as its deletion.
    JobEnded(StateName),
    /// A batch has ended, as a job would in this state.
    BatchEnded(StateName),
    /// A batch has failed for good: see [`Batch::for_good`].
    BatchFailedForGood,
    /// A batch has started.
    BatchStarted,
    /// The pending members of a batch came to 0 in a commit that could not end it: see [`Rows::count_member`].
    BatchEmptied,
}

/// Which of those who wait for a parent an end decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// All of them.
    All,
    /// Those that wait for a failure or for any end: the parent has failed. It may be requeued and succeed.
    OfFailure,
}

impl Reach {
    /// Whether it decides about who waits for this end.
    pub fn includes(self, after: After) -> bool {
        self == Reach::All || !after.is_open_after(StateName::Failed)
    }
}

impl What {
    /// About whom an end decides; `None` when it is none.
    pub fn reach(self) -> Option<Reach> {
        match self {
            What::JobEnded(StateName::Failed) | What::BatchEnded(StateName::Failed) => {
                Some(Reach::OfFailure)
            }
            What::JobEnded(_) | What::BatchEnded(_) | What::BatchFailedForGood => Some(Reach::All),
            What::BatchStarted | What::BatchEmptied => None,
        }
    }
}

impl Due {
    /// Something that nobody was told of yet.
    pub fn new(what: What, seq: Seq) -> Due {
        Due { what, seq, position: 0 }
    }
}

/// What one call must still do at its end. A storage keeps one while a call lasts; only the engine looks into it.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    /// What the call has ended and started, in its order.
    pub(super) due: VecDeque<Due>,
    /// While members are being added: the batches that have none pending, and must not end yet.
    pub(super) emptied: Option<Vec<Seq>>,
}

impl Agenda {
    /// Names how much of it there is.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.due.len(), self.emptied.as_ref().map_or(0, Vec::len))
    }

    /// Takes back what was added since a mark.
    pub(super) fn undo(&mut self, (due, emptied): (usize, usize)) {
        self.due.truncate(due);
        if let Some(known) = &mut self.emptied {
            known.truncate(emptied);
        }
    }

    /// Whether nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

/// What a transition is about, beyond what the state machine decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The server that it concerns.
    pub server: Option<Number>,
    /// The attempt that ended by it.
    pub attempt: Option<u32>,
    /// What went wrong.
    pub error: Option<&'a ErrorRecord>,
    /// Why it happened.
    pub reason: Option<&'a str>,
    /// What the handler returned.
    pub result: Option<&'a Json>,
    /// How long the handler ran, in microseconds.
    pub duration: i64,
}

impl<'a> Facts<'a> {
    /// Facts that are a reason and nothing else.
    pub fn reason(reason: &'a str) -> Facts<'a> {
        Facts { reason: Some(reason), ..Facts::default() }
    }
}

/// A transition as a storage writes it.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// The job.
    pub job: &'a Job,
    /// Where it stood. A storage compares the revision with what is stored.
    pub from: &'a Position,
    /// Where it stands from now on.
    pub to: &'a Position,
    /// What the state machine decided.
    pub made: &'a Transition,
    /// What it is about.
    pub facts: &'a Facts<'a>,
}

/// The numbers of a job that was just stored.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// Its own.
    pub seq: Seq,
    /// Of its kind.
    pub kind: Number,
    /// Of its queue.
    pub queue: Number,
}

/// What a new job's body says beyond its call.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The instant it is scheduled for, when it is created scheduled.
    pub run_at: Option<Timestamp>,
    /// The batch it is a member of.
    pub batch: Option<Seq>,
    /// Whether it is created awaiting.
    pub awaited: bool,
    /// Whether something in its call waits for it.
    pub followed: bool,
}

/// Where a new job stands.
#[derive(Clone, Copy, Debug)]
pub enum FirstRow {
    /// At the end of its queue; its place is its number.
    Ready,
    /// In the line of this key.
    InLine(Number),
    /// Until this instant.
    Scheduled(Timestamp),
    /// Waiting for others: see [`StateRow::Awaiting`].
    Awaiting {
        /// How many things it waits for.
        pending: u32,
        /// Whether the start of its batch is among them.
        start: bool,
    },
}

impl FirstRow {
    /// The state that it is the row of.
    pub fn state(&self) -> StateName {
        match self {
            FirstRow::Ready | FirstRow::InLine(_) => StateName::Enqueued,
            FirstRow::Scheduled(_) => StateName::Scheduled,
            FirstRow::Awaiting { .. } => StateName::Awaiting,
        }
    }
}

/// What a new job meets that wants a unique key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It holds the key now.
    Free,
    /// The job itself is stored already.
    Existing,
    /// This job holds the key, and stands for the new one.
    Held(JobId),
    /// It holds the key now, and another job was deleted for it.
    Replaced,
}

/// One change of the rows of links, batches and what is due.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RowChange<'a> {
    /// A child waits for the end of a parent.
    LinkNew {
        /// The parent.
        parent: Seq,
        /// The child.
        child: Seq,
        /// Whether the child is a batch.
        is_batch: bool,
        /// What it waits for.
        dependency: &'a Dependency,
        /// The place of the dependency among all of the child.
        place: usize,
    },
    /// A child waits for a parent no more.
    LinkClosed {
        /// The parent.
        parent: Seq,
        /// The child.
        child: Seq,
    },
    /// Something waits for the end of this job from now on, or nothing does and nothing did.
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
    /// A child gets to know how one of its parents ended.
    Passed {
        /// The child.
        child: Seq,
        /// The place of the parent among what the child waits for.
        place: usize,
        /// The end.
        end: StateName,
        /// The job whose result or error goes with it, and the revision that has it; `None` when the state is all.
        of: Option<(Seq, u32)>,
    },
    /// A batch is stored, without members.
    BatchNew {
        /// Its number.
        seq: Seq,
        /// What the call says of it.
        new: &'a NewBatch,
        /// The rest.
        batch: &'a Batch,
    },
    /// A batch changes.
    BatchPut {
        /// Its number.
        seq: Seq,
        /// What it is now.
        batch: &'a Batch,
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
    /// What a call had no room for waits for the next promotions, behind what waits already.
    DueNew(&'a Due),
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

/// A stored row contradicts another.
#[derive(Debug)]
pub struct Broken(pub String);

/// Why a call over [`Rows`] fails: the engine refuses it, a row is broken, or the storage itself failed.
pub trait Fault: From<StorageError> + From<Broken> {
    /// Whether the engine refused what was asked, so that nothing is wrong with the storage.
    fn is_refusal(&self) -> bool;
}

/// The members of a cancelled batch that are still to be deleted.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Names it in [`RowChange`]; rises.
    pub turn: i64,
    /// The batch.
    pub batch: Seq,
    /// The last member that was seen to.
    pub position: Seq,
}

/// The rows of a storage inside one call, which the engine reads and changes.
///
/// One call of [`Storage`](crate::Storage) is one decision over these rows and one atomic change of them. Reads see
/// what was put before. A storage may keep what it read or is to write; the trait says what is read and written,
/// not when.
///
/// A storage that keeps its rows behind a network decides over rows that it loaded before. A read of a row that is
/// not loaded fails with an error of its own, and [`item`](Rows::item) ends there: see it for what follows.
pub trait Rows: Sized {
    /// Why a call fails. Refusals and broken rows come from the engine.
    type Error: Fault;

    // The call.

    /// Storage time: one instant for the whole call.
    fn now(&self) -> Timestamp;

    /// How long final jobs are kept whose call did not say it.
    fn retention(&self) -> Retention;

    /// The bounds of what is stored.
    fn limits(&self) -> Limits;

    /// What this call must still do.
    fn agenda(&mut self) -> &mut Agenda;

    /// Does one of several things that do not depend on one another: one finish, one new job, one end.
    ///
    /// Answers `None` when a row that it reads is not loaded yet: what it put is undone, and the call goes on with the
    /// next, so that one pass collects all that is missing. A pass that has missed anything has no outcome; it is
    /// made again with more rows. A storage that reads its rows directly never answers `None`.
    ///
    /// # Errors
    /// Those of the act.
    fn item<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, Self::Error>,
    ) -> Result<Option<T>, Self::Error> {
        act(self).map(Some)
    }

    /// The number that the next new job or batch gets. It stays the same until something is stored under it.
    ///
    /// # Errors
    /// As every read.
    fn next_seq(&mut self) -> Result<Seq, Self::Error>;

    /// Draws a place at the end of the queues, behind all that were drawn.
    ///
    /// # Errors
    /// As every read.
    fn draw_place(&mut self) -> Result<i64, Self::Error>;

    /// Held jobs were taken from their holder: servers have to hear of it.
    fn hint_control(&mut self);

    // Jobs.

    /// The job with this number and where it stands; `None` when it is not stored.
    ///
    /// # Errors
    /// As every read.
    fn job(&mut self, seq: Seq) -> Result<Option<(Job, Position)>, Self::Error>;

    /// The job with this id.
    ///
    /// # Errors
    /// As every read.
    fn job_by_id(&mut self, id: JobId) -> Result<Option<(Job, Position)>, Self::Error>;

    /// Whether the job that is stored under this id has the same kind and args; `None` when none is.
    ///
    /// # Errors
    /// As every read.
    fn is_same(&mut self, new: &NewJob) -> Result<Option<bool>, Self::Error>;

    /// Stores the body of a job under the [next number](Rows::next_seq), unless its id is stored: then `None`, and
    /// nothing is changed.
    ///
    /// # Errors
    /// As every write.
    fn add_job(&mut self, new: &NewJob, origin: Origin) -> Result<Option<Numbers>, Self::Error>;

    /// Puts a job that was just stored where it stands first, and counts it.
    ///
    /// # Errors
    /// As every write.
    fn place_job(
        &mut self,
        new: &NewJob,
        numbers: Numbers,
        row: FirstRow,
    ) -> Result<(), Self::Error>;

    /// Moves a job from one row to another, writes its history when [`Position::written`] says so, and counts it.
    ///
    /// # Errors
    /// As every write.
    fn move_job(&mut self, moved: Move<'_>) -> Result<(), Self::Error>;

    /// Moves plain members with neighbouring numbers from their wait to the ends of their queues, in their order.
    ///
    /// # Errors
    /// As every write.
    fn enqueue_run(&mut self, members: &[Starter], made: &Transition) -> Result<(), Self::Error>;

    // Links and batches.

    /// The number of the batch with this id.
    ///
    /// # Errors
    /// As every read.
    fn batch_by_id(&mut self, id: BatchId) -> Result<Option<Seq>, Self::Error>;

    /// The batch with this number; `None` when it is not stored.
    ///
    /// # Errors
    /// As every read.
    fn batch(&mut self, seq: Seq) -> Result<Option<Batch>, Self::Error>;

    /// How the members of a batch stand.
    ///
    /// # Errors
    /// As every read.
    fn members(&mut self, batch: Seq) -> Result<Progression, Self::Error>;

    /// Counts a member that moved from one state to another, or (`None`) was added. Answers how the members stand then,
    /// where that is known before the commit. A storage for which it is not looks itself, as it commits, which pending
    /// members came to 0. It leaves [`BatchEmptied`](What::BatchEmptied) in the outbox in the same commit, and calls
    /// [`end_emptied`](super::end_emptied) in a call that follows at once: should that never come, a promotion ends the batch.
    ///
    /// # Errors
    /// As every write.
    fn count_member(
        &mut self,
        batch: Seq,
        from: Option<StateName>,
        to: StateName,
    ) -> Result<Option<Progression>, Self::Error>;

    /// What a batch waits for, or waited.
    ///
    /// # Errors
    /// As every read.
    fn batch_after(&mut self, batch: Seq) -> Result<Vec<Dependency>, Self::Error>;

    /// The first `max` members of a batch behind a number, in the order of their numbers.
    ///
    /// # Errors
    /// As every read.
    fn members_after(
        &mut self,
        batch: Seq,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Node>, Self::Error>;

    /// The first `max` members that wait for the start of a batch, in the order of their numbers. Those up to `after` were
    /// told: a storage whose numbers commit in their order may begin behind it.
    ///
    /// # Errors
    /// As every read.
    fn starters(&mut self, batch: Seq, after: Seq, max: usize)
    -> Result<Vec<Starter>, Self::Error>;

    /// The first `max` children whose link to this parent is open and whom an end of this reach decides about, in the order
    /// of their numbers. Those up to `after` were told: a storage whose numbers commit in their order may begin behind it.
    /// The others, who may be many, must not have to be looked at.
    ///
    /// # Errors
    /// As every read.
    fn children(
        &mut self,
        parent: Seq,
        reach: Reach,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Child>, Self::Error>;

    /// Whether one waits for the other still.
    ///
    /// # Errors
    /// As every read.
    fn is_open(&mut self, parent: Seq, child: Seq) -> Result<bool, Self::Error>;

    /// The number of a job or a batch.
    ///
    /// # Errors
    /// As every read.
    fn seq_of(&mut self, id: Antecedent) -> Result<Option<Seq>, Self::Error>;

    /// The id of a job or a batch.
    ///
    /// # Errors
    /// As every read.
    fn id_of(&mut self, node: Node) -> Result<Antecedent, Self::Error>;

    /// The first of what earlier calls had no room for, with the turn that names it. What this call has left itself need not
    /// be among that.
    ///
    /// # Errors
    /// As every read.
    fn first_due(&mut self) -> Result<Option<(i64, Due)>, Self::Error>;

    /// The last [end](What::reach) of this job or batch that waits there still.
    ///
    /// # Errors
    /// As every read.
    fn last_end_due(&mut self, seq: Seq) -> Result<Option<What>, Self::Error>;

    /// The first cancelled batch whose members are still to be deleted; one that this call has cancelled need not be seen.
    ///
    /// # Errors
    /// As every read.
    fn first_sweep(&mut self) -> Result<Option<Sweep>, Self::Error>;

    /// Changes a row.
    ///
    /// # Errors
    /// As every write.
    fn put(&mut self, change: RowChange<'_>) -> Result<(), Self::Error>;

    // Rules that are still decided beside the engine, by each storage for itself.

    /// Stores the rules of limits that a new job declares.
    ///
    /// # Errors
    /// As every write.
    fn declare_limits(&mut self, ties: &Ties) -> Result<(), Self::Error>;

    /// The key in whose line a job has to stand that comes to the end of its queue. It is counted there then.
    ///
    /// # Errors
    /// As every write.
    fn line_up(&mut self, ties: Option<&Ties>, kind: Number)
    -> Result<Option<Number>, Self::Error>;

    /// Gives back what a job had of its limits that has left this row.
    ///
    /// # Errors
    /// As every write.
    fn leave_limits(&mut self, job: &Job, from: &StateRow) -> Result<(), Self::Error>;

    /// Lets those go on that wait for what was given back.
    ///
    /// # Errors
    /// As every write.
    fn settle_limits(&mut self) -> Result<(), Self::Error>;

    /// Takes the unique key of a job that is to be stored under this number.
    ///
    /// # Errors
    /// As every write.
    fn take_unique(
        &mut self,
        key: &UniqueKey,
        new: &NewJob,
        seq: Seq,
    ) -> Result<Taken, Self::Error>;

    /// Gives a unique key back, if the job with this number holds it.
    ///
    /// # Errors
    /// As every write.
    fn free_unique(&mut self, key: &UniqueKey, seq: Seq) -> Result<(), Self::Error>;

    /// Notes how the job of a run of a recurring job ended.
    ///
    /// # Errors
    /// As every write.
    fn end_run(
        &mut self,
        job: Seq,
        occurrence: &Occurrence,
        end: StateName,
    ) -> Result<(), Self::Error>;

    /// Notes that the job of a run of a recurring job runs anew after its end.
    ///
    /// # Errors
    /// As every write.
    fn reopen_run(&mut self, job: &Job, occurrence: &Occurrence) -> Result<(), Self::Error>;
}
