//! Plays one case: a runtime, a fresh storage, the case, the audit, all within a bound.

use std::future::Future;
use std::time::Duration;

use crate::audit::audit;
use crate::fixture::Fixtures;
use crate::stage::Stage;

/// Longest time that a case may take. It bounds a hang and measures nothing.
const CASE_MAX: Duration = Duration::from_secs(300);

/// Plays a case on a fresh storage, and then [audits](crate::audit) it.
///
/// # Panics
/// When the storage breaks what the case holds, or does not answer within 5 minutes.
pub fn run<C, F>(fixtures: Fixtures, case: C)
where
    C: FnOnce(Stage) -> F,
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the case");
    runtime.block_on(async {
        let stage = Stage::new(fixtures).await;
        let whole = async {
            Box::pin(case(stage.clone())).await;
            Box::pin(audit(&stage)).await;
        };
        if tokio::time::timeout(CASE_MAX, whole).await.is_err() {
            panic!("the case did not end within {CASE_MAX:?}: some call does not answer");
        }
    });
}
