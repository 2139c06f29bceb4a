//! The rows as a storage in one piece has them: the engine reads and writes the maps themselves. What torn calls come to
//! is compared with this.

use portfire_core::engine::{
    Agenda, Batch, BatchRow, Broken, Child, Drawn, Due, FirstRow, Gap, Job, JobMoved, JobRow, Link,
    Move, Node, Number, Numbers, Origin, OwnedFacts, Position, Reach, RowChange, Rows, Seq,
    Setting, Starter, StateRow, Sweep, Taken, Waiter, What, Write,
};
use portfire_core::transition::{Standing, Transition};
use portfire_core::{
    Antecedent, BatchId, Cause, Dependency, JobId, Limits, NewJob, Occurrence, Progression,
    Retention, StateName, Ties, Timestamp, UniqueKey,
};

use super::maps::Maps;

/// One call over the maps.
pub(super) struct Whole<'a> {
    maps: &'a mut Maps,
    /// The last turn of the outbox and the sweeps before the call, which sees to what earlier calls left.
    turn: i64,
    now: Timestamp,
    setting: Setting,
    drawn: &'a Drawn,
    used: usize,
    agenda: Agenda,
    /// Whether the first of the outbox was seen to: a call sees to one, as over a workspace. Likewise of the sweeps.
    outbox_moved: bool,
    sweeps_moved: bool,
    /// The batches whose members it has counted.
    counted: Vec<Seq>,
}

impl<'a> Whole<'a> {
    pub(super) fn new(maps: &'a mut Maps, now: Timestamp, drawn: &'a Drawn) -> Whole<'a> {
        let setting = Setting::default();
        Whole {
            turn: maps.turn,
            maps,
            now,
            setting,
            drawn,
            used: 0,
            agenda: Agenda::default(),
            outbox_moved: false,
            sweeps_moved: false,
            counted: Vec::new(),
        }
    }

    /// Ends the call: what its counts have emptied is left in the outbox.
    pub(super) fn commit(self) {
        self.maps.leave_emptied(self.counted.into_iter().collect());
    }

    fn use_number(&mut self) -> Result<Seq, Gap> {
        let seq = self.next_seq()?;
        self.used += 1;
        Ok(seq)
    }
}

impl Rows for Whole<'_> {
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
        &mut self.agenda
    }

    fn next_seq(&mut self) -> Result<Seq, Gap> {
        let next = self.drawn.numbers.get(self.used).copied();
        next.ok_or_else(|| Broken("too few numbers were drawn".to_owned()).into())
    }

    fn draw_place(&mut self) -> Result<i64, Gap> {
        self.use_number()
    }

    fn hint_control(&mut self) {}

    fn job(&mut self, seq: Seq) -> Result<Option<(Job, Position)>, Gap> {
        Ok(self.maps.jobs.get(&seq).map(|row| (row.job.clone(), row.position.clone())))
    }

    fn job_by_id(&mut self, id: JobId) -> Result<Option<(Job, Position)>, Gap> {
        match self.maps.ids.get(&Antecedent::Job(id)).copied() {
            Some(seq) => self.job(seq),
            None => Ok(None),
        }
    }

    fn is_same(&mut self, new: &NewJob) -> Result<Option<bool>, Gap> {
        Ok(self.maps.ids.get(&Antecedent::Job(new.id)).map(|_| true))
    }

    fn add_job(&mut self, new: &NewJob, origin: Origin) -> Result<Option<Numbers>, Gap> {
        if self.maps.ids.contains_key(&Antecedent::Job(new.id)) {
            return Ok(None);
        }
        let seq = self.use_number()?;
        let kind = self.drawn.names[&format!("kind {}", new.kind)];
        let queue = self.drawn.names[&format!("queue {}", new.queue)];
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
        let row = StateRow::Ready { place: seq, enqueued_at: None };
        let standing = Standing::created(StateName::Enqueued);
        let position = Position { standing, written: 0, row };
        self.maps.ids.insert(Antecedent::Job(new.id), seq);
        self.maps.jobs.insert(seq, JobRow { id: new.id, job, position });
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
        if let Some(stored) = self.maps.jobs.get_mut(&numbers.seq) {
            let standing = Standing::created(first.state());
            stored.position = Position { standing, written: 0, row };
        }
        Ok(())
    }

    fn move_job(&mut self, moved: Move<'_>) -> Result<(), Gap> {
        let Move { job, from, to, made, .. } = moved;
        let (from, to, made) = (from.clone(), to.clone(), *made);
        let facts = OwnedFacts::default();
        let moved = JobMoved { seq: job.seq, from, to, made, facts };
        self.maps.write(&Write::JobMoved(Box::new(moved)));
        Ok(())
    }

    fn enqueue_run(&mut self, _: &[Starter], _: &Transition) -> Result<(), Gap> {
        Err(Broken("the maps have no runs".to_owned()).into())
    }

    fn batch_by_id(&mut self, id: BatchId) -> Result<Option<Seq>, Gap> {
        Ok(self.maps.ids.get(&Antecedent::Batch(id)).copied())
    }

    fn batch(&mut self, seq: Seq) -> Result<Option<Batch>, Gap> {
        Ok(self.maps.batches.get(&seq).map(|row| row.batch.clone()))
    }

    fn members(&mut self, batch: Seq) -> Result<Progression, Gap> {
        Ok(self.maps.counts.get(&batch).copied().unwrap_or_default())
    }

    fn count_member(
        &mut self,
        batch: Seq,
        from: Option<StateName>,
        to: StateName,
    ) -> Result<Option<Progression>, Gap> {
        self.maps.write(&Write::Count { batch, from, to });
        self.counted.push(batch);
        Ok(None)
    }

    fn batch_after(&mut self, batch: Seq) -> Result<Vec<Dependency>, Gap> {
        Ok(self.maps.batches.get(&batch).map(|row| row.after.clone()).unwrap_or_default())
    }

    fn members_after(&mut self, batch: Seq, after: Seq, max: usize) -> Result<Vec<Node>, Gap> {
        Ok(self.maps.members(batch, after).into_iter().take(max).collect())
    }

    fn starters(&mut self, batch: Seq, _: Seq, max: usize) -> Result<Vec<Starter>, Gap> {
        let nodes = self.maps.starters(batch).into_iter().take(max);
        Ok(nodes.map(|node| Starter { node, plain: None }).collect())
    }

    fn children(
        &mut self,
        parent: Seq,
        reach: Reach,
        _: Seq,
        max: usize,
    ) -> Result<Vec<Child>, Gap> {
        let child = |(seq, Link { is_batch, after, pass })| {
            let who = match self.maps.jobs.get(&seq) {
                _ if is_batch => Waiter::Batch,
                Some(JobRow { job, position, .. })
                    if matches!(position.row, StateRow::Awaiting { .. }) =>
                {
                    Waiter::Job(Box::new(job.clone()), position.clone())
                }
                _ => Waiter::Gone,
            };
            Child { seq, after, pass, who }
        };
        Ok(self.maps.open(parent, reach).take(max).map(child).collect())
    }

    fn is_open(&mut self, parent: Seq, child: Seq) -> Result<bool, Gap> {
        Ok(self.maps.links.contains_key(&(parent, child)))
    }

    fn seq_of(&mut self, id: Antecedent) -> Result<Option<Seq>, Gap> {
        Ok(self.maps.ids.get(&id).copied())
    }

    fn id_of(&mut self, node: Node) -> Result<Antecedent, Gap> {
        let id = match node {
            Node::Job(seq) => self.maps.jobs.get(&seq).map(|row| Antecedent::Job(row.id)),
            Node::Batch(seq) => self.maps.batches.get(&seq).map(|row| Antecedent::Batch(row.id)),
        };
        id.ok_or_else(|| Broken(format!("{node:?} is not stored")).into())
    }

    fn first_due(&mut self) -> Result<Option<(i64, Due)>, Gap> {
        Ok(self.maps.first_due().filter(|(turn, _)| !self.outbox_moved && *turn <= self.turn))
    }

    fn last_end_due(&mut self, seq: Seq) -> Result<Option<What>, Gap> {
        Ok(self.maps.last_end_due(seq))
    }

    fn first_sweep(&mut self) -> Result<Option<Sweep>, Gap> {
        Ok(self.maps.first_sweep().filter(|sweep| !self.sweeps_moved && sweep.turn <= self.turn))
    }

    fn put(&mut self, change: RowChange<'_>) -> Result<(), Gap> {
        let write = match change {
            RowChange::LinkNew { parent, child, is_batch, dependency, place } => {
                let pass = dependency.pass.then_some(place);
                Write::LinkNew {
                    parent,
                    child,
                    link: Link { is_batch, after: dependency.after, pass },
                }
            }
            RowChange::LinkClosed { parent, child } => Write::LinkClosed { parent, child },
            RowChange::Followed { job, followed } => Write::Followed { job, followed },
            RowChange::Pending { job, pending, start } => Write::Pending { job, pending, start },
            RowChange::Passed { child, place, end, of } => Write::Passed { child, place, end, of },
            RowChange::BatchNew { seq, new, batch } => {
                self.use_number()?;
                let row = BatchRow { id: new.id, batch: batch.clone(), after: new.after.clone() };
                Write::BatchNew { seq, new: Box::new(new.clone()), row: Box::new(row) }
            }
            RowChange::BatchPut { seq, batch } => Write::BatchPut { seq, batch: batch.clone() },
            RowChange::SweepNew { batch } => Write::SweepNew { batch },
            RowChange::SweepMoved { turn, position } => Write::SweepMoved { turn, position },
            RowChange::SweepDone { turn } => Write::SweepDone { turn },
            RowChange::DueNew(due) => Write::DueNew(*due),
            RowChange::DueMoved { turn, position } => Write::DueMoved { turn, position },
            RowChange::DueDone { turn } => Write::DueDone { turn },
            other => return Err(Broken(format!("the maps have no row for {other:?}")).into()),
        };
        self.outbox_moved |= matches!(write, Write::DueMoved { .. } | Write::DueDone { .. });
        self.sweeps_moved |= matches!(write, Write::SweepMoved { .. } | Write::SweepDone { .. });
        self.maps.write(&write);
        Ok(())
    }

    fn declare_limits(&mut self, _: &Ties) -> Result<(), Gap> {
        Ok(())
    }

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
        Ok(Taken::Free)
    }

    fn free_unique(&mut self, _: &UniqueKey, _: Seq) -> Result<(), Gap> {
        Ok(())
    }

    fn end_run(&mut self, _: Seq, _: &Occurrence, _: StateName) -> Result<(), Gap> {
        Ok(())
    }

    fn reopen_run(&mut self, _: &Job, _: &Occurrence) -> Result<(), Gap> {
        Ok(())
    }
}
