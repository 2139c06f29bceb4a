//! Where the running attempts of a pool leave word that they have said something: [`Desk`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portfire_core::{Annotation, ServerId};
use tokio::sync::Notify;

use crate::context::JobContext;
use crate::lane::Seat;
use crate::notebook::weight;
use crate::runtime::Runtime;

/// What all attempts of a pool share that run under one id of their server.
///
/// An attempt that says something puts itself down here, at its own seat, so there are never more than
/// there are workers. When the server has lost its id it gets another desk, and what lay on the old one
/// is forgotten with it.
pub(crate) struct Desk {
    /// Under which id the jobs were claimed; none outside of a server.
    pub(crate) server: Option<ServerId>,
    pub(crate) runtime: Arc<dyn Runtime>,
    speakers: Mutex<Speakers>,
    /// Tells the dispatcher of the first one.
    spoken: Arc<Notify>,
}

#[derive(Default)]
struct Speakers {
    seated: BTreeMap<Seat, JobContext>,
    /// Nobody comes to collect any more.
    closed: bool,
}

impl Desk {
    /// A desk on which nothing lies. `spoken` is told when that changes.
    pub(crate) fn new(
        server: Option<ServerId>,
        runtime: Arc<dyn Runtime>,
        spoken: Arc<Notify>,
    ) -> Desk {
        Desk { server, runtime, speakers: Mutex::default(), spoken }
    }

    /// The attempt at this seat has said something.
    pub(crate) fn put(&self, seat: Seat, speaker: JobContext) {
        let mut speakers = self.lock();
        if speakers.closed {
            return;
        }
        let first = speakers.seated.is_empty();
        let before = speakers.seated.insert(seat, speaker);
        drop(speakers);
        // Outside of the lock: the last of a job's context may go with it, and the user's data in it.
        drop(before);
        if first {
            self.spoken.notify_one();
        }
    }

    /// Whether nobody has said anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().seated.is_empty()
    }

    /// Hears nobody any more. What lies there can still be collected.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Hears nobody any more, and forgets what lies there: those that speak hold the desk, so it would
    /// never be gone.
    pub(crate) fn clear(&self) {
        self.close();
        let seated = std::mem::take(&mut self.lock().seated);
        // Outside of the lock, as above.
        drop(seated);
    }

    /// Takes what was said, until it weighs so much; the rest lies there for the next time. The second
    /// answer tells whether everything was taken.
    pub(crate) fn collect(&self, bytes_max: usize) -> (Vec<Annotation>, bool) {
        let (mut notes, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some((_, speaker)) = self.lock().seated.pop_first() else { return (notes, true) };
            if let Some(said) = speaker.take_notes() {
                bytes += weight(&said.notes);
                notes.push(said);
            }
        }
        (notes, false)
    }

    fn lock(&self) -> MutexGuard<'_, Speakers> {
        self.speakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({} speakers)", self.lock().seated.len())
    }
}
