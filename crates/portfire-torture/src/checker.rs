//! What must hold of the effects and the counters when all is over.

use portfire::{Counts, StateName};

/// Checks what the jobs left behind, and names everything that is wrong.
///
/// Without kills each of the `jobs` numbers is there once. With kills none is missing, and a number is
/// there again at most as often as jobs were recovered.
pub(crate) fn check(jobs: u64, kills: u64, effects: &[u64], counts: &Counts) -> Vec<String> {
    let mut faults = Vec::new();
    let mut times = vec![0u64; jobs as usize];
    for &number in effects {
        match times.get_mut(number as usize) {
            Some(times) => *times += 1,
            None => faults.push(format!("job {number} ran, and was never enqueued")),
        }
    }
    let missing: Vec<usize> = (0..times.len()).filter(|&number| times[number] == 0).collect();
    if !missing.is_empty() {
        faults.push(format!("{} jobs never ran: {}", missing.len(), first(&missing)));
    }
    let again: Vec<usize> = (0..times.len()).filter(|&number| times[number] > 1).collect();
    let extra: u64 = again.iter().map(|&number| times[number] - 1).sum();
    if extra > counts.recovered_total {
        let recovered = counts.recovered_total;
        let which = first(&again);
        faults.push(format!("{extra} runs too many, and {recovered} jobs recovered: {which}"));
    }
    if kills == 0 && counts.recovered_total > 0 {
        faults.push(format!("{} jobs recovered, and nobody died", counts.recovered_total));
    }
    let expected = [
        ("created", counts.created_total, jobs),
        ("succeeded", counts.succeeded_total, jobs),
        ("stored as succeeded", counts.of(StateName::Succeeded), jobs),
        ("failed", counts.failed_total, 0),
        ("retried", counts.retried_total, 0),
        ("deleted", counts.deleted_total, 0),
    ];
    for (what, found, wanted) in expected {
        if found != wanted {
            faults.push(format!("{found} jobs {what}, and {wanted} expected"));
        }
    }
    faults
}

/// The first faults of a sort; the others are counted.
pub(crate) fn few(mut faults: Vec<String>) -> Vec<String> {
    let more = faults.len().saturating_sub(5);
    faults.truncate(5);
    if more > 0 {
        faults.push(format!("… and {more} more of this sort"));
    }
    faults
}

/// The first few, for a message.
fn first(numbers: &[usize]) -> String {
    let few: Vec<String> = numbers.iter().take(5).map(ToString::to_string).collect();
    if numbers.len() > few.len() { format!("{}, …", few.join(", ")) } else { few.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(jobs: u64, recovered: u64) -> Counts {
        Counts {
            states: [(StateName::Succeeded, jobs)].into(),
            created_total: jobs,
            succeeded_total: jobs,
            recovered_total: recovered,
            ..Counts::default()
        }
    }

    #[test]
    fn each_once_is_no_fault() {
        assert_eq!(check(3, 0, &[2, 0, 1], &counts(3, 0)), Vec::<String>::new());
    }

    #[test]
    fn a_missing_a_doubled_and_a_foreign_job_are_found() {
        let faults = check(3, 0, &[0, 0, 7], &counts(3, 0));
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("job 7"), "{faults:?}");
        assert!(faults[1].contains("2 jobs never ran: 1, 2"), "{faults:?}");
        assert!(faults[2].contains("1 runs too many"), "{faults:?}");
    }

    #[test]
    fn a_run_again_is_allowed_for_a_recovered_job_only() {
        assert_eq!(check(2, 1, &[0, 1, 1], &counts(2, 1)), Vec::<String>::new());
        assert_eq!(check(2, 1, &[0, 1, 1, 1], &counts(2, 1)).len(), 1);
        assert_eq!(check(2, 0, &[0, 1], &counts(2, 1)).len(), 1);
    }

    #[test]
    fn counters_that_disagree_are_found() {
        let wrong = Counts { succeeded_total: 1, failed_total: 1, ..counts(2, 0) };
        assert_eq!(check(2, 0, &[0, 1], &wrong).len(), 2);
    }
}
