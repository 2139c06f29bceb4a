//! Locking without poison: a simulated handler may panic while it holds nothing of ours, and a panic
//! of the simulation itself is reported as such.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
