//! What is stored, and what must hold of it.

use std::collections::BTreeMap;

use portfire::{After, Batch, BatchId, BatchState, Call, Client, JobId, Limit, StateName, Unique};
use portfire_core::Progression;

use crate::AnyError;
use crate::effects::step;

/// Jobs of a chain.
const CHAIN: u64 = 5;
/// Members of a batch, and of the one in it.
const MEMBERS: u64 = 8;
const NESTED: u64 = 4;
/// Jobs of a set under each limit.
const LIMITED: u64 = 6;
/// Partitions of the limit of one at a time.
const TENANTS: u64 = 4;
/// Unique keys.
const KEYS: u64 = 7;

/// All that was stored, and what must hold of it.
#[derive(Debug, Default)]
pub(super) struct Work {
    sets: u64,
    /// How each job must end; those that must end `deleted` must never begin.
    pub(super) ends: BTreeMap<JobId, StateName>,
    /// Which job must have ended before which begins.
    pub(super) orders: Vec<(JobId, JobId)>,
    /// How many jobs of a key may run at a time, and which are of it.
    pub(super) limits: BTreeMap<String, (usize, Vec<JobId>)>,
    /// The jobs that held a key, one after another.
    pub(super) unique: BTreeMap<String, Vec<JobId>>,
    /// How many jobs fail until the cause is repaired.
    pub(super) failing: u64,
    /// How many have failed and were requeued.
    pub(super) repaired: u64,
    /// How each batch must end.
    pub(super) batches: BTreeMap<BatchId, (BatchState, Progression)>,
}

impl Work {
    /// Stores one of everything.
    pub(super) async fn store_a_set(&mut self, client: &Client) -> Result<(), AnyError> {
        self.sets += 1;
        self.chain(client).await?;
        self.diamond(client).await?;
        self.fork(client).await?;
        self.batch(client).await?;
        self.limited(client).await?;
        self.unique(client).await
    }

    /// A job that is to end so, and takes a little while that differs from one to the next.
    fn job(&mut self, client: &Client, end: StateName) -> (JobId, Call<step>) {
        let id = client.next_id();
        self.ends.insert(id, end);
        (id, step(self.millis(), false).id(id))
    }

    fn millis(&self) -> u64 {
        self.ends.len() as u64 * 7 % 9
    }

    /// A job that fails until the cause is repaired, and succeeds then.
    fn failing(&mut self, client: &Client) -> (JobId, Call<step>) {
        self.failing += 1;
        let id = client.next_id();
        self.ends.insert(id, StateName::Succeeded);
        (id, step(self.millis(), true).id(id))
    }

    fn good(&mut self, client: &Client) -> (JobId, Call<step>) {
        self.job(client, StateName::Succeeded)
    }

    fn under(&mut self, limit: &str, bound: usize, job: JobId) {
        self.limits.entry(limit.to_owned()).or_insert((bound, Vec::new())).1.push(job);
    }

    /// One after another, in one commit; one of them waits for a limit when its turn comes.
    async fn chain(&mut self, client: &Client) -> Result<(), AnyError> {
        let mut calls = Vec::new();
        let mut before = None;
        for number in 0..CHAIN {
            let (id, mut call) = self.good(client);
            if let Some(before) = before {
                self.orders.push((before, id));
                call = call.after(before);
            }
            if number == CHAIN / 2 {
                self.under("three", 3, id);
                call = call.limit(Limit::named("three").concurrency(3));
            }
            before = Some(id);
            calls.push(call);
        }
        client.enqueue_many(calls).await?;
        Ok(())
    }

    /// One, then two side by side, then one that waits for both; each in a commit of its own, so that parents are
    /// met before, while and after they run.
    async fn diamond(&mut self, client: &Client) -> Result<(), AnyError> {
        let (top, call) = self.good(client);
        client.enqueue(call).await?;
        let (left, call) = self.good(client);
        client.enqueue(call.after(top)).await?;
        let (right, call) = self.good(client);
        client.enqueue(call.after_end(top)).await?;
        let (bottom, call) = self.good(client);
        client.enqueue(call.after(left).after(right)).await?;
        self.orders.extend([(top, left), (top, right), (left, bottom), (right, bottom)]);
        Ok(())
    }

    /// One that fails, with what runs then, what runs in any case, what runs after its repair, and what can never run.
    async fn fork(&mut self, client: &Client) -> Result<(), AnyError> {
        let (parent, call) = self.failing(client);
        let mut calls = vec![call];
        for (after, end) in [
            (After::Failure, StateName::Succeeded),
            (After::End, StateName::Succeeded),
            (After::Success, StateName::Succeeded),
            (After::Deletion, StateName::Deleted),
        ] {
            let (id, call) = self.job(client, end);
            calls.push(call.after_on(parent, after));
            match after {
                After::Success => {
                    let (next, call) = self.good(client);
                    calls.push(call.after(id));
                    self.orders.extend([(parent, id), (id, next)]);
                }
                After::Deletion => {
                    // What waits for what can never run is decided in turn.
                    let (never, call) = self.job(client, StateName::Deleted);
                    let (relieved, last) = self.good(client);
                    calls.extend([call.after(id), last.after_on(id, After::Deletion)]);
                    self.orders.push((parent, relieved));
                    self.orders.push((parent, never));
                }
                // They ran after the failure, and so before the last attempt.
                After::Failure | After::End => {}
            }
        }
        client.enqueue_many(calls).await?;
        Ok(())
    }

    /// A batch with another in it and its callbacks; every third has a member that fails, and is repaired.
    async fn batch(&mut self, client: &Client) -> Result<(), AnyError> {
        let fails = self.sets.is_multiple_of(3);
        let end = |of: bool| if of { StateName::Succeeded } else { StateName::Deleted };
        let (on_success, success) = self.good(client);
        let (on_failure, failure) = self.job(client, end(fails));
        let (on_finish, finish) = self.good(client);
        let mut members = Vec::new();
        let mut nested = Vec::new();
        for number in 0..MEMBERS + NESTED {
            let failing = fails && number == MEMBERS;
            let (id, call) = if failing { self.failing(client) } else { self.good(client) };
            self.orders.push((id, on_success));
            if !failing {
                self.orders.extend([(id, on_failure), (id, on_finish)]);
            }
            if number < MEMBERS { members.push(call) } else { nested.push(call) }
        }
        let inner = BatchId::new(client.next_id());
        let outer = client
            .batch("a set")
            .add_all(members)
            .add_batch(Batch::new("in a set").id(inner).add_all(nested))
            .on_success(success)
            .on_failure(failure)
            .on_finish(finish)
            .enqueue()
            .await?;
        let counts = |total: u64| Progression { total, succeeded: total, ..Progression::default() };
        self.batches.insert(inner, (BatchState::Succeeded, counts(NESTED)));
        self.batches.insert(outer, (BatchState::Succeeded, counts(MEMBERS + 1)));
        Ok(())
    }

    /// Some under a limit of three at a time, and some that take turns for their tenant.
    async fn limited(&mut self, client: &Client) -> Result<(), AnyError> {
        let mut calls = Vec::new();
        for number in 0..LIMITED {
            let (id, call) = self.good(client);
            self.under("three", 3, id);
            calls.push(call.limit(Limit::named("three").concurrency(3)));
            let tenant = (self.sets + number) % TENANTS;
            let (id, call) = self.good(client);
            self.under(&format!("tenant:{tenant}"), 1, id);
            calls.push(call.limit(Limit::named("tenant").partition(tenant).concurrency(1)));
        }
        client.enqueue_many(calls).await?;
        Ok(())
    }

    /// One job for each key whose holder has ended.
    async fn unique(&mut self, client: &Client) -> Result<(), AnyError> {
        for key in unique_keys() {
            let (id, call) = self.good(client);
            let created = client.enqueue_unique(call.unique(Unique::by_key(key.clone()))).await?;
            if !created.existing {
                self.unique.entry(key).or_default().push(id);
                continue;
            }
            self.ends.remove(&id);
            if self.unique.get(&key).and_then(|holders| holders.last()) != Some(&created.id) {
                return Err(format!(
                    "job {} is said to hold `{key}`, and never took it",
                    created.id
                )
                .into());
            }
        }
        Ok(())
    }
}

/// The keys that jobs of each set try to take.
pub(super) fn unique_keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| format!("key-{number}"))
}
