//! Panics of code that is not the server's, as errors: a handler, a filter, a storage must not take
//! the task that called it with them.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

/// Calls something; a panic is an error with its message.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(message)
}

/// Runs a future; a panic in it, or in dropping it, is an error with its message.
pub(crate) async fn caught_in<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(Some(future));
    let result = poll_fn(|cx| {
        // It is dropped only below, when this has ended.
        let Some(running) = future.as_mut().as_pin_mut() else { return Poll::Pending };
        match caught(|| running.poll(cx)) {
            Ok(polled) => polled.map(Ok),
            Err(message) => Poll::Ready(Err(message)),
        }
    });
    let result = result.await;
    let dropped = caught(|| future.set(None));
    result.and_then(|output| dropped.map(|()| output))
}

/// What a panic said; panics nearly always carry text.
fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message").to_owned();
    // What was thrown is the user's too, and may panic when it is dropped. Whatever comes then is kept
    // for ever: it would take the task with it.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn a_panic_that_panics_again_takes_nobody_with_it() {
        assert_eq!(caught(|| std::panic::panic_any(Bomb)), Err::<(), _>("no message".to_owned()));
        let thrown = portfire_core::client::block_on(caught_in(async { panic!("out") }));
        assert_eq!(thrown, Err::<(), _>("out".to_owned()));
    }
}
