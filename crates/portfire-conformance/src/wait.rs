//! Waiting with a bound: for a hint, and for nothing else.

use std::future::Future;
use std::time::Duration;

/// Longest wait for a hint that must come at once. Generous, for machines that are busy.
const HINT_MAX: Duration = Duration::from_secs(20);

/// Waits until something is heard.
///
/// # Panics
/// When it does not come.
pub(crate) async fn heard<T>(hint: impl Future<Output = T>, of: &str) -> T {
    match tokio::time::timeout(HINT_MAX, hint).await {
        Ok(heard) => heard,
        Err(_) => panic!("nothing was heard of {of} within {HINT_MAX:?}"),
    }
}

/// Polls a future once and drops it wherever it stands then; `Some` when it was ready.
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
