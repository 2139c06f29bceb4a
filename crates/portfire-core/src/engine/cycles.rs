//! Who waits for what, for the search of cycles that a new member would close.

use super::rows::{Node, Rows, Seq, StateRow};
use super::{batches, moves};
use crate::circle::{self, Circles, Waits};
use crate::continuation::{Antecedent, Dependency};
use crate::error::StorageError;

/// Refuses a new member of a batch that is to wait for what waits for that batch, or for one around it.
pub(super) fn refuse<R: Rows>(
    rows: &mut R,
    circles: &mut Circles<Node>,
    member: Antecedent,
    batch: Seq,
    after: impl Iterator<Item = Node>,
) -> Result<(), R::Error> {
    let mut above = Vec::new();
    let mut is_followed = false;
    let mut next = Some(batch);
    while let Some(seq) = next {
        let batch = batches::get(rows, seq)?;
        is_followed |= batch.followed;
        next = batch.parent;
        above.push(Node::Batch(seq));
    }
    if !is_followed {
        return Ok(());
    }
    let mut graph = Graph { rows };
    let Some(way) = circles.find(&mut graph, &above, after)? else { return Ok(()) };
    let Some(&reached) = way.last() else { return Ok(()) };
    let Antecedent::Batch(batch) = graph.rows.id_of(reached)? else { return Ok(()) };
    let refusal = circle::refusal(&mut graph, member, batch, &way)?;
    Err(StorageError::from(refusal).into())
}

/// Who waits for what, as it is stored.
struct Graph<'r, R> {
    rows: &'r mut R,
}

impl<R: Rows> Graph<'_, R> {
    fn job_waits_for(&mut self, seq: Seq) -> Result<Vec<Node>, R::Error> {
        let (job, position) = moves::job(self.rows, seq)?;
        if !matches!(position.row, StateRow::Awaiting { .. }) {
            return Ok(Vec::new());
        }
        let mut waits = self.open(seq, job.after())?;
        self.starts_after(job.batch, &mut waits)?;
        Ok(waits)
    }

    fn batch_waits_for(&mut self, seq: Seq, room: usize) -> Result<Vec<Node>, R::Error> {
        let batch = batches::get(self.rows, seq)?;
        if batch.is_cancelled() || batch.has_ended() {
            return Ok(Vec::new());
        }
        let mut waits = Vec::new();
        self.starts_after(Some(seq), &mut waits)?;
        waits.extend(self.rows.members_after(seq, 0, room)?);
        Ok(waits)
    }

    /// Adds what a batch waits for before it starts, and those around it.
    fn starts_after(
        &mut self,
        mut batch: Option<Seq>,
        waits: &mut Vec<Node>,
    ) -> Result<(), R::Error> {
        while let Some(seq) = batch {
            let found = batches::get(self.rows, seq)?;
            if found.has_started() {
                break;
            }
            batch = found.parent;
            if found.waits > 0 {
                let after = self.rows.batch_after(seq)?;
                waits.extend(self.open(seq, &after)?);
            }
        }
        Ok(())
    }

    /// Which of these a job or a batch waits for still.
    fn open(&mut self, child: Seq, after: &[Dependency]) -> Result<Vec<Node>, R::Error> {
        let mut waits = Vec::new();
        for dependency in after {
            if let Some(parent) = self.rows.seq_of(dependency.on)?
                && self.rows.is_open(parent, child)?
            {
                waits.push(Node::of(dependency.on, parent));
            }
        }
        Ok(waits)
    }
}

impl<R: Rows> Waits for Graph<'_, R> {
    type Node = Node;
    type Error = R::Error;

    fn waits_for(&mut self, node: Node, room: usize) -> Result<Vec<Node>, R::Error> {
        match node {
            Node::Job(seq) => self.job_waits_for(seq),
            Node::Batch(seq) => self.batch_waits_for(seq, room),
        }
    }

    fn name(&mut self, node: Node) -> Result<Antecedent, R::Error> {
        self.rows.id_of(node)
    }
}
