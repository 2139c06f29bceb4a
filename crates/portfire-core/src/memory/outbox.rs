//! What calls had no room for and promotions go on with: ends and starts to be told, members to be deleted.

use std::collections::BTreeMap;

use super::jobs::Number;
use crate::engine::{Due, Sweep, What};

/// All of it, in the order in which it came.
#[derive(Default)]
pub(super) struct Outbox {
    due: BTreeMap<i64, Due>,
    /// What of it is about one job or batch, in its order.
    about: BTreeMap<Number, Vec<What>>,
    sweeps: BTreeMap<i64, (Number, Number)>,
    turns: i64,
}

impl Outbox {
    fn draw(&mut self) -> i64 {
        self.turns += 1;
        self.turns
    }

    pub(super) fn push(&mut self, due: Due) {
        let turn = self.draw();
        self.due.insert(turn, due);
        self.about.entry(due.seq).or_default().push(due.what);
    }

    pub(super) fn first(&self) -> Option<(i64, Due)> {
        self.due.first_key_value().map(|(&turn, &due)| (turn, due))
    }

    pub(super) fn move_to(&mut self, turn: i64, position: Number) {
        if let Some(due) = self.due.get_mut(&turn) {
            due.position = position;
        }
    }

    pub(super) fn remove(&mut self, turn: i64) {
        let Some(due) = self.due.remove(&turn) else { return };
        if let Some(about) = self.about.get_mut(&due.seq) {
            // No two of them are alike.
            about.retain(|what| *what != due.what);
            if about.is_empty() {
                self.about.remove(&due.seq);
            }
        }
    }

    /// The last end of this job or batch that waits here.
    pub(super) fn last_end(&self, number: Number) -> Option<What> {
        let about = self.about.get(&number)?;
        about.iter().rev().copied().find(|what| what.reach().is_some())
    }

    /// Whether anything about this job or batch waits here.
    pub(super) fn concerns(&self, number: Number) -> bool {
        self.about.contains_key(&number)
    }

    pub(super) fn begin_sweep(&mut self, batch: Number) {
        let turn = self.draw();
        self.sweeps.insert(turn, (batch, 0));
    }

    pub(super) fn first_sweep(&self) -> Option<Sweep> {
        let (&turn, &(batch, position)) = self.sweeps.first_key_value()?;
        Some(Sweep { turn, batch, position })
    }

    pub(super) fn move_sweep(&mut self, turn: i64, position: Number) {
        if let Some(sweep) = self.sweeps.get_mut(&turn) {
            sweep.1 = position;
        }
    }

    pub(super) fn end_sweep(&mut self, turn: i64) {
        self.sweeps.remove(&turn);
    }

    /// Whether a promotion has something to do.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.sweeps.is_empty()
    }
}
