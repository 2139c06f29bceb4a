//! The rows of the slice that runs over torn loads, in maps, each with a version.

use std::collections::{BTreeMap, BTreeSet};

use portfire_core::engine::{
    BatchRow, Due, JobRow, Key, Link, Loaded, Node, Reach, Seq, StateRow, Sweep, What, Workspace,
    Write,
};
use portfire_core::{Antecedent, BatchState, Progression, StateName};

/// How the end of a parent is kept with a child: its state, and whose result or error goes with it.
type Passed = (StateName, Option<(Seq, u32)>);

/// All rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    pub(super) jobs: BTreeMap<Seq, JobRow>,
    pub(super) ids: BTreeMap<Antecedent, Seq>,
    pub(super) batches: BTreeMap<Seq, BatchRow>,
    pub(super) counts: BTreeMap<Seq, Progression>,
    /// The open links, by parent and child.
    pub(super) links: BTreeMap<(Seq, Seq), Link>,
    /// How parents ended, by child and place.
    pub(super) passed: BTreeMap<(Seq, usize), Passed>,
    pub(super) outbox: BTreeMap<i64, Due>,
    pub(super) sweeps: BTreeMap<i64, (Seq, Seq)>,
    pub(super) turn: i64,
    versions: BTreeMap<Key, u64>,
    version: u64,
}

impl Maps {
    /// The version of a row or a range; 0 when it was never written.
    pub(super) fn version(&self, key: &Key) -> u64 {
        self.versions.get(&anchor(key)).copied().unwrap_or(0)
    }

    /// What differs from other rows, if anything does.
    pub(super) fn differs(&self, other: &Maps) -> Option<String> {
        let tables = [
            ("jobs", table(&self.jobs), table(&other.jobs)),
            ("batches", table(&self.batches), table(&other.batches)),
            ("counts", table(&self.counts), table(&other.counts)),
            ("links", table(&self.links), table(&other.links)),
            ("passed", table(&self.passed), table(&other.passed)),
            ("outbox", table(&self.outbox), table(&other.outbox)),
            ("sweeps", table(&self.sweeps), table(&other.sweeps)),
        ];
        tables.into_iter().find_map(|(name, torn, whole)| {
            let differing = torn.iter().zip(&whole).find(|(torn, whole)| torn != whole);
            match differing {
                Some((torn, whole)) => Some(format!("{name}: {torn} instead of {whole}")),
                None if torn.len() != whole.len() => {
                    Some(format!("{name}: {} rows instead of {}", torn.len(), whole.len()))
                }
                None => None,
            }
        })
    }

    /// Loads a key for a call; of a range at least so many rows. `is_stale` cuts ranges and calls them whole.
    pub(super) fn load(&self, work: &mut Workspace, key: &Key, rows: usize, is_stale: bool) {
        let loaded = match key {
            // Whoever names a job or a batch needs its row: it comes with its number.
            Key::JobOf(id) => {
                let seq = self.ids.get(&Antecedent::Job(*id)).copied();
                if let Some(seq) = seq {
                    self.load(work, &Key::Job(seq), 1, is_stale);
                }
                Loaded::Seq(seq)
            }
            Key::BatchOf(id) => {
                let seq = self.ids.get(&Antecedent::Batch(*id)).copied();
                if let Some(seq) = seq {
                    self.load(work, &Key::Batch(seq), 1, is_stale);
                }
                Loaded::Seq(seq)
            }
            Key::Job(seq) => Loaded::Job(self.jobs.get(seq).cloned()),
            Key::Batch(seq) => Loaded::Batch(self.batches.get(seq).cloned()),
            Key::Count(seq) => Loaded::Count(self.counts.get(seq).copied().unwrap_or_default()),
            Key::Children(parent, reach) => {
                let mut links: Vec<_> = self.open(*parent, *reach).collect();
                let is_whole = links.len() <= rows || is_stale;
                links.truncate(rows);
                for (child, link) in &links {
                    if !link.is_batch {
                        self.load(work, &Key::Job(*child), 1, is_stale);
                    }
                }
                Loaded::Children(links, is_whole)
            }
            Key::Starters(batch) => {
                let mut nodes = self.starters(*batch);
                let is_whole = nodes.len() <= rows || is_stale;
                nodes.truncate(rows);
                for node in &nodes {
                    if let Node::Job(seq) = node {
                        self.load(work, &Key::Job(*seq), 1, is_stale);
                    }
                }
                Loaded::Nodes(nodes, is_whole)
            }
            Key::Members(batch, after) => {
                let mut nodes = self.members(*batch, *after);
                let is_whole = nodes.len() <= rows || is_stale;
                nodes.truncate(rows);
                Loaded::Nodes(nodes, is_whole)
            }
            Key::LastEnd(seq) => Loaded::End(self.last_end_due(*seq)),
            Key::Outbox => Loaded::Due(self.first_due()),
            Key::Sweeps => Loaded::Sweep(self.first_sweep()),
        };
        work.load(key.clone(), loaded, self.version(key));
    }

    pub(super) fn starters(&self, batch: Seq) -> Vec<Node> {
        let jobs = self.jobs.values().filter(|row| {
            row.job.batch == Some(batch)
                && matches!(row.position.row, StateRow::Awaiting { start: true, .. })
        });
        let nested = self.batches.iter();
        let nested = nested.filter(|(_, row)| row.batch.parent == Some(batch) && row.batch.start);
        let jobs = jobs.map(|row| Node::Job(row.job.seq));
        in_order(jobs.chain(nested.map(|(seq, _)| Node::Batch(*seq))))
    }

    pub(super) fn members(&self, batch: Seq, after: Seq) -> Vec<Node> {
        let jobs = self.jobs.values().filter(|row| row.job.batch == Some(batch));
        let nested = self.batches.iter().filter(|(_, row)| row.batch.parent == Some(batch));
        let jobs = jobs.map(|row| Node::Job(row.job.seq));
        let members = in_order(jobs.chain(nested.map(|(seq, _)| Node::Batch(*seq))));
        members.into_iter().filter(|member| member.seq() > after).collect()
    }

    /// The open links of a parent about which an end of this reach decides, by the numbers of the children.
    pub(super) fn open(&self, parent: Seq, reach: Reach) -> impl Iterator<Item = (Seq, Link)> {
        let open = self.links.range((parent, Seq::MIN)..=(parent, Seq::MAX));
        let open = open.map(|(&(_, child), link)| (child, *link));
        open.filter(move |(_, link)| reach.includes(link.after))
    }

    pub(super) fn last_end_due(&self, seq: Seq) -> Option<What> {
        let is_end = |due: &&Due| due.seq == seq && due.what.reach().is_some();
        self.outbox.values().rev().find(is_end).map(|due| due.what)
    }

    pub(super) fn first_due(&self) -> Option<(i64, Due)> {
        self.outbox.first_key_value().map(|(&turn, &due)| (turn, due))
    }

    pub(super) fn first_sweep(&self) -> Option<Sweep> {
        let (&turn, &(batch, position)) = self.sweeps.first_key_value()?;
        Some(Sweep { turn, batch, position })
    }

    /// Writes what a call has decided. Answers the batches whose pending members came to 0 by it, which the outbox has now.
    pub(super) fn apply(&mut self, writes: &[Write]) -> Vec<Seq> {
        let mut counted = BTreeSet::new();
        for write in writes {
            if let Write::Count { batch, .. } = write {
                counted.insert(*batch);
            }
            self.write(write);
        }
        self.leave_emptied(counted)
    }

    /// Leaves in the outbox which of these batches have nothing pending.
    pub(super) fn leave_emptied(&mut self, counted: BTreeSet<Seq>) -> Vec<Seq> {
        let emptied = counted.into_iter().filter(|batch| self.is_emptied(*batch));
        let emptied: Vec<Seq> = emptied.collect();
        for &seq in &emptied {
            self.write(&Write::DueNew(Due::new(What::BatchEmptied, seq)));
        }
        emptied
    }

    fn is_emptied(&self, batch: Seq) -> bool {
        let members = self.counts.get(&batch).copied().unwrap_or_default();
        let state = self.batches.get(&batch).map(|row| row.batch.state);
        members.pending == 0 && matches!(state, Some(BatchState::Started | BatchState::Cancelling))
    }

    fn bump(&mut self, key: Key) {
        self.version += 1;
        self.versions.insert(anchor(&key), self.version);
    }

    /// A member of this batch came, or waits for its start no more.
    fn bump_starters(&mut self, batch: Option<Seq>) {
        if let Some(batch) = batch {
            self.bump(Key::Starters(batch));
        }
    }

    pub(super) fn write(&mut self, write: &Write) {
        match write {
            Write::JobNew { row, .. } => {
                let (seq, batch) = (row.job.seq, row.job.batch);
                self.ids.insert(Antecedent::Job(row.id), seq);
                self.jobs.insert(seq, (**row).clone());
                self.bump(Key::JobOf(row.id));
                self.bump(Key::Job(seq));
                self.bump_starters(batch);
                if let Some(batch) = batch {
                    self.bump(Key::Members(batch, 0));
                }
            }
            Write::JobMoved(moved) => {
                if let Some(row) = self.jobs.get_mut(&moved.seq) {
                    row.position = moved.to.clone();
                    let batch = row.job.batch;
                    self.bump(Key::Job(moved.seq));
                    self.bump_starters(batch);
                }
            }
            Write::Followed { job, followed } => {
                if let Some(row) = self.jobs.get_mut(job) {
                    row.job.followed = *followed;
                    self.bump(Key::Job(*job));
                }
            }
            Write::Pending { job, pending, start } => {
                if let Some(row) = self.jobs.get_mut(job) {
                    if let StateRow::Awaiting { pending: p, start: s, .. } = &mut row.position.row {
                        (*p, *s) = (*pending, *start);
                    }
                    let batch = row.job.batch;
                    self.bump(Key::Job(*job));
                    self.bump_starters(batch);
                }
            }
            Write::LinkNew { parent, child, link } => {
                self.links.insert((*parent, *child), *link);
                self.bump(Key::Children(*parent, Reach::All));
            }
            Write::LinkClosed { parent, child } => {
                if self.links.remove(&(*parent, *child)).is_some() {
                    self.bump(Key::Children(*parent, Reach::All));
                }
            }
            Write::Passed { child, place, end, of } => {
                self.passed.insert((*child, *place), (*end, *of));
            }
            Write::BatchNew { seq, row, .. } => {
                self.ids.insert(Antecedent::Batch(row.id), *seq);
                self.batches.insert(*seq, (**row).clone());
                self.counts.insert(*seq, Progression::default());
                self.bump(Key::BatchOf(row.id));
                self.bump(Key::Batch(*seq));
                self.bump(Key::Count(*seq));
                self.bump_starters(row.batch.parent);
                if let Some(parent) = row.batch.parent {
                    self.bump(Key::Members(parent, 0));
                }
            }
            Write::BatchPut { seq, batch } => {
                if let Some(row) = self.batches.get_mut(seq) {
                    row.batch = batch.clone();
                    self.bump(Key::Batch(*seq));
                    self.bump_starters(batch.parent);
                }
            }
            Write::Count { batch, from, to } => {
                self.counts.entry(*batch).or_default().count(*from, *to);
                self.bump(Key::Count(*batch));
            }
            Write::SweepNew { batch } => {
                self.turn += 1;
                self.sweeps.insert(self.turn, (*batch, 0));
                self.bump(Key::Sweeps);
            }
            Write::SweepMoved { turn, position } => {
                if let Some(sweep) = self.sweeps.get_mut(turn) {
                    sweep.1 = *position;
                }
                self.bump(Key::Sweeps);
            }
            Write::SweepDone { turn } => {
                self.sweeps.remove(turn);
                self.bump(Key::Sweeps);
            }
            Write::DueNew(due) => {
                self.turn += 1;
                self.outbox.insert(self.turn, *due);
                self.bump(Key::Outbox);
                self.bump(Key::LastEnd(due.seq));
            }
            Write::DueMoved { turn, position } => {
                if let Some(due) = self.outbox.get_mut(turn) {
                    due.position = *position;
                }
                self.bump(Key::Outbox);
            }
            Write::DueDone { turn } => {
                if let Some(due) = self.outbox.remove(turn) {
                    self.bump(Key::LastEnd(due.seq));
                }
                self.bump(Key::Outbox);
            }
            other => unreachable!("the maps have no row for {other:?}"),
        }
    }
}

/// The key whose version stands for a range, wherever a window of it begins.
fn anchor(key: &Key) -> Key {
    match key {
        Key::Members(batch, _) => Key::Members(*batch, 0),
        Key::Children(parent, _) => Key::Children(*parent, Reach::All),
        key => key.clone(),
    }
}

fn in_order(nodes: impl Iterator<Item = Node>) -> Vec<Node> {
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.sort_unstable_by_key(|node| node.seq());
    nodes
}

fn table<K: std::fmt::Debug, V: std::fmt::Debug>(rows: &BTreeMap<K, V>) -> Vec<String> {
    rows.iter().map(|(key, row)| format!("{key:?} {row:?}")).collect()
}
