//! What the engine reads and writes: [`Rows`] over a write transaction. Each line says in which file the rows are.

use portfire_core::engine::{
    Agenda, Batch, Broken, Child, Due, Fault, FirstRow, Job, Move, Node, Number, Numbers, Origin,
    Position, Reach, RowChange, Rows, Seq, Starter, StateRow, Sweep, Taken, What,
};
use portfire_core::transition::Transition;
use portfire_core::{
    Antecedent, BatchId, Dependency, JobId, Limits, NewJob, Occurrence, Progression, Retention,
    StateName, Ties, Timestamp, UniqueKey,
};

use crate::error::{Failure, Lost, corrupt};
use crate::write::Write;
use crate::{batches, create, limits, links, members, outbox, outcomes, row, runs, unique};

impl From<Broken> for Failure {
    fn from(Broken(what): Broken) -> Failure {
        Failure::Lost(Lost::Corrupt(what))
    }
}

impl Fault for Failure {
    fn is_refusal(&self) -> bool {
        matches!(self, Failure::Refused(_))
    }
}

impl Rows for Write<'_> {
    type Error = Failure;

    fn now(&self) -> Timestamp {
        self.now
    }

    fn retention(&self) -> Retention {
        self.retention
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn agenda(&mut self) -> &mut Agenda {
        &mut self.agenda
    }

    fn next_seq(&mut self) -> Result<Seq, Failure> {
        Ok(self.tally.next)
    }

    fn draw_place(&mut self) -> Result<i64, Failure> {
        Ok(self.draw())
    }

    fn hint_control(&mut self) {
        Write::hint_control(self);
    }

    fn job(&mut self, seq: Seq) -> Result<Option<(Job, Position)>, Failure> {
        let Some(body) = row::find_body_by_seq(self.conn, seq)? else { return Ok(None) };
        let stand = row::stand(self.conn, &body)?;
        Ok(Some((body, stand)))
    }

    fn job_by_id(&mut self, id: JobId) -> Result<Option<(Job, Position)>, Failure> {
        let Some(body) = row::find_body(self.conn, id)? else { return Ok(None) };
        let stand = row::stand(self.conn, &body)?;
        Ok(Some((body, stand)))
    }

    fn is_same(&mut self, new: &NewJob) -> Result<Option<bool>, Failure> {
        Ok(create::is_same(self, new)?)
    }

    fn add_job(&mut self, new: &NewJob, origin: Origin) -> Result<Option<Numbers>, Failure> {
        create::add(self, new, origin)
    }

    fn place_job(&mut self, new: &NewJob, numbers: Numbers, row: FirstRow) -> Result<(), Failure> {
        Ok(row::place(self, new, numbers, row)?)
    }

    fn move_job(&mut self, moved: Move<'_>) -> Result<(), Failure> {
        row::move_job(self, moved)
    }

    fn enqueue_run(&mut self, members: &[Starter], made: &Transition) -> Result<(), Failure> {
        members::enqueue_run(self, members, made)
    }

    fn batch_by_id(&mut self, id: BatchId) -> Result<Option<Seq>, Failure> {
        Ok(links::batch_number(self.conn, id)?)
    }

    fn batch(&mut self, seq: Seq) -> Result<Option<Batch>, Failure> {
        Ok(batches::find(self, seq)?.map(|row| row.batch.clone()))
    }

    fn members(&mut self, batch: Seq) -> Result<Progression, Failure> {
        Ok(batches::get(self, batch)?.members)
    }

    fn count_member(
        &mut self,
        batch: Seq,
        from: Option<StateName>,
        to: StateName,
    ) -> Result<Option<Progression>, Failure> {
        batches::count(self, batch, from, to).map(Some)
    }

    fn batch_after(&mut self, batch: Seq) -> Result<Vec<Dependency>, Failure> {
        batches::waits_for(self.conn, batch)
    }

    fn members_after(&mut self, batch: Seq, after: Seq, max: usize) -> Result<Vec<Node>, Failure> {
        Ok(members::after(self.conn, batch, after, max)?)
    }

    fn starters(&mut self, batch: Seq, after: Seq, max: usize) -> Result<Vec<Starter>, Failure> {
        members::starters(self, batch, after, max)
    }

    fn children(
        &mut self,
        parent: Seq,
        reach: Reach,
        after: Seq,
        max: usize,
    ) -> Result<Vec<Child>, Failure> {
        links::children(self, parent, reach, after, max)
    }

    fn is_open(&mut self, parent: Seq, child: Seq) -> Result<bool, Failure> {
        Ok(links::is_open(self.conn, parent, child)?)
    }

    fn seq_of(&mut self, id: Antecedent) -> Result<Option<Seq>, Failure> {
        Ok(links::number(self.conn, id)?)
    }

    fn id_of(&mut self, node: Node) -> Result<Antecedent, Failure> {
        Ok(match node {
            Node::Job(seq) => Antecedent::Job(links::job_id(self.conn, seq)?),
            Node::Batch(seq) => Antecedent::Batch(self.names.batch(self.conn, seq)?),
        })
    }

    fn first_due(&mut self) -> Result<Option<(i64, Due)>, Failure> {
        outbox::first(self.conn)
    }

    fn last_end_due(&mut self, seq: Seq) -> Result<Option<What>, Failure> {
        outbox::last_end(self, seq)
    }

    fn first_sweep(&mut self) -> Result<Option<Sweep>, Failure> {
        Ok(members::first_sweep(self.conn)?)
    }

    fn put(&mut self, change: RowChange<'_>) -> Result<(), Failure> {
        self.touch();
        match change {
            RowChange::LinkNew { parent, child, is_batch, dependency, place } => {
                links::open(self, parent, child, is_batch, dependency, place)?;
            }
            RowChange::LinkClosed { parent, child } => _ = links::close(self, parent, child)?,
            RowChange::Followed { job, followed } => {
                links::mark_followed(self.conn, job, followed)?;
            }
            RowChange::Pending { job, pending, start } => {
                links::set_pending(self, job, pending, start)?;
            }
            RowChange::Passed { child, place, end, of } => {
                outcomes::keep(self, child, place, end, of)?;
            }
            RowChange::BatchNew { seq, new, batch } => batches::insert(self, seq, new, batch)?,
            RowChange::BatchPut { seq, batch } => batches::put(self, seq, batch)?,
            RowChange::SweepNew { batch } => _ = members::begin_sweep(self, batch)?,
            RowChange::SweepMoved { turn, position } => {
                members::move_sweep(self.conn, turn, position)?;
            }
            RowChange::SweepDone { turn } => _ = members::end_sweep(self.conn, turn)?,
            RowChange::DueNew(due) => outbox::push(self, due)?,
            RowChange::DueMoved { turn, position } => {
                outbox::move_to(self.conn, turn, position)?;
            }
            RowChange::DueDone { turn } => _ = outbox::remove(self.conn, turn)?,
            other => return Err(corrupt(format!("this storage has no row for {other:?}"))),
        }
        Ok(())
    }

    fn declare_limits(&mut self, ties: &Ties) -> Result<(), Failure> {
        limits::declare(self, ties)
    }

    fn line_up(&mut self, ties: Option<&Ties>, kind: Number) -> Result<Option<Number>, Failure> {
        limits::entry(self, ties, kind)
    }

    fn leave_limits(&mut self, job: &Job, from: &StateRow) -> Result<(), Failure> {
        limits::moved(self, job, from)
    }

    fn settle_limits(&mut self) -> Result<(), Failure> {
        limits::settle(self)
    }

    fn take_unique(&mut self, key: &UniqueKey, new: &NewJob, seq: Seq) -> Result<Taken, Failure> {
        unique::take(self, key, new, seq)
    }

    fn free_unique(&mut self, key: &UniqueKey, seq: Seq) -> Result<(), Failure> {
        unique::forget(self, key, seq)
    }

    fn end_run(
        &mut self,
        job: Seq,
        occurrence: &Occurrence,
        end: StateName,
    ) -> Result<(), Failure> {
        runs::ended(self, job, occurrence, end)
    }

    fn reopen_run(&mut self, job: &Job, occurrence: &Occurrence) -> Result<(), Failure> {
        runs::reopened(self, job, occurrence)
    }
}
