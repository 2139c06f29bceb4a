//! Polling by hand: a call that is dropped half-way.

use std::future::Future;
use std::task::Poll;

/// Polls a future once and drops it wherever it stands then; `Some` when it was ready.
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
