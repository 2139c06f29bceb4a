//! Circles: jobs and batches that would wait for one another for ever.
//!
//! What a job or batch waits for is stored before it, so a circle can only be closed by a member: from its
//! creation on its batch, and those around that, wait for its end. A storage looks for that before it stores a
//! member that waits for something itself; nothing else is looked at.

use std::collections::{BTreeMap, VecDeque};

use crate::batch::BatchId;
use crate::continuation::Antecedent;
use crate::job::InvalidJob;

/// Most jobs and batches that are looked at for circles in one call. A circle that is larger is stored, and
/// waits until one of its jobs is deleted or one of its batches is cancelled.
pub const CIRCLE_STEPS_MAX: usize = 1_000;

/// Who waits for what, as a storage knows it.
pub trait Waits {
    /// The name that the storage has for a job or a batch.
    type Node: Copy + Ord;
    /// Why it cannot be read.
    type Error;

    /// What this waits for, as things stand.
    ///
    /// Of a job that is awaiting, and of a batch that has neither ended nor been cancelled: what it waits for
    /// itself, in the order in which it was named; then what its batch waits for, if that has not started, and
    /// so upwards. Of such a batch also its stored members, the first `room` in the order of their creation.
    /// Of everything else nothing.
    ///
    /// # Errors
    /// As every read.
    fn waits_for(&mut self, node: Self::Node, room: usize) -> Result<Vec<Self::Node>, Self::Error>;

    /// The name that everyone has for it.
    ///
    /// # Errors
    /// As every read.
    fn name(&mut self, node: Self::Node) -> Result<Antecedent, Self::Error>;
}

/// The search for circles in one call that creates jobs and batches.
#[derive(Debug)]
pub struct Circles<N> {
    /// The batch whose members the search is about.
    batch: Option<N>,
    /// What was found not to wait for that batch, each with who led to it.
    seen: BTreeMap<N, Option<N>>,
    left: usize,
}

impl<N> Default for Circles<N> {
    fn default() -> Circles<N> {
        Circles { batch: None, seen: BTreeMap::new(), left: CIRCLE_STEPS_MAX }
    }
}

impl<N: Copy + Ord> Circles<N> {
    /// Looks whether a new member of the first of `batches`, each of which stands in the next, may wait for
    /// `after`. Answers the way from there to one of the batches, that one last, if there is any.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn find<W: Waits<Node = N>>(
        &mut self,
        waits: &mut W,
        batches: &[N],
        after: impl IntoIterator<Item = N>,
    ) -> Result<Option<Vec<N>>, W::Error> {
        // What was found of one batch holds until something is added to another.
        if self.batch != batches.first().copied() {
            self.batch = batches.first().copied();
            self.seen.clear();
        }
        let mut line: VecDeque<(N, Option<N>)> =
            after.into_iter().map(|node| (node, None)).collect();
        while let Some((node, from)) = line.pop_front() {
            if batches.contains(&node) {
                return Ok(Some(self.way(node, from)));
            }
            if self.left == 0 {
                return Ok(None);
            }
            if self.seen.contains_key(&node) {
                continue;
            }
            self.left -= 1;
            self.seen.insert(node, from);
            let next = waits.waits_for(node, self.left)?;
            line.extend(next.into_iter().map(|next| (next, Some(node))));
        }
        Ok(None)
    }

    fn way(&self, to: N, from: Option<N>) -> Vec<N> {
        let before = |node: &N| self.seen.get(node).copied().flatten();
        let mut way = vec![to];
        way.extend(std::iter::successors(from, before));
        way.reverse();
        way
    }
}

/// The refusal of a member that would wait for its own batch, by the names on the way that was found.
///
/// # Errors
/// Those of the storage.
pub fn refusal<W: Waits>(
    waits: &mut W,
    member: Antecedent,
    batch: BatchId,
    way: &[W::Node],
) -> Result<InvalidJob, W::Error> {
    const NAMED: usize = 4;
    // The last one is the batch.
    let way = &way[..way.len().saturating_sub(1)];
    let mut reason = format!("{member} cannot stand in it: it");
    let more = way.len().saturating_sub(NAMED);
    for &node in &way[..way.len() - more] {
        reason.push_str(&format!(" waits for {}, which", waits.name(node)?));
    }
    if more > 0 {
        reason.push_str(&format!(" waits, over {more} more, for one that"));
    }
    reason.push_str(" waits for the end of the batch");
    Ok(InvalidJob::Batch { batch, reason })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::job::JobId;

    /// What each number waits for.
    struct Numbers(BTreeMap<u32, Vec<u32>>, usize);

    impl Waits for Numbers {
        type Node = u32;
        type Error = Infallible;

        fn waits_for(&mut self, node: u32, room: usize) -> Result<Vec<u32>, Infallible> {
            self.1 += 1;
            Ok(self.0.get(&node).into_iter().flatten().copied().take(room).collect())
        }

        fn name(&mut self, node: u32) -> Result<Antecedent, Infallible> {
            Ok(JobId::from_bytes([node as u8; 16]).into())
        }
    }

    fn numbers(waits: &[(u32, &[u32])]) -> Numbers {
        Numbers(waits.iter().map(|(node, waits)| (*node, waits.to_vec())).collect(), 0)
    }

    fn find(circles: &mut Circles<u32>, waits: &mut Numbers, after: u32) -> Option<Vec<u32>> {
        let Ok(way) = circles.find(waits, &[1, 2], [after]);
        way
    }

    #[test]
    fn the_way_to_a_batch_is_told() {
        let mut waits = numbers(&[(9, &[8, 7]), (8, &[]), (7, &[6]), (6, &[2])]);
        let way = find(&mut Circles::default(), &mut waits, 9);
        assert_eq!(way, Some(vec![9, 7, 6, 2]));
        assert_eq!(find(&mut Circles::default(), &mut waits, 8), None);
    }

    #[test]
    fn what_was_looked_at_is_not_looked_at_again() {
        let waits: Vec<(u32, Vec<u32>)> = (10..500).map(|node| (node, vec![node - 1])).collect();
        let mut waits = Numbers(waits.into_iter().collect(), 0);
        let mut circles = Circles::default();
        for after in 10..500 {
            assert_eq!(find(&mut circles, &mut waits, after), None);
        }
        assert_eq!(waits.1, 491);
    }

    #[test]
    fn what_was_found_of_one_batch_says_nothing_of_another() {
        let mut waits = numbers(&[(9, &[3])]);
        let mut circles = Circles::default();
        assert_eq!(find(&mut circles, &mut waits, 9), None);
        assert_eq!(circles.find(&mut waits, &[3], [9]), Ok(Some(vec![9, 3])));
    }

    #[test]
    fn a_call_looks_at_so_many_and_then_no_further() {
        let large = |members: u32| {
            let members: Vec<u32> = (100..100 + members).collect();
            let last = members.last().copied().into_iter();
            let waits = [(9, members)].into_iter().chain(last.map(|last| (last, vec![1])));
            find(&mut Circles::default(), &mut Numbers(waits.collect(), 0), 9)
        };
        let most = CIRCLE_STEPS_MAX as u32;
        assert!(large(most - 2).is_some());
        assert_eq!(large(most), None);
    }

    #[test]
    fn a_long_way_is_told_in_short() {
        let mut waits = numbers(&[]);
        let batch = BatchId::from_bytes([1; 16]);
        let name = |node: u8| Antecedent::Job(JobId::from_bytes([node; 16]));
        let mut told = |way: &[u32]| {
            let Ok(refusal) = refusal(&mut waits, name(3), batch, way);
            refusal.to_string()
        };
        assert_eq!(
            told(&[9, 1]),
            format!(
                "batch {batch}: {} cannot stand in it: it waits for {}, which waits for the end of the batch",
                name(3),
                name(9)
            )
        );
        let long = told(&[9, 8, 7, 6, 5, 4, 1]);
        assert!(
            long.ends_with("which waits, over 2 more, for one that waits for the end of the batch"),
            "{long}"
        );
    }
}
