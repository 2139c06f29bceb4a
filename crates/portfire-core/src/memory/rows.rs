//! What the engine reads and writes: [`Rows`] over the maps. Each line says in which file they are.

use std::time::Duration;

use super::Data;
use super::batches::Batch as StoredBatch;
use super::entries;
use super::jobs::{Arrival, First, Job as StoredJob, Lane, Number as JobNumber};
use super::journal::Undo;
use super::links::Link;
use crate::batch::{BatchId, Progression};
use crate::clock::Timestamp;
use crate::continuation::{Antecedent, Dependency, ParentOutcome};
use crate::engine::unique::{Meeting, meet, replaced_by};
use crate::engine::{
    Agenda, Batch, Broken, Child, Due, Facts, Fault, FirstRow, Job, Move, Node, Number, Numbers,
    Origin, Position, Reach, RowChange, Rows, Seq, Starter, StateRow, Sweep, Taken, Waiter, What,
    must,
};
use crate::error::StorageError;
use crate::job::{JobId, Limits, NewJob};
use crate::limit::LimitUse;
use crate::state::{Cause, JobState, ServerId, StateName};
use crate::ties::{Occurrence, Ties};
use crate::transition::{Event, Retention, Transition};
use crate::unique::UniqueKey;

impl From<Broken> for StorageError {
    fn from(Broken(what): Broken) -> StorageError {
        StorageError::Corrupt(what)
    }
}

impl Fault for StorageError {
    fn is_refusal(&self) -> bool {
        !matches!(self, StorageError::Corrupt(_))
    }
}

impl Data {
    /// The facts of a job.
    pub(super) fn row(&mut self, number: JobNumber) -> Job {
        let StoredJob { record, ties, batch, followed, .. } = &self.jobs[number];
        Job {
            seq: number,
            kind: self.names.kinds.number(&record.kind),
            // The engine asks for the queue of no job that is stored.
            queue: 0,
            rank: -i64::from(record.priority),
            created_at: record.created_at,
            run_at: None,
            retention: record.options.retention,
            ties: ties.clone(),
            batch: *batch,
            awaited: false,
            followed: *followed,
            crashes: record.crashes,
        }
    }

    /// Where a job stands.
    pub(super) fn position(&mut self, number: JobNumber) -> Position {
        let job = &self.jobs[number];
        let enqueued_at = Some(job.enqueued_at());
        let row = match &job.record.state {
            JobState::Awaiting { pending } => {
                StateRow::Awaiting { pending: *pending, start: job.start, when: job.when }
            }
            JobState::Scheduled { run_at, cause } => {
                StateRow::Scheduled { run_at: *run_at, cause: *cause }
            }
            JobState::Enqueued { .. } => match job.lane() {
                Lane::Ready => StateRow::Ready { place: job.rank.1, enqueued_at },
                Lane::Aside => StateRow::Aside { place: job.rank.1, enqueued_at },
                Lane::Apart(turn) => StateRow::Apart { turn, enqueued_at },
                Lane::Line(key) => {
                    let key = self.names.keys.number(&key.to_owned());
                    StateRow::InLine { key, enqueued_at }
                }
            },
            JobState::Processing { server, claimed_at } => StateRow::Running {
                server: self.names.servers.number(server),
                exchange: 0,
                claimed_at: *claimed_at,
                place: job.rank.1,
                enqueued_at,
            },
            JobState::Succeeded { succeeded_at: finished_at, expires_at, .. }
            | JobState::Failed { failed_at: finished_at, expires_at, .. }
            | JobState::Deleted { deleted_at: finished_at, expires_at, .. } => {
                StateRow::Finished { finished_at: *finished_at, expires_at: *expires_at, ran: None }
            }
        };
        Position { standing: job.standing(), written: job.record.revision, row }
    }

    fn job_was(&mut self, number: JobNumber) {
        self.before(|data| Undo::Job(number, data.jobs.get(number).cloned().map(Box::new)));
    }

    fn batch_was(&mut self, number: JobNumber) {
        if let Some(batch) = self.batches.get(number) {
            let (row, counts) = (batch.row.clone(), batch.counts);
            self.before(|_| Undo::Batch(number, row, counts));
        }
    }

    fn key_was(&mut self, key: &str) {
        self.before(|data| Undo::Key(key.to_owned(), data.keys.stored(key)));
    }

    fn runs_were(&mut self, occurrence: &Occurrence) {
        let id = &occurrence.recurring;
        self.before(|data| Undo::Runs(id.clone(), data.recurring.all_runs(id)));
    }

    fn add_member(&mut self, batch: JobNumber, member: JobNumber, starts_with_it: bool) {
        self.before(|_| Undo::MemberAdded { batch, member });
        self.batches.change(batch, |batch| batch.members.insert(member));
        if starts_with_it {
            self.set_starting(batch, member, true);
        }
    }

    fn set_starting(&mut self, batch: JobNumber, member: JobNumber, starts_with_it: bool) {
        let Some(found) = self.batches.get(batch) else { return };
        let was = found.starting.contains(&member);
        self.before(|_| Undo::Starting { batch, member, was });
        self.batches.change(batch, |batch| match starts_with_it {
            true => batch.starting.insert(member),
            false => batch.starting.remove(&member),
        });
    }

    /// The server that holds a job, and since when.
    pub(super) fn holder(&self, number: JobNumber) -> Option<(ServerId, Timestamp)> {
        let (server, since) = self.jobs[number].holder()?;
        Some((server.clone(), since))
    }

    /// A job was held by this server until now, if by any.
    pub(super) fn left_holder(&mut self, number: JobNumber, holder: Option<(ServerId, Timestamp)>) {
        let Some((server, since)) = holder else { return };
        self.servers.drop_held(&server, (since, number));
        // What its server was not given meanwhile is to be had now.
        self.jobs.hints.work |= self.servers.end_trial(number);
    }

    fn owned(&self, facts: &Facts<'_>) -> entries::Facts {
        entries::Facts {
            server: facts.server.and_then(|server| self.names.servers.name(server).cloned()),
            attempt: facts.attempt,
            error: facts.error.cloned(),
            reason: facts.reason.map(str::to_owned),
            result: facts.result.cloned(),
            duration: Duration::from_micros(facts.duration.unsigned_abs()),
        }
    }

    fn key_name(&self, key: Number) -> Result<String, StorageError> {
        let name = self.names.keys.name(key).cloned();
        name.ok_or_else(|| Broken(format!("key number {key} is named and is not known")).into())
    }

    /// What a child gets to know of the end of a parent, with what the job of `of` has said.
    fn outcome(
        &self,
        child: JobNumber,
        place: usize,
        end: StateName,
        of: Option<(Seq, u32)>,
    ) -> Option<ParentOutcome> {
        let parent = self.jobs.get(child)?.record.ties.after.get(place)?.on;
        let mut outcome = ParentOutcome { parent, state: end, result: None, error: None };
        match of.and_then(|(seq, _)| self.jobs.get(seq)).map(|job| &job.record.state) {
            Some(JobState::Succeeded { result, .. }) => outcome.result = result.clone(),
            Some(JobState::Failed { error, .. }) => outcome.error = Some(error.clone()),
            Some(JobState::Deleted { error, .. }) => outcome.error = error.clone(),
            _ => {}
        }
        Some(outcome)
    }

    fn child(&mut self, seq: Seq, link: Link) -> Child {
        let Link { after, pass, is_batch } = link;
        let awaits = |data: &Data| {
            data.jobs.get(seq).is_some_and(|job| job.standing().state == StateName::Awaiting)
        };
        let who = match is_batch {
            true => Waiter::Batch,
            false if awaits(self) => Waiter::Job(Box::new(self.row(seq)), self.position(seq)),
            false => Waiter::Gone,
        };
        Child { seq, after, pass, who }
    }
}

impl Rows for Data {
    type Error = StorageError;

    fn now(&self) -> Timestamp {
        self.now
    }

    fn retention(&self) -> Retention {
        self.jobs.retention
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn agenda(&mut self) -> &mut Agenda {
        &mut self.agenda
    }

    fn next_seq(&mut self) -> Result<Seq, StorageError> {
        Ok(self.jobs.next_number())
    }

    fn draw_place(&mut self) -> Result<i64, StorageError> {
        Ok(self.jobs.draw_turn())
    }

    fn hint_control(&mut self) {
        self.jobs.hints.control = true;
    }

    fn job(&mut self, seq: Seq) -> Result<Option<(Job, Position)>, StorageError> {
        let is_stored = self.jobs.get(seq).is_some();
        Ok(is_stored.then(|| (self.row(seq), self.position(seq))))
    }

    fn job_by_id(&mut self, id: JobId) -> Result<Option<(Job, Position)>, StorageError> {
        match self.jobs.find(id) {
            Some(seq) => self.job(seq),
            None => Ok(None),
        }
    }

    fn is_same(&mut self, new: &NewJob) -> Result<Option<bool>, StorageError> {
        Ok(Data::is_same(self, new))
    }

    fn add_job(&mut self, new: &NewJob, origin: Origin) -> Result<Option<Numbers>, StorageError> {
        if self.jobs.find(new.id).is_some() {
            return Ok(None);
        }
        self.origin = Some(origin);
        let kind = self.names.kinds.number(&new.kind);
        Ok(Some(Numbers { seq: self.jobs.next_number(), kind, queue: 0 }))
    }

    fn place_job(
        &mut self,
        new: &NewJob,
        Numbers { seq, .. }: Numbers,
        row: FirstRow,
    ) -> Result<(), StorageError> {
        let Some(origin) = self.origin.take() else { return Ok(()) };
        let (mut line, mut start) = (None, false);
        let state = match row {
            FirstRow::Ready => JobState::Enqueued { enqueued_at: self.now },
            FirstRow::InLine(key) => {
                line = Some(self.key_name(key)?);
                JobState::Enqueued { enqueued_at: self.now }
            }
            FirstRow::Scheduled(run_at) => JobState::Scheduled { run_at, cause: Cause::Created },
            FirstRow::Awaiting { pending, start: with_batch } => {
                start = with_batch;
                JobState::Awaiting { pending }
            }
        };
        if self.jobs.queues.get(&new.queue).is_none() {
            self.before(|_| Undo::QueueAdded(new.queue.clone()));
        }
        if !self.jobs.tally.knows(&new.kind) {
            self.before(|_| Undo::KindAdded(new.kind.clone()));
        }
        self.before(|_| Undo::Job(seq, None));
        let Origin { batch, followed, .. } = origin;
        self.jobs.create(new.clone(), First { state, line, batch, followed, start }, self.now);
        if let Some(batch) = batch {
            self.add_member(batch, seq, start);
        }
        Ok(())
    }

    fn move_job(&mut self, moved: Move<'_>) -> Result<(), StorageError> {
        let Move { job, to, made, facts, .. } = moved;
        let number = job.seq;
        self.job_was(number);
        let (place, line) = match to.row {
            StateRow::Ready { place, .. } => (Some(place), None),
            StateRow::Apart { turn, .. } => (Some(turn), None),
            StateRow::InLine { key, .. } => (None, Some(self.key_name(key)?)),
            _ => (None, None),
        };
        if self.jobs[number].start
            && let Some(batch) = job.batch
        {
            self.set_starting(batch, number, false);
        }
        let holder = self.holder(number);
        let facts = self.owned(facts);
        self.jobs.arrive(number, made, facts, Arrival { place, line }, self.now);
        self.left_holder(number, holder);
        Ok(())
    }

    fn enqueue_run(&mut self, _: &[Starter], _: &Transition) -> Result<(), StorageError> {
        Err(Broken("the maps have no runs".to_owned()).into())
    }

    fn batch_by_id(&mut self, id: BatchId) -> Result<Option<Seq>, StorageError> {
        Ok(self.batches.find(id))
    }

    fn batch(&mut self, seq: Seq) -> Result<Option<Batch>, StorageError> {
        Ok(self.batches.get(seq).map(|batch| batch.row.clone()))
    }

    fn members(&mut self, batch: Seq) -> Result<Progression, StorageError> {
        Ok(self.batches.get(batch).map(|batch| batch.counts).unwrap_or_default())
    }

    fn count_member(
        &mut self,
        batch: Seq,
        from: Option<StateName>,
        to: StateName,
    ) -> Result<Option<Progression>, StorageError> {
        self.batch_was(batch);
        Ok(self.batches.change(batch, |batch| {
            batch.counts.count(from, to);
            batch.counts
        }))
    }

    fn batch_after(&mut self, batch: Seq) -> Result<Vec<Dependency>, StorageError> {
        Ok(self.batches.get(batch).map(|batch| batch.after.clone()).unwrap_or_default())
    }

    fn members_after(
        &mut self,
        batch: Seq,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Node>, StorageError> {
        let Some(batch) = self.batches.get(batch) else { return Ok(Vec::new()) };
        let members = batch.members.range(after + 1..).take(max);
        Ok(members.map(|&member| self.node(member)).collect())
    }

    fn starters(&mut self, batch: Seq, _: Seq, max: usize) -> Result<Vec<Starter>, StorageError> {
        let Some(batch) = self.batches.get(batch) else { return Ok(Vec::new()) };
        let starters = batch.starting.iter().take(max);
        Ok(starters.map(|&member| Starter { node: self.node(member), plain: None }).collect())
    }

    fn children(
        &mut self,
        parent: Seq,
        reach: Reach,
        _: Seq,
        max: usize,
    ) -> Result<Vec<Child>, StorageError> {
        let open: Vec<_> = self.links.open(parent, reach).take(max).collect();
        Ok(open.into_iter().map(|(seq, link)| self.child(seq, link)).collect())
    }

    fn is_open(&mut self, parent: Seq, child: Seq) -> Result<bool, StorageError> {
        Ok(self.links.is_open(parent, child))
    }

    fn seq_of(&mut self, id: Antecedent) -> Result<Option<Seq>, StorageError> {
        Ok(self.find_antecedent(id))
    }

    fn id_of(&mut self, node: Node) -> Result<Antecedent, StorageError> {
        let id = match node {
            Node::Job(seq) => self.jobs.get(seq).map(|job| Antecedent::Job(job.record.id)),
            Node::Batch(seq) => self.batches.get(seq).map(|batch| Antecedent::Batch(batch.id)),
        };
        id.ok_or_else(|| Broken(format!("{node:?} is named and is not stored")).into())
    }

    fn first_due(&mut self) -> Result<Option<(i64, Due)>, StorageError> {
        Ok(self.outbox.first())
    }

    fn last_end_due(&mut self, seq: Seq) -> Result<Option<What>, StorageError> {
        Ok(self.outbox.last_end(seq))
    }

    fn first_sweep(&mut self) -> Result<Option<Sweep>, StorageError> {
        Ok(self.outbox.first_sweep())
    }

    fn put(&mut self, change: RowChange<'_>) -> Result<(), StorageError> {
        match change {
            RowChange::LinkNew { parent, child, is_batch, dependency, place } => {
                self.before(|_| Undo::LinkAdded { parent, child });
                let pass = dependency.pass.then_some(place);
                let link = Link { after: dependency.after, pass, is_batch };
                self.links.add(parent, child, link);
            }
            RowChange::LinkClosed { parent, child } => {
                if let Some(link) = self.links.close(parent, child) {
                    self.before(|_| Undo::LinkClosed { parent, child, link });
                }
            }
            RowChange::Followed { job, followed } => {
                self.before(|data| Undo::Followed {
                    job,
                    was: data.jobs.get(job).is_some_and(|job| job.followed),
                });
                if let Some(job) = self.jobs.get_mut(job) {
                    job.followed = followed;
                }
            }
            RowChange::Pending { job: number, pending, start } => {
                self.job_was(number);
                let Some(job) = self.jobs.get_mut(number) else { return Ok(()) };
                job.record.state = JobState::Awaiting { pending };
                let left_start = job.start && !start;
                job.start = start;
                if let (true, Some(batch)) = (left_start, job.batch) {
                    self.set_starting(batch, number, false);
                }
            }
            RowChange::Passed { child, place, end, of } => {
                self.job_was(child);
                if let Some(outcome) = self.outcome(child, place, end, of)
                    && let Some(job) = self.jobs.get_mut(child)
                {
                    let at = job.parents.partition_point(|(before, _)| *before < place);
                    job.parents.insert(at, (place, outcome));
                }
            }
            RowChange::BatchNew { new, batch, .. } => {
                let number = self.jobs.draw_number();
                self.before(|_| Undo::BatchAdded(number));
                self.batches.insert(number, StoredBatch::new(new, batch.clone(), self.now));
                if let Some(parent) = batch.parent {
                    self.add_member(parent, number, batch.start);
                }
            }
            RowChange::BatchPut { seq, batch } => {
                self.batch_was(seq);
                let started = self.batches.change(seq, |stored| {
                    let started = stored.row.start && !batch.start;
                    stored.row = batch.clone();
                    started
                });
                if let (Some(true), Some(parent)) = (started, batch.parent) {
                    self.set_starting(parent, seq, false);
                }
            }
            RowChange::SweepNew { batch } => {
                self.outbox.begin_sweep(batch);
                self.jobs.hints.work = true;
            }
            RowChange::SweepMoved { turn, position } => self.outbox.move_sweep(turn, position),
            RowChange::SweepDone { turn } => self.outbox.end_sweep(turn),
            RowChange::DueNew(due) => {
                self.outbox.push(*due);
                self.jobs.hints.work = true;
            }
            RowChange::DueMoved { turn, position } => self.outbox.move_to(turn, position),
            RowChange::DueDone { turn } => self.outbox.remove(turn),
        }
        Ok(())
    }

    fn declare_limits(&mut self, ties: &Ties) -> Result<(), StorageError> {
        if self.journal.is_some() {
            for (target, rule) in self.jobs.limits.rules_of(ties) {
                self.before(|_| Undo::Rule(target, rule));
            }
        }
        self.jobs.limits.declare(ties);
        Ok(())
    }

    fn line_up(
        &mut self,
        ties: Option<&Ties>,
        kind: Number,
    ) -> Result<Option<Number>, StorageError> {
        let limits: &[LimitUse] = ties.map_or(&[], |ties| &ties.limits);
        let Some(kind) = self.names.kinds.name(kind) else { return Ok(None) };
        let key = self.jobs.limits.full_at_entry(limits, kind, self.now);
        Ok(key.map(|key| self.names.keys.number(&key)))
    }

    fn leave_limits(&mut self, job: &Job, from: &StateRow) -> Result<(), StorageError> {
        // Who leaves its queue without being claimed may have had a turn, which is the next one's then.
        if let StateRow::Running { .. }
        | StateRow::Ready { .. }
        | StateRow::Aside { .. }
        | StateRow::Apart { .. } = from
        {
            let freed = self.jobs.limits.freed_by(&self.jobs[job.seq].record);
            self.freed.extend(freed);
        }
        Ok(())
    }

    fn settle_limits(&mut self) -> Result<(), StorageError> {
        self.wake_waiters();
        Ok(())
    }

    fn take_unique(
        &mut self,
        key: &UniqueKey,
        new: &NewJob,
        seq: Seq,
    ) -> Result<Taken, StorageError> {
        let holder = self.keys.holder(&key.key, self.now);
        let mut taken = Taken::Free;
        if let Some(holder) = holder {
            if self.jobs.find(new.id).is_some() {
                return Ok(Taken::Existing);
            }
            let (job, position) = (self.row(holder), self.position(holder));
            let run_at = match position.row {
                StateRow::Scheduled { run_at, .. } => Some(run_at),
                _ => None,
            };
            let state = position.standing.state;
            match meet(key, new.when, state, job.created_at, run_at, self.now)? {
                Meeting::TakeOver { deletes } => {
                    if deletes {
                        let reason = replaced_by(new.id);
                        must(self, &job, &position, Event::Delete, &Facts::reason(&reason))?;
                    }
                    taken = Taken::Replaced;
                }
                Meeting::Postpone(run_at) => {
                    let event = Event::Reschedule(run_at);
                    must(self, &job, &position, event, &Facts::default())?;
                    return Ok(Taken::Held(self.jobs[holder].record.id));
                }
                Meeting::Reject => return Ok(Taken::Held(self.jobs[holder].record.id)),
            }
        }
        self.key_was(&key.key);
        self.keys.take(&key.key, seq, key.held_until(self.now));
        Ok(taken)
    }

    fn free_unique(&mut self, key: &UniqueKey, seq: Seq) -> Result<(), StorageError> {
        self.key_was(&key.key);
        self.keys.free(&key.key, seq);
        Ok(())
    }

    fn end_run(
        &mut self,
        job: Seq,
        occurrence: &Occurrence,
        end: StateName,
    ) -> Result<(), StorageError> {
        self.runs_were(occurrence);
        let id = self.jobs[job].record.id;
        self.recurring.ended(&occurrence.recurring, id, end, self.now);
        Ok(())
    }

    fn reopen_run(&mut self, job: &Job, occurrence: &Occurrence) -> Result<(), StorageError> {
        self.runs_were(occurrence);
        self.recurring.reopened(&self.jobs[job.seq].record);
        Ok(())
    }
}

impl Data {
    fn node(&self, number: JobNumber) -> Node {
        match self.batches.get(number) {
            Some(_) => Node::Batch(number),
            None => Node::Job(number),
        }
    }

    /// The number of what is waited for, if it is stored.
    pub(super) fn find_antecedent(&self, on: Antecedent) -> Option<JobNumber> {
        match on {
            Antecedent::Job(job) => self.jobs.find(job),
            Antecedent::Batch(batch) => self.batches.find(batch),
        }
    }
}
