//! A storage that can be made to do several calls in one commit.

use std::any::Any;
use std::sync::Arc;

use portfire_core::Storage;

/// A storage whose group commit the test steers.
///
/// Which calls share a commit is a matter of chance otherwise, and a fault that shows only when a certain two
/// of them meet is met too rarely.
pub trait Grouped: Send + Sync {
    /// The storage.
    fn storage(&self) -> Arc<dyn Storage>;

    /// From here on no commit is made until the answer is dropped. The calls that are handed in meanwhile
    /// are then done in one, in the order in which they came.
    fn hold(&self) -> Box<dyn Any + Send>;

    /// How many commits were made, to see that they did share one; `None` for a storage without commits.
    fn commits(&self) -> Option<u64>;
}
