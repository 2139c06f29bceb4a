//! From which queue a pool takes its next jobs: [`QueueOrder`], strict or weighted.

use portfire_core::{ClaimedJob, InvalidJob, QueueName};

/// The queues of a pool, as they were named.
#[derive(Clone, Debug)]
pub(crate) enum QueueNames {
    /// The first before the second, always.
    Strict(Vec<String>),
    /// Each by its weight.
    Weighted(Vec<(String, u32)>),
}

impl QueueNames {
    /// The order they make.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn order(&self) -> Result<QueueOrder, Vec<String>> {
        let weighted = match self {
            QueueNames::Strict(names) => names.iter().map(|name| (name.clone(), 1)).collect(),
            QueueNames::Weighted(names) => names.clone(),
        };
        let mut problems = Vec::new();
        let mut queues: Vec<Weighted> = Vec::new();
        for (name, weight) in weighted {
            if !(1..=WEIGHT_MAX).contains(&weight) {
                problems.push(format!(
                    "queue `{name}` has weight {weight}, and a weight is 1 to {WEIGHT_MAX}"
                ));
            }
            match checked(&name, &queues) {
                Ok(name) => queues.push(Weighted { name, weight: weight.max(1), pass: 0 }),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(QueueOrder { queues, strict: matches!(self, QueueNames::Strict(_)) })
        } else {
            Err(problems)
        }
    }
}

fn checked(name: &str, before: &[Weighted]) -> Result<QueueName, String> {
    let name = QueueName::new(name.to_owned()).map_err(|error: InvalidJob| error.to_string())?;
    if before.iter().any(|queue| queue.name == name) {
        return Err(format!("queue `{name}` is named twice"));
    }
    Ok(name)
}

/// The order in which a pool's claims look into its queues.
///
/// Weighted queues are served by stride scheduling: each job taken moves its queue on by a step that
/// is the smaller, the greater its weight, and the queue that has moved least comes first. Over time
/// each gets its share of the *jobs*, however many a claim takes, and none starves. A queue that was
/// empty saves nothing up.
#[derive(Clone, Debug)]
pub(crate) struct QueueOrder {
    queues: Vec<Weighted>,
    strict: bool,
}

#[derive(Clone, Debug)]
struct Weighted {
    name: QueueName,
    weight: u32,
    /// How far it has moved.
    pass: u64,
}

/// The heaviest that a queue can be.
const WEIGHT_MAX: u32 = 1_000;

/// The step of a queue of weight 1.
const STEP: u64 = 1 << 20;

impl QueueOrder {
    /// Whether there is no queue.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The queues as they were named.
    pub(crate) fn names(&self) -> impl Iterator<Item = &QueueName> {
        self.queues.iter().map(|queue| &queue.name)
    }

    /// The queues for the next claim, the preferred first.
    pub(crate) fn next(&self) -> Vec<QueueName> {
        self.preferred().into_iter().map(|at| self.queues[at].name.clone()).collect()
    }

    /// Most jobs that the next claim may take without one queue running far ahead of the others.
    pub(crate) fn bounded(&self, want: u32) -> u32 {
        if self.strict || self.queues.len() < 2 {
            return want;
        }
        // A claim takes from the first queue as long as there is something; some rounds worth of
        // it keeps the shares right also over short times, and yet makes batches.
        let first = self.preferred().first().map_or(1, |&at| self.queues[at].weight);
        want.min(first.saturating_mul(64))
    }

    /// Learns what a claim with the order of [`next`](Self::next) has taken.
    pub(crate) fn claimed(&mut self, jobs: &[ClaimedJob]) {
        if self.strict || self.queues.len() < 2 {
            return;
        }
        let preferred = self.preferred();
        let taken = |queue: &QueueName| jobs.iter().filter(|job| job.queue == *queue).count();
        let counts: Vec<usize> = self.queues.iter().map(|queue| taken(&queue.name)).collect();
        for (queue, count) in self.queues.iter_mut().zip(&counts) {
            queue.pass += STEP / u64::from(queue.weight) * *count as u64;
        }
        // A queue that stood before one that gave, and gave nothing itself, was empty or paused.
        // It must not come back with a credit that starves the others.
        if let Some(last) = preferred.iter().rposition(|&at| counts[at] > 0) {
            let pass = self.queues[preferred[last]].pass;
            for &at in preferred[..last].iter().filter(|&&at| counts[at] == 0) {
                self.queues[at].pass = self.queues[at].pass.max(pass);
            }
        }
        self.rebase();
    }

    /// Learns that all queues are empty: they begin anew.
    pub(crate) fn drained(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.pass = 0);
    }

    fn preferred(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.queues.len()).collect();
        // Stable: queues that have moved equally far come in the order in which they were named.
        order.sort_by_key(|&at| self.queues[at].pass);
        order
    }

    /// Only differences count; small numbers never overflow.
    fn rebase(&mut self) {
        let least = self.queues.iter().map(|queue| queue.pass).min().unwrap_or(0);
        self.queues.iter_mut().for_each(|queue| queue.pass -= least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portfire_core::{Claim, JobId, JobOptions, Json, KindName, Timestamp};

    fn weighted(names: &[(&str, u32)]) -> QueueOrder {
        let names = names.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        QueueNames::Weighted(names).order().unwrap()
    }

    fn job(queue: &QueueName) -> ClaimedJob {
        ClaimedJob {
            claim: Claim::new(JobId::from_bytes([0; 16]), 1),
            kind: KindName::stored("k"),
            args: Json::empty(),
            queue: queue.clone(),
            priority: 0,
            options: JobOptions::default(),
            ties: portfire_core::Ties::default(),
            parents: Vec::new(),
            created_at: Timestamp::MIN,
            enqueued_at: Timestamp::MIN,
            claimed_at: Timestamp::MIN,
            failures: 0,
            recoveries: 0,
        }
    }

    /// Claims `max` jobs at a time from queues that hold so many, as a storage would.
    fn claim(order: &mut QueueOrder, stock: &mut [(QueueName, u32)], max: u32) -> Vec<QueueName> {
        let mut taken = Vec::new();
        for queue in order.next() {
            let held = stock.iter_mut().find(|(name, _)| *name == queue).unwrap();
            while held.1 > 0 && (taken.len() as u32) < max {
                held.1 -= 1;
                taken.push(job(&queue));
            }
        }
        order.claimed(&taken);
        taken.into_iter().map(|job| job.queue).collect()
    }

    fn stock(names: &[(&str, u32)]) -> Vec<(QueueName, u32)> {
        let name = |name: &str| QueueName::new(name.to_owned()).unwrap();
        names.iter().map(|&(queue, held)| (name(queue), held)).collect()
    }

    #[test]
    fn shares_follow_the_weights_whatever_a_claim_takes() {
        for max in [1, 7, 100] {
            let mut order = weighted(&[("a", 5), ("b", 3), ("c", 1)]);
            let mut stock = stock(&[("a", 90_000), ("b", 90_000), ("c", 90_000)]);
            for _ in 0..9_000 / max {
                claim(&mut order, &mut stock, max);
            }
            let given: Vec<i64> = stock.iter().map(|(_, held)| 90_000 - i64::from(*held)).collect();
            for (given, expected) in given.iter().zip([5_000, 3_000, 1_000]) {
                assert!((given - expected).abs() <= 3 * i64::from(max), "{max}: {given}");
            }
        }
    }

    #[test]
    fn a_queue_that_was_empty_saves_nothing_up() {
        let mut order = weighted(&[("a", 1), ("b", 1)]);
        let mut held = stock(&[("a", 0), ("b", 1_000)]);
        for _ in 0..1_000 {
            claim(&mut order, &mut held, 1);
        }
        let mut held = stock(&[("a", 100), ("b", 100)]);
        let first: Vec<_> = (0..10).flat_map(|_| claim(&mut order, &mut held, 1)).collect();
        assert_eq!(first.iter().filter(|queue| queue.as_str() == "a").count(), 5, "{first:?}");
    }

    #[test]
    fn strict_order_never_changes() {
        let names = QueueNames::Strict(vec!["b".into(), "a".into()]);
        let mut order = names.order().unwrap();
        let mut held = stock(&[("b", 3), ("a", 3)]);
        let taken: Vec<_> = (0..6).flat_map(|_| claim(&mut order, &mut held, 1)).collect();
        let taken: Vec<_> = taken.iter().map(QueueName::as_str).collect();
        assert_eq!(taken, ["b", "b", "b", "a", "a", "a"]);
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let names =
            [("Bad", 1), ("a", 0), ("a", 2)].map(|(name, weight)| (name.to_owned(), weight));
        let problems = QueueNames::Weighted(names.to_vec()).order().unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
