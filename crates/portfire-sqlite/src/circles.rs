//! Who waits for what, for the search of circles that a new member would close.

use portfire_core::circle::{self, Circles, Waits};
use portfire_core::{Antecedent, Dependency};
use rusqlite::Connection;

use crate::error::Failure;
use crate::row::Body;
use crate::write::Write;
use crate::{batches, links, members};

const SELECT_AWAITING: &str = "SELECT 1 FROM portfire_awaiting WHERE seq = ?1";
const SELECT_LINK: &str =
    "SELECT 1 FROM portfire_link WHERE antecedent = ?1 AND follower = ?2 AND open = 1";

/// A job or a batch by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Job(i64),
    Batch(i64),
}

impl Node {
    /// What has this number, which was found under that name.
    pub(crate) fn new(on: Antecedent, number: i64) -> Node {
        match on {
            Antecedent::Job(_) => Node::Job(number),
            Antecedent::Batch(_) => Node::Batch(number),
        }
    }
}

/// Refuses a new member of a batch that is to wait for what waits for that batch, or for one around it.
pub(crate) fn refuse(
    write: &mut Write<'_>,
    circles: &mut Circles<Node>,
    member: Antecedent,
    batch: Option<i64>,
    after: impl Iterator<Item = Node>,
) -> Result<(), Failure> {
    let mut above = Vec::new();
    let mut is_followed = false;
    let mut next = batch;
    while let Some(number) = next {
        let batch = batches::get(write, number)?;
        is_followed |= batch.followed;
        next = batch.parent;
        above.push(Node::Batch(number));
    }
    if !is_followed {
        return Ok(());
    }
    let mut graph = Graph { write };
    let Some(way) = circles.find(&mut graph, &above, after)? else { return Ok(()) };
    let Some(&Node::Batch(reached)) = way.last() else { return Ok(()) };
    let batch = graph.write.names.batch(graph.write.conn, reached)?;
    Err(circle::refusal(&mut graph, member, batch, &way)?.into())
}

struct Graph<'g, 'w> {
    write: &'g mut Write<'w>,
}

impl Graph<'_, '_> {
    fn job_waits_for(&mut self, seq: i64) -> Result<Vec<Node>, Failure> {
        let conn = self.write.conn;
        let body = Body::of(conn, seq)?;
        if !body.awaited || !conn.prepare_cached(SELECT_AWAITING)?.exists([seq])? {
            return Ok(Vec::new());
        }
        let mut waits = Vec::new();
        if let Some(ties) = &body.ties {
            waits = open(conn, seq, &ties.after)?;
        }
        self.starts_after(body.batch, &mut waits)?;
        Ok(waits)
    }

    fn batch_waits_for(&mut self, number: i64, room: usize) -> Result<Vec<Node>, Failure> {
        let batch = batches::get(self.write, number)?;
        if batch.is_cancelled() || batch.state.end().is_some() {
            return Ok(Vec::new());
        }
        let mut waits = Vec::new();
        self.starts_after(Some(number), &mut waits)?;
        let members = members::members_after(self.write.conn, number, 0, room)?;
        waits.extend(members.into_iter().map(|(number, is_batch)| match is_batch {
            true => Node::Batch(number),
            false => Node::Job(number),
        }));
        Ok(waits)
    }

    /// Adds what a batch waits for before it starts, and those around it.
    fn starts_after(
        &mut self,
        mut batch: Option<i64>,
        waits: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        while let Some(number) = batch {
            let found = batches::get(self.write, number)?;
            if found.has_started() {
                break;
            }
            batch = found.parent;
            if found.waits > 0 {
                let after = batches::waits_for(self.write.conn, number)?;
                waits.extend(open(self.write.conn, number, &after)?);
            }
        }
        Ok(())
    }
}

impl Waits for Graph<'_, '_> {
    type Node = Node;
    type Error = Failure;

    fn waits_for(&mut self, node: Node, room: usize) -> Result<Vec<Node>, Failure> {
        match node {
            Node::Job(seq) => self.job_waits_for(seq),
            Node::Batch(number) => self.batch_waits_for(number, room),
        }
    }

    fn name(&mut self, node: Node) -> Result<Antecedent, Failure> {
        let conn = self.write.conn;
        Ok(match node {
            Node::Job(seq) => Antecedent::Job(links::job_id(conn, seq)?),
            Node::Batch(number) => Antecedent::Batch(self.write.names.batch(conn, number)?),
        })
    }
}

/// Which of these a job or batch waits for still.
fn open(conn: &Connection, follower: i64, after: &[Dependency]) -> rusqlite::Result<Vec<Node>> {
    let mut waits = Vec::new();
    for dependency in after {
        if let Some(number) = links::number(conn, dependency.on)?
            && conn.prepare_cached(SELECT_LINK)?.exists([number, follower])?
        {
            waits.push(Node::new(dependency.on, number));
        }
    }
    Ok(waits)
}

/// For the test that each of them finds its rows by an index.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[SELECT_AWAITING, SELECT_LINK];
