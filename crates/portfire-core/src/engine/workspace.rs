//! The workspace: loaded rows over which a storage behind a network has a call decided, and what is to be written.
//!
//! Loading is reconnaissance: it takes no lock. A read of a row that is not loaded asks for it and ends its
//! [item](Rows::item). The pass goes on, so that one pass asks for all that it misses. All of it is then loaded in one
//! round trip, and the decision is made again. At the end the storage locks what was read, in the order of [`Key`]. It
//! verifies that **every row, every absence and every range that was read** is as it was, and writes. On a mismatch the
//! decision is made again: see [`intent`](super::intent).
//!
//! What commutes is not read. A member is [counted](Write::Count) as the call is applied. Whoever brings the pending
//! members of a batch to 0 by that ends the batch in a call of its own.
//!
//! Unique keys, limits and recurring jobs are not decided over a workspace yet: a call that names one is refused.

use std::collections::BTreeMap;

use super::layer::Layer;
use super::rows::{
    Agenda, Batch, Broken, Child, Due, FirstRow, Job, Move, Node, Number, Numbers, Origin,
    Position, Reach, RowChange, Rows, Seq, Starter, StateRow, Sweep, Taken, Waiter, What,
};
use super::writes::{
    BatchRow, Footprint, Gap, JobMoved, JobRow, Key, Link, Loaded, OwnedFacts, Write,
};
use crate::batch::{BatchId, Progression};
use crate::clock::Timestamp;
use crate::continuation::{Antecedent, Dependency};
use crate::error::StorageError;
use crate::job::{JobId, Limits, NewJob};
use crate::state::{Cause, StateName};
use crate::ties::{Occurrence, Ties};
use crate::transition::{Retention, Standing, Transition};
use crate::unique::UniqueKey;

/// How many rows of a range are asked for at first.
const RANGE_FIRST: usize = 16;

/// What a storage sets for all its calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// How long final jobs are kept whose call did not say it.
    pub retention: Retention,
    /// The bounds of what is stored.
    pub limits: Limits,
}

/// What is drawn for a call before it is decided, and kept when it is decided again.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// Numbers for its jobs, batches and places, which are used in their order.
    pub numbers: Vec<Seq>,
    /// The number of each kind (`kind NAME`) and each queue (`queue NAME`) that it names.
    pub names: BTreeMap<String, Number>,
}

/// The rows of one call.
#[derive(Debug)]
pub struct Workspace {
    now: Timestamp,
    setting: Setting,
    drawn: Drawn,
    loaded: BTreeMap<Key, Loaded>,
    versions: BTreeMap<Key, u64>,
    wanted: Footprint,
    put: Put,
}

/// What one pass has put.
#[derive(Debug, Default)]
struct Put {
    writes: Vec<Write>,
    jobs: Layer<Seq, JobRow>,
    ids: Layer<Antecedent, Seq>,
    batches: Layer<Seq, BatchRow>,
    links: Layer<(Seq, Seq), Option<Link>>,
    counts: Layer<Seq, Progression>,
    /// The last end of each that was left in the outbox.
    ends: Layer<Seq, What>,
    /// How many of the drawn numbers are used.
    used: usize,
    /// Whether the first of the outbox was seen to. What comes behind it is not loaded.
    outbox_moved: bool,
    /// The first of the outbox, when all were told of it and it is an end.
    end_told: Option<(Seq, What)>,
    /// Likewise of the sweeps.
    sweeps_moved: bool,
    agenda: Agenda,
}

/// How far a pass had come.
struct Mark {
    writes: usize,
    layers: [usize; 6],
    used: usize,
    moved: (bool, bool),
    end_told: Option<(Seq, What)>,
    agenda: (usize, usize),
}

impl Put {
    fn mark(&self) -> Mark {
        Mark {
            writes: self.writes.len(),
            layers: [
                self.jobs.mark(),
                self.ids.mark(),
                self.batches.mark(),
                self.links.mark(),
                self.counts.mark(),
                self.ends.mark(),
            ],
            used: self.used,
            moved: (self.outbox_moved, self.sweeps_moved),
            end_told: self.end_told,
            agenda: self.agenda.mark(),
        }
    }

    fn undo(&mut self, to: &Mark) {
        let [jobs, ids, batches, links, counts, ends] = to.layers;
        self.writes.truncate(to.writes);
        self.jobs.undo(jobs);
        self.ids.undo(ids);
        self.batches.undo(batches);
        self.links.undo(links);
        self.counts.undo(counts);
        self.ends.undo(ends);
        self.used = to.used;
        (self.outbox_moved, self.sweeps_moved) = to.moved;
        self.end_told = to.end_told;
        self.agenda.undo(to.agenda);
    }
}

impl Workspace {
    /// A workspace in which nothing is loaded.
    pub fn new(now: Timestamp, setting: Setting, drawn: Drawn) -> Workspace {
        Workspace {
            now,
            setting,
            drawn,
            loaded: BTreeMap::new(),
            versions: BTreeMap::new(),
            wanted: Footprint::new(),
            put: Put::default(),
        }
    }

    /// Adds what was loaded, in place of what was loaded before under the same key. The version is what the storage
    /// compares when it verifies; that of a range rises with every row that comes to it or goes.
    pub fn load(&mut self, key: Key, loaded: Loaded, version: u64) {
        self.versions.insert(key.clone(), version);
        self.loaded.insert(key, loaded);
    }

    /// Forgets what the last pass has put and missed. Keeps what is loaded, and what was drawn.
    pub fn restart(&mut self) {
        self.put = Put::default();
        self.wanted.clear();
    }

    /// What the pass missed. When that is nothing, the answer of the pass holds.
    pub fn wanted(&self) -> &Footprint {
        &self.wanted
    }

    /// What was loaded with its versions, in the order in which it is locked. A storage verifies all of it before it writes.
    pub fn read(&self) -> impl Iterator<Item = (&Key, u64)> {
        self.versions.iter().map(|(key, version)| (key, *version))
    }

    /// What is to be written, in this order.
    pub fn writes(&self) -> &[Write] {
        &self.put.writes
    }

    /// Storage time of the call.
    pub fn time(&self) -> Timestamp {
        self.now
    }

    /// What was drawn for the call.
    pub fn drawn(&self) -> &Drawn {
        &self.drawn
    }

    fn miss<T>(&mut self, key: Key, rows: usize) -> Result<T, Gap> {
        let most = self.wanted.entry(key).or_insert(rows);
        *most = rows.max(*most);
        Err(Gap::Missing)
    }

    fn job_row(&mut self, seq: Seq) -> Result<Option<JobRow>, Gap> {
        if let Some(row) = self.put.jobs.get(&seq) {
            return Ok(Some(row.clone()));
        }
        match self.loaded.get(&Key::Job(seq)) {
            Some(Loaded::Job(row)) => Ok(row.clone()),
            _ => self.miss(Key::Job(seq), 1),
        }
    }

    fn batch_row(&mut self, seq: Seq) -> Result<Option<BatchRow>, Gap> {
        if let Some(row) = self.put.batches.get(&seq) {
            return Ok(Some(row.clone()));
        }
        match self.loaded.get(&Key::Batch(seq)) {
            Some(Loaded::Batch(row)) => Ok(row.clone()),
            _ => self.miss(Key::Batch(seq), 1),
        }
    }

    fn change_job(&mut self, seq: Seq, change: impl FnOnce(&mut JobRow)) -> Result<(), Gap> {
        let found = self.job_row(seq)?;
        let mut row = super::must_be::<_, Gap>(found, || {
            format!("job number {seq} is changed and is not stored")
        })?;
        change(&mut row);
        self.put.jobs.put(seq, row);
        Ok(())
    }

    fn change_batch(&mut self, seq: Seq, change: impl FnOnce(&mut BatchRow)) -> Result<(), Gap> {
        let found = self.batch_row(seq)?;
        let mut row = super::must_be::<_, Gap>(found, || {
            format!("batch number {seq} is changed and is not stored")
        })?;
        change(&mut row);
        self.put.batches.put(seq, row);
        Ok(())
    }

    fn use_number(&mut self) -> Result<Seq, Gap> {
        let seq = self.next_seq()?;
        self.put.used += 1;
        Ok(seq)
    }

    fn number_of(&self, name: &str) -> Result<Number, Gap> {
        let found = self.drawn.names.get(name).copied();
        super::must_be(found, || format!("the number of {name} was not drawn"))
    }

    /// The nodes of a loaded range, with what this pass has added to it and taken from it.
    fn nodes(
        &mut self,
        key: Key,
        max: usize,
        changed: impl Fn(&Put) -> Vec<(Seq, Option<Node>)>,
    ) -> Result<Vec<Node>, Gap> {
        let Some(Loaded::Nodes(loaded, is_whole)) = self.loaded.get(&key) else {
            return self.miss(key, max.clamp(1, RANGE_FIRST));
        };
        let rows: Vec<_> = loaded.iter().map(|node| (node.seq(), *node)).collect();
        let window = Window { rows: &rows, is_whole: *is_whole };
        match window.first(max, changed(&self.put).into_iter()) {
            Ok(found) => Ok(found.into_iter().map(|(_, node)| node).collect()),
            Err(rows) => self.miss(key, rows),
        }
    }
}

/// The first rows of a range, as they were loaded.
struct Window<'a, T> {
    rows: &'a [(Seq, T)],
    is_whole: bool,
}

impl<T: Copy> Window<'_, T> {
    /// The first `max` rows of the range, with what the pass has put (`None` for what went); or how many rows have to be
    /// loaded to tell.
    ///
    /// What was put behind the end of a window that is cut does not count: rows may stand before it that are not known.
    fn first(
        &self,
        max: usize,
        changed: impl Iterator<Item = (Seq, Option<T>)>,
    ) -> Result<Vec<(Seq, T)>, usize> {
        let end = match self.rows.last() {
            _ if self.is_whole => Seq::MAX,
            Some(&(last, _)) => last,
            None => 0,
        };
        let mut rows: BTreeMap<Seq, T> = self.rows.iter().copied().collect();
        for (seq, row) in changed.filter(|(seq, _)| *seq <= end) {
            match row {
                Some(row) => rows.insert(seq, row),
                None => rows.remove(&seq),
            };
        }
        if rows.len() < max && !self.is_whole {
            return Err((self.rows.len() + max).max(2 * self.rows.len()));
        }
        Ok(rows.into_iter().take(max).collect())
    }
}

fn not_here<T>(what: &str) -> Result<T, Gap> {
    let why = format!("{what} are not decided over a workspace yet");
    Err(Gap::Failed(StorageError::Unsupported(why)))
}

impl Rows for Workspace {
    type Error = Gap;

    fn now(&self) -> Timestamp {
        self.now
    }

    fn retention(&self) -> Retention {
        self.setting.retention
    }

    fn limits(&self) -> Limits {
        self.setting.limits
    }

    fn agenda(&mut self) -> &mut Agenda {
        &mut self.put.agenda
    }

    fn item<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, Gap>) -> Result<Option<T>, Gap> {
        let mark = self.put.mark();
        match act(self) {
            Ok(done) => Ok(Some(done)),
            Err(Gap::Missing) => {
                self.put.undo(&mark);
                Ok(None)
            }
            Err(failed) => Err(failed),
        }
    }

    fn next_seq(&mut self) -> Result<Seq, Gap> {
        let next = self.drawn.numbers.get(self.put.used).copied();
        super::must_be(next, || "a call uses more numbers than were drawn for it".to_owned())
    }

    fn draw_place(&mut self) -> Result<i64, Gap> {
        self.use_number()
    }

    // Whoever applies the writes sees which held jobs were taken.
    fn hint_control(&mut self) {}

    fn job(&mut self, seq: Seq) -> Result<Option<(Job, Position)>, Gap> {
        Ok(self.job_row(seq)?.map(|row| (row.job, row.position)))
    }

    fn job_by_id(&mut self, id: JobId) -> Result<Option<(Job, Position)>, Gap> {
        match self.seq_of(Antecedent::Job(id))? {
            Some(seq) => self.job(seq),
            None => Ok(None),
        }
    }

    fn is_same(&mut self, new: &NewJob) -> Result<Option<bool>, Gap> {
        Ok(self.seq_of(Antecedent::Job(new.id))?.map(|_| true))
    }

    fn add_job(&mut self, new: &NewJob, origin: Origin) -> Result<Option<Numbers>, Gap> {
        let id = Antecedent::Job(new.id);
        if self.seq_of(id)?.is_some() {
            return Ok(None);
        }
        let kind = self.number_of(&format!("kind {}", new.kind))?;
        let queue = self.number_of(&format!("queue {}", new.queue))?;
        let seq = self.use_number()?;
        let mut ties = new.ties.clone();
        ties.batch = None;
        let job = Job {
            seq,
            kind,
            queue,
            rank: -i64::from(new.priority),
            created_at: self.now,
            run_at: origin.run_at,
            retention: new.options.retention,
            ties: (!ties.is_empty()).then(|| ties.into()),
            batch: origin.batch,
            awaited: origin.awaited,
            followed: origin.followed,
            crashes: 0,
        };
        let position = Position {
            standing: Standing::created(StateName::Enqueued),
            written: 0,
            row: StateRow::Ready { place: seq, enqueued_at: None },
        };
        self.put.jobs.put(seq, JobRow { id: new.id, job, position });
        self.put.ids.put(id, seq);
        Ok(Some(Numbers { seq, kind, queue }))
    }

    fn place_job(&mut self, new: &NewJob, numbers: Numbers, first: FirstRow) -> Result<(), Gap> {
        let row = match first {
            FirstRow::Ready => StateRow::Ready { place: numbers.seq, enqueued_at: None },
            FirstRow::InLine(key) => StateRow::InLine { key, enqueued_at: None },
            FirstRow::Scheduled(run_at) => StateRow::Scheduled { run_at, cause: Cause::Created },
            FirstRow::Awaiting { pending, start } => {
                StateRow::Awaiting { pending, start, when: new.when }
            }
        };
        let standing = Standing::created(first.state());
        let position = Position { standing, written: 0, row };
        self.change_job(numbers.seq, |row| row.position = position)?;
        if let Some(row) = self.put.jobs.get(&numbers.seq).cloned() {
            let (new, row) = (Box::new(new.clone()), Box::new(row));
            self.put.writes.push(Write::JobNew { new, row });
        }
        Ok(())
    }

    fn move_job(&mut self, moved: Move<'_>) -> Result<(), Gap> {
        let Move { job, from, to, made, facts } = moved;
        self.change_job(job.seq, |row| row.position = to.clone())?;
        let facts = OwnedFacts {
            server: facts.server,
            attempt: facts.attempt,
            error: facts.error.cloned(),
            reason: facts.reason.map(str::to_owned),
            result: facts.result.cloned(),
            duration: facts.duration,
        };
        let (from, to, made) = (from.clone(), to.clone(), *made);
        let moved = JobMoved { seq: job.seq, from, to, made, facts };
        self.put.writes.push(Write::JobMoved(Box::new(moved)));
        Ok(())
    }

    fn enqueue_run(&mut self, _: &[Starter], _: &Transition) -> Result<(), Gap> {
        // `starters` names no plain one.
        Err(Broken("a workspace was asked to move a run of jobs".to_owned()).into())
    }

    fn batch_by_id(&mut self, id: BatchId) -> Result<Option<Seq>, Gap> {
        self.seq_of(Antecedent::Batch(id))
    }

    fn batch(&mut self, seq: Seq) -> Result<Option<Batch>, Gap> {
        Ok(self.batch_row(seq)?.map(|row| row.batch))
    }

    fn members(&mut self, batch: Seq) -> Result<Progression, Gap> {
        let counted = match self.loaded.get(&Key::Count(batch)) {
            Some(Loaded::Count(members)) => Some(*members),
            _ => None,
        };
        match self.put.counts.get(&batch).copied().or(counted) {
            Some(members) => Ok(members),
            None => self.miss(Key::Count(batch), 1),
        }
    }

    fn count_member(
        &mut self,
        batch: Seq,
        from: Option<StateName>,
        to: StateName,
    ) -> Result<Option<Progression>, Gap> {
        self.put.writes.push(Write::Count { batch, from, to });
        // Where the call knows the counts, because it has read them or made the batch, it sees its own changes.
        let is_known =
            self.put.counts.get(&batch).is_some() || self.loaded.contains_key(&Key::Count(batch));
        if is_known {
            let mut members = self.members(batch)?;
            members.count(from, to);
            self.put.counts.put(batch, members);
        }
        Ok(None)
    }

    fn batch_after(&mut self, batch: Seq) -> Result<Vec<Dependency>, Gap> {
        Ok(self.batch_row(batch)?.map(|row| row.after).unwrap_or_default())
    }

    fn members_after(&mut self, batch: Seq, after: Seq, max: usize) -> Result<Vec<Node>, Gap> {
        self.nodes(Key::Members(batch, after), max, |put| {
            let jobs = put.jobs.iter().filter(|(_, row)| row.job.batch == Some(batch));
            let jobs = jobs.map(|(seq, _)| Node::Job(*seq));
            let nested = put.batches.iter().filter(|(_, row)| row.batch.parent == Some(batch));
            let nested = nested.map(|(seq, _)| Node::Batch(*seq));
            let members = jobs.chain(nested).filter(|member| member.seq() > after);
            members.map(|member| (member.seq(), Some(member))).collect()
        })
    }

    fn starters(&mut self, batch: Seq, _: Seq, max: usize) -> Result<Vec<Starter>, Gap> {
        let nodes = self.nodes(Key::Starters(batch), max, |put| {
            let jobs = put.jobs.iter().filter(|(_, row)| row.job.batch == Some(batch));
            let jobs = jobs.map(|(&seq, row)| {
                let waits = matches!(row.position.row, StateRow::Awaiting { start: true, .. });
                (seq, waits.then_some(Node::Job(seq)))
            });
            let nested = put.batches.iter().filter(|(_, row)| row.batch.parent == Some(batch));
            let nested =
                nested.map(|(&seq, row)| (seq, row.batch.start.then_some(Node::Batch(seq))));
            jobs.chain(nested).collect()
        })?;
        Ok(nodes.into_iter().map(|node| Starter { node, plain: None }).collect())
    }

    fn children(
        &mut self,
        parent: Seq,
        reach: Reach,
        _: Seq,
        max: usize,
    ) -> Result<Vec<Child>, Gap> {
        let key = Key::Children(parent, reach);
        let Some(Loaded::Children(rows, is_whole)) = self.loaded.get(&key) else {
            return self.miss(key, max.clamp(1, RANGE_FIRST));
        };
        let changed = self.put.links.range((parent, Seq::MIN)..=(parent, Seq::MAX));
        let changed =
            changed.filter(|(_, link)| link.is_none_or(|link| reach.includes(link.after)));
        let changed = changed.map(|(&(_, child), link)| (child, *link));
        let window = Window { rows, is_whole: *is_whole };
        let links = match window.first(max, changed) {
            Ok(links) => links,
            Err(rows) => return self.miss(key, rows),
        };
        let mut children = Vec::with_capacity(links.len());
        let mut is_missing = false;
        for (seq, Link { is_batch, after, pass }) in links {
            let who = match is_batch {
                true => Waiter::Batch,
                false => match self.job_row(seq) {
                    Ok(Some(JobRow { job, position, .. }))
                        if matches!(position.row, StateRow::Awaiting { .. }) =>
                    {
                        Waiter::Job(Box::new(job), position)
                    }
                    Ok(_) => Waiter::Gone,
                    // The others are asked for in the same pass.
                    Err(Gap::Missing) => {
                        is_missing = true;
                        continue;
                    }
                    Err(failed) => return Err(failed),
                },
            };
            children.push(Child { seq, after, pass, who });
        }
        if is_missing { Err(Gap::Missing) } else { Ok(children) }
    }

    fn is_open(&mut self, parent: Seq, child: Seq) -> Result<bool, Gap> {
        if let Some(link) = self.put.links.get(&(parent, child)) {
            return Ok(link.is_some());
        }
        let key = Key::Children(parent, Reach::All);
        let Some(Loaded::Children(rows, is_whole)) = self.loaded.get(&key) else {
            return self.miss(key, RANGE_FIRST);
        };
        let is_known = *is_whole || rows.last().is_some_and(|(last, _)| *last >= child);
        match rows.iter().any(|(seq, _)| *seq == child) {
            true => Ok(true),
            false if is_known => Ok(false),
            false => {
                let rows = 2 * rows.len().max(RANGE_FIRST);
                self.miss(key, rows)
            }
        }
    }

    fn seq_of(&mut self, id: Antecedent) -> Result<Option<Seq>, Gap> {
        if let Some(&seq) = self.put.ids.get(&id) {
            return Ok(Some(seq));
        }
        let key = match id {
            Antecedent::Job(job) => Key::JobOf(job),
            Antecedent::Batch(batch) => Key::BatchOf(batch),
        };
        match self.loaded.get(&key) {
            Some(Loaded::Seq(seq)) => Ok(*seq),
            _ => self.miss(key, 1),
        }
    }

    fn id_of(&mut self, node: Node) -> Result<Antecedent, Gap> {
        let id = match node {
            Node::Job(seq) => self.job_row(seq)?.map(|row| Antecedent::Job(row.id)),
            Node::Batch(seq) => self.batch_row(seq)?.map(|row| Antecedent::Batch(row.id)),
        };
        super::must_be(id, || format!("{node:?} is named and is not stored"))
    }

    fn first_due(&mut self) -> Result<Option<(i64, Due)>, Gap> {
        match self.loaded.get(&Key::Outbox) {
            _ if self.put.outbox_moved => Ok(None),
            Some(Loaded::Due(first)) => Ok(*first),
            _ => self.miss(Key::Outbox, 1),
        }
    }

    fn last_end_due(&mut self, seq: Seq) -> Result<Option<What>, Gap> {
        if let Some(last) = self.put.ends.get(&seq) {
            return Ok(Some(*last));
        }
        match self.loaded.get(&Key::LastEnd(seq)) {
            // Of the ends of one parent no two are alike, so the one that was told is not mistaken for another.
            Some(Loaded::End(last)) => {
                Ok(last.filter(|last| self.put.end_told != Some((seq, *last))))
            }
            _ => self.miss(Key::LastEnd(seq), 1),
        }
    }

    fn first_sweep(&mut self) -> Result<Option<Sweep>, Gap> {
        match self.loaded.get(&Key::Sweeps) {
            _ if self.put.sweeps_moved => Ok(None),
            Some(Loaded::Sweep(first)) => Ok(*first),
            _ => self.miss(Key::Sweeps, 1),
        }
    }

    fn put(&mut self, change: RowChange<'_>) -> Result<(), Gap> {
        let write = match change {
            RowChange::LinkNew { parent, child, is_batch, dependency, place } => {
                let pass = dependency.pass.then_some(place);
                let link = Link { is_batch, after: dependency.after, pass };
                self.put.links.put((parent, child), Some(link));
                Write::LinkNew { parent, child, link }
            }
            RowChange::LinkClosed { parent, child } => {
                self.put.links.put((parent, child), None);
                Write::LinkClosed { parent, child }
            }
            RowChange::Followed { job, followed } => {
                self.change_job(job, |row| row.job.followed = followed)?;
                Write::Followed { job, followed }
            }
            RowChange::Pending { job, pending, start } => {
                self.change_job(job, |row| {
                    if let StateRow::Awaiting { pending: p, start: s, .. } = &mut row.position.row {
                        (*p, *s) = (pending, start);
                    }
                })?;
                Write::Pending { job, pending, start }
            }
            RowChange::Passed { child, place, end, of } => Write::Passed { child, place, end, of },
            RowChange::BatchNew { seq, new, batch } => {
                let used = self.use_number()?;
                debug_assert_eq!(used, seq);
                let row = BatchRow { id: new.id, batch: batch.clone(), after: new.after.clone() };
                self.put.batches.put(seq, row.clone());
                self.put.ids.put(Antecedent::Batch(new.id), seq);
                self.put.counts.put(seq, Progression::default());
                Write::BatchNew { seq, new: Box::new(new.clone()), row: Box::new(row) }
            }
            RowChange::BatchPut { seq, batch } => {
                self.change_batch(seq, |row| row.batch = batch.clone())?;
                Write::BatchPut { seq, batch: batch.clone() }
            }
            RowChange::SweepNew { batch } => Write::SweepNew { batch },
            RowChange::SweepMoved { turn, position } => {
                self.put.sweeps_moved = true;
                Write::SweepMoved { turn, position }
            }
            RowChange::SweepDone { turn } => {
                self.put.sweeps_moved = true;
                Write::SweepDone { turn }
            }
            RowChange::DueNew(due) => {
                if due.what.reach().is_some() {
                    self.put.ends.put(due.seq, due.what);
                }
                Write::DueNew(*due)
            }
            RowChange::DueMoved { turn, position } => {
                self.put.outbox_moved = true;
                Write::DueMoved { turn, position }
            }
            RowChange::DueDone { turn } => {
                self.put.outbox_moved = true;
                if let Some(Loaded::Due(Some((first, due)))) = self.loaded.get(&Key::Outbox)
                    && *first == turn
                    && due.what.reach().is_some()
                {
                    self.put.end_told = Some((due.seq, due.what));
                }
                Write::DueDone { turn }
            }
        };
        self.put.writes.push(write);
        Ok(())
    }

    fn declare_limits(&mut self, ties: &Ties) -> Result<(), Gap> {
        if ties.limits.is_empty() { Ok(()) } else { not_here("limits") }
    }

    // A job under limits was refused when it was to be stored.
    fn line_up(&mut self, _: Option<&Ties>, _: Number) -> Result<Option<Number>, Gap> {
        Ok(None)
    }

    fn leave_limits(&mut self, _: &Job, _: &StateRow) -> Result<(), Gap> {
        Ok(())
    }

    fn settle_limits(&mut self) -> Result<(), Gap> {
        Ok(())
    }

    fn take_unique(&mut self, _: &UniqueKey, _: &NewJob, _: Seq) -> Result<Taken, Gap> {
        not_here("unique keys")
    }

    fn free_unique(&mut self, _: &UniqueKey, _: Seq) -> Result<(), Gap> {
        not_here("unique keys")
    }

    fn end_run(&mut self, _: Seq, _: &Occurrence, _: StateName) -> Result<(), Gap> {
        not_here("recurring jobs")
    }

    fn reopen_run(&mut self, _: &Job, _: &Occurrence) -> Result<(), Gap> {
        not_here("recurring jobs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_misses_a_row_leaves_nothing_behind() {
        let drawn = Drawn { numbers: vec![1, 2], names: BTreeMap::new() };
        let mut work = Workspace::new(Timestamp::from_micros(1), Setting::default(), drawn);
        let kept = work.item(|work| work.put(RowChange::LinkClosed { parent: 1, child: 2 }));
        assert!(matches!(kept, Ok(Some(()))));
        let missed = work.item(|work| {
            work.put(RowChange::LinkClosed { parent: 1, child: 3 })?;
            work.draw_place()?;
            work.count_member(7, None, StateName::Enqueued)?;
            work.job(5)
        });
        assert!(matches!(missed, Ok(None)));
        assert_eq!(work.writes().len(), 1, "{:?}", work.writes());
        assert!(matches!(work.next_seq(), Ok(1)), "the number is free again");
        assert!(matches!(work.is_open(1, 3), Err(Gap::Missing)), "the link is as it was");
        assert!(work.wanted().contains_key(&Key::Job(5)), "what it missed is asked for");
    }
}
