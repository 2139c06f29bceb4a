//! Hears of real panics. The shipped code catches those of handlers and services, so a panic of its
//! own would go by unseen; planned panics unwind without the hook and are not heard.

use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOKED: Once = Once::new();

/// Listens on this thread until it is dropped.
pub(crate) struct Listener(());

/// Begins to listen on this thread.
pub(crate) fn listen() -> Listener {
    HOOKED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !note(info) {
                usual(info);
            }
        }));
    });
    HEARD.with_borrow_mut(|heard| *heard = Some(Vec::new()));
    Listener(())
}

/// Whether somebody listens on this thread.
fn note(info: &PanicHookInfo<'_>) -> bool {
    HEARD
        .with_borrow_mut(|heard| heard.as_mut().map(|heard| heard.push(info.to_string())))
        .is_some()
}

impl Listener {
    /// What was heard since the last time.
    pub(crate) fn heard(&self) -> Vec<String> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        HEARD.with_borrow_mut(|heard| *heard = None);
    }
}
