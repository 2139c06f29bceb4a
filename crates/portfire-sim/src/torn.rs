//! Torn rows: the engine over rows that are loaded in pieces, while other calls commit between any two of them.
//!
//! Several calls run at once over one set of maps. Each is decided over a workspace, as on a storage behind a network; at
//! every load and every apply another call may go on first. What is applied is compared, commit by commit, with the same
//! calls decided one after the other over the maps themselves: every row has to be equal. So a read that is not verified,
//! a range without its anchor, or a stale window shows as a row that no order of the calls explains.

mod calls;
mod maps;
mod whole;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use portfire_core::engine::{
    Applied, Drawn, Footprint, Gap, Key, Link, Remote, Rows as _, Seq, Setting, StateRow,
    Workspace, intent,
};
use portfire_core::{StateName, StorageError, Timestamp};

use crate::rng::Rng;
use calls::{Call, Script};
use maps::Maps;
use whole::Whole;

/// A planted fault of a storage that loads its rows, or of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TornMutant {
    /// A job that was read is not verified.
    UnverifiedRead,
    /// A range that was read is not verified by what it hangs on.
    ForgottenAnchor,
    /// A range that was cut counts as whole.
    StaleWindow,
    /// A refusal is answered without a look at whether what it rests on still holds.
    UnverifiedRefusal,
}

impl TornMutant {
    /// All of them.
    pub const ALL: &'static [TornMutant] = &[
        TornMutant::UnverifiedRead,
        TornMutant::ForgottenAnchor,
        TornMutant::StaleWindow,
        TornMutant::UnverifiedRefusal,
    ];
}

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct TornReport {
    /// What is wrong, if anything is.
    pub wrong: Option<String>,
    /// Calls that were applied or refused.
    pub calls: u64,
    /// Loads of all calls.
    pub loads: u64,
    /// Applies that met a change of what was read.
    pub conflicts: u64,
    /// The most turns that a call took.
    pub turns_max: u32,
    /// The most loads that a call took which met no conflict.
    pub loads_max: u32,
}

impl fmt::Display for TornReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TornReport { calls, loads, conflicts, turns_max, loads_max, .. } = self;
        write!(
            f,
            "{calls} calls, {loads} loads (at most {loads_max} without a conflict), {conflicts} \
             conflicts (at most {turns_max} turns)"
        )
    }
}

/// How many calls a seed makes.
const CALLS: usize = 60;
/// How many of them run at once.
const AT_ONCE: usize = 8;

/// Runs so many seeds, and adds up what they came to; ends at the first that is wrong.
pub fn torn_seeds(from: u64, seeds: u64, mutant: Option<TornMutant>) -> TornReport {
    let mut sum = TornReport::default();
    for seed in (from..).take(seeds as usize) {
        let report = torn(seed, mutant);
        sum.calls += report.calls;
        sum.loads += report.loads;
        sum.conflicts += report.conflicts;
        sum.turns_max = sum.turns_max.max(report.turns_max);
        sum.loads_max = sum.loads_max.max(report.loads_max);
        if let Some(wrong) = report.wrong {
            sum.wrong = Some(format!("seed {seed}: {wrong}"));
            break;
        }
    }
    sum
}

/// Runs the calls of a seed over torn rows.
pub fn torn(seed: u64, mutant: Option<TornMutant>) -> TornReport {
    let mut rng = Rng::new(seed);
    let script = Script::new(rng.fork());
    let store = Arc::new(Store { state: Mutex::new(State::default()), mutant });
    Run { rng, script, store: Arc::clone(&store), running: Vec::new() }.go();
    let state = store.state();
    let mut report = state.report.clone();
    if report.wrong.is_none() {
        report.wrong = state.left_over();
    }
    report
}

/// The calls that run.
struct Run {
    rng: Rng,
    script: Script,
    store: Arc<Store>,
    running: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Run {
    fn go(mut self) {
        let mut left = CALLS;
        while left > 0 || !self.running.is_empty() {
            if self.store.state().report.wrong.is_some() {
                return;
            }
            if left > 0 && self.running.len() < AT_ONCE && self.rng.chance(0.5) {
                let call = self.script.call();
                let dies = self.rng.chance(0.2);
                self.running.push(Box::pin(Arc::clone(&self.store).make(call, dies)));
                left -= 1;
                continue;
            }
            self.step();
        }
        // What is left in the outbox is worked off, as promoters do.
        for _ in 0..1_000 {
            if self.store.state().is_quiet() {
                return;
            }
            let call = Call::Promote { max: 100 };
            self.running.push(Box::pin(Arc::clone(&self.store).make(call, false)));
            while !self.running.is_empty() {
                self.step();
            }
        }
    }

    /// Lets one of the calls go on to its next load or apply.
    fn step(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = self.rng.below(self.running.len() as u64) as usize;
        let mut context = Context::from_waker(Waker::noop());
        if self.running[at].as_mut().poll(&mut context).is_ready() {
            drop(self.running.swap_remove(at));
        }
    }
}

/// The storage of torn rows.
#[derive(Debug)]
struct Store {
    state: Mutex<State>,
    mutant: Option<TornMutant>,
}

#[derive(Debug, Default)]
struct State {
    /// The rows, as torn calls have written them.
    torn: Maps,
    /// The same calls, one after the other.
    whole: Maps,
    now: i64,
    drawn: Seq,
    /// Whether a call has the lead.
    is_led: bool,
    report: TornReport,
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call, and the calls that end the batches which it emptied, unless its process dies before.
    async fn make(self: Arc<Store>, call: Call, dies: bool) {
        let Some(emptied) = self.make_one(call).await else { return };
        if dies {
            return;
        }
        for batch in emptied {
            let _ = self.make_one(Call::End { batch }).await;
        }
    }

    async fn make_one(&self, call: Call) -> Option<Vec<Seq>> {
        let handle = Handle::new(self, &call);
        let made = intent(&handle, call.named(), |work| {
            let decided = call.decide(work);
            handle.decided(&decided);
            decided
        });
        match made.await {
            Ok((_, emptied)) => Some(emptied),
            Err(StorageError::Invalid(_) | StorageError::IdTaken { .. }) => None,
            Err(error) => {
                self.state().report.wrong.get_or_insert(format!("{call:?}: {error}"));
                None
            }
        }
    }
}

/// One call's way to the store.
struct Handle<'a> {
    store: &'a Store,
    call: &'a Call,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    turn: u32,
    loads: u32,
    drawn: Option<Drawn>,
    answer: Option<Result<String, String>>,
    leads: bool,
}

impl<'a> Handle<'a> {
    fn new(store: &'a Store, call: &'a Call) -> Handle<'a> {
        Handle { store, call, own: Mutex::new(Own::default()) }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decided(&self, answer: &Result<String, Gap>) {
        self.own().answer = Some(text(answer));
    }

    fn takes_lead(&self) -> bool {
        let mut state = self.store.state();
        let takes = !std::mem::replace(&mut state.is_led, true);
        self.own().leads |= takes;
        takes
    }

    fn give_lead_back(&self) {
        if std::mem::take(&mut self.own().leads) {
            self.store.state().is_led = false;
        }
    }

    /// Whether what was read is as it was.
    fn holds(&self, state: &State, work: &Workspace) -> bool {
        let skips = |key: &Key| match self.store.mutant {
            Some(TornMutant::UnverifiedRead) => matches!(key, Key::Job(_)),
            Some(TornMutant::ForgottenAnchor) => matches!(key, Key::Children(..)),
            _ => false,
        };
        let is_refusal = matches!(self.own().answer, Some(Err(_)));
        if is_refusal && self.store.mutant == Some(TornMutant::UnverifiedRefusal) {
            return true;
        }
        work.read().all(|(key, version)| skips(key) || state.torn.version(key) == version)
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        self.give_lead_back();
    }
}

impl Remote for Handle<'_> {
    async fn begin(&self, turn: u32) -> Result<Workspace, StorageError> {
        step().await;
        self.give_lead_back();
        while turn >= 2 && !self.takes_lead() {
            step().await;
        }
        let mut state = self.store.state();
        state.report.turns_max = state.report.turns_max.max(turn + 1);
        self.own().turn = turn;
        state.now += 1;
        let drawn = self.own().drawn.get_or_insert_with(|| state.draw(self.call.numbers())).clone();
        Ok(Workspace::new(Timestamp::from_micros(state.now), Setting::default(), drawn))
    }

    async fn load(&self, work: &mut Workspace, wanted: &Footprint) -> Result<(), StorageError> {
        step().await;
        let mut state = self.store.state();
        state.report.loads += 1;
        self.own().loads += 1;
        let is_stale = self.store.mutant == Some(TornMutant::StaleWindow);
        for (key, rows) in wanted {
            state.torn.load(work, key, *rows, is_stale);
        }
        Ok(())
    }

    async fn apply(&self, work: &Workspace) -> Result<Applied, StorageError> {
        step().await;
        let mut state = self.store.state();
        if !self.holds(&state, work) {
            state.report.conflicts += 1;
            return Ok(Applied::Conflict);
        }
        let emptied = state.torn.apply(work.writes());
        state.report.calls += 1;
        let (answer, loads) = {
            let mut own = self.own();
            (own.answer.take(), if own.turn == 0 { own.loads } else { 0 })
        };
        state.report.loads_max = state.report.loads_max.max(loads);
        state.compare(self.call, work, answer);
        Ok(Applied::Done { emptied })
    }
}

impl State {
    fn draw(&mut self, count: usize) -> Drawn {
        let first = self.drawn + 1;
        self.drawn += count as Seq;
        let names = [("kind torn", 1), ("queue default", 1)];
        let names: BTreeMap<_, _> = names.map(|(name, number)| (name.to_owned(), number)).into();
        Drawn { numbers: (first..=self.drawn).collect(), names }
    }

    /// Makes the same call over the whole rows, and compares.
    fn compare(&mut self, call: &Call, work: &Workspace, torn: Option<Result<String, String>>) {
        let mut whole = self.whole.clone();
        let mut rows = Whole::new(&mut whole, work.time(), work.drawn());
        let decided = call.decide(&mut rows);
        debug_assert!(decided.is_err() || rows.agenda().is_empty());
        rows.commit();
        if decided.is_ok() {
            self.whole = whole;
        }
        let whole = text(&decided);
        let torn = torn.unwrap_or_else(|| Err("no answer".to_owned()));
        let wrong = match torn == whole {
            true => self.torn.differs(&self.whole),
            false => Some(format!("answered {torn:?} instead of {whole:?}")),
        };
        if let Some(wrong) = wrong {
            self.report.wrong.get_or_insert(format!("{call:?}: {wrong}"));
        }
    }

    fn is_quiet(&self) -> bool {
        self.torn.first_due().is_none() && self.torn.first_sweep().is_none()
    }

    /// What is left that should not be, now that all calls are made and the outbox is empty.
    fn left_over(&self) -> Option<String> {
        if !self.is_quiet() {
            return Some("the outbox does not run empty".to_owned());
        }
        for row in self.torn.jobs.values() {
            let StateRow::Awaiting { pending, start, .. } = row.position.row else { continue };
            let seq = row.job.seq;
            let open = self.torn.links.keys().filter(|(_, child)| *child == seq).count();
            if pending as usize != open + usize::from(start) || pending == 0 {
                return Some(format!("job {seq} waits for {pending}, with {open} open links"));
            }
        }
        let end_of = |seq: &Seq| match (self.torn.jobs.get(seq), self.torn.batches.get(seq)) {
            (Some(row), _) => Some(row.position.standing.state).filter(|state| state.is_final()),
            (None, Some(row)) => row.batch.counts_as(),
            (None, None) => Some(StateName::Deleted),
        };
        // Who waits for the success of what has failed waits on.
        let is_stranded = |((parent, _), link): &(&(Seq, Seq), &Link)| {
            end_of(parent).is_some_and(|end| !link.after.is_open_after(end))
        };
        if let Some(((parent, child), _)) = self.torn.links.iter().find(is_stranded) {
            return Some(format!("{child} waits for {parent}, which has ended"));
        }
        for (&seq, row) in &self.torn.batches {
            let members = self.torn.counts.get(&seq).copied().unwrap_or_default();
            let stored = self.torn.members(seq, 0).len() as u64;
            if members.total != stored {
                return Some(format!("batch {seq} counts {} of {stored} members", members.total));
            }
            if row.batch.has_started() && row.batch.has_ended() != (members.pending == 0) {
                let state = row.batch.state;
                return Some(format!("batch {seq} is {state:?} with {} pending", members.pending));
            }
        }
        None
    }
}

fn text(answer: &Result<String, Gap>) -> Result<String, String> {
    match answer {
        Ok(answer) => Ok(answer.clone()),
        Err(Gap::Failed(error)) => Err(error.to_string()),
        Err(Gap::Missing) => Err("missing".to_owned()),
    }
}

/// Lets the others go first.
fn step() -> impl Future<Output = ()> + Send {
    let mut is_over = false;
    std::future::poll_fn(move |_| match std::mem::replace(&mut is_over, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_calls_come_to_what_some_order_of_them_comes_to() {
        let report = torn_seeds(1, 200, None);
        assert_eq!(report.wrong, None, "{report}");
        assert!(report.conflicts > 100, "the calls do not meet: {report}");
    }

    #[test]
    fn every_planted_fault_is_found() {
        for &mutant in TornMutant::ALL {
            let found = torn_seeds(1, 1_000, Some(mutant)).wrong;
            assert!(found.is_some(), "{mutant:?} is not found");
        }
    }

    #[test]
    fn a_seed_gives_one_run() {
        assert_eq!(torn(7, None).to_string(), torn(7, None).to_string());
    }
}
