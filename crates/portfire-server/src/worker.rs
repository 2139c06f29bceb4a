//! A worker, and with it the life of a job from its claim to its end.
//!
//! 1. **Claimed** (`dispatcher.rs`). The pool's dispatcher asks the storage for as many jobs as the
//!    workers can take soon. In that commit each job becomes `processing`, held by this server under
//!    a new *attempt* number. From here on it is the server's, for as long as the server's *lease*
//!    lasts; the heartbeat (`heartbeat.rs`) renews that lease, however long a job takes.
//! 2. **Ready** (`in_hand.rs`). The job waits for a free worker, usually for microseconds. Should the
//!    server stop now, the job goes back to its old place in the queue.
//! 3. **Running** (`perform.rs`). A worker takes it. The [`Performer`] finds the handler of its kind,
//!    makes the services that the handler asks for, and runs it inside the filters. Meanwhile the
//!    job's token fires when the job is deleted, runs out of time, the server stops, or the lease is
//!    lost: then another server may have the job, and nothing of this attempt counts any more.
//!    What the handler says goes into its notebook (`notebook.rs`); the attempt leaves word of it on
//!    the pool's desk (`desk.rs`), and the dispatcher sends it about once a second.
//! 4. **Decided** (`perform.rs`). The performer turns whatever happened (a result, an error, a panic,
//!    a timeout) into an outcome: succeeded, to be retried after a wait, failed, snoozed, discarded,
//!    parked or released. Elect filters may replace it.
//! 5. **Reported** (`dispatcher.rs`). The next cycle carries the outcome to the storage, together with
//!    the claim of new jobs, in one commit. The storage applies it only while this attempt holds the
//!    job: a finish that comes too late, after a rescue or a deletion, changes nothing. When the
//!    answer is lost, the same cycle is repeated under the same key; it takes effect once.
//! 6. **Over.** Applied filters hear of it. A job to be retried waits as `scheduled` until the
//!    promoter (`promoter.rs`) moves it to its queue, and begins anew at 1.
//!
//! Should the process die between 1 and 5, its lease lapses; the rescuer (`rescuer.rs`) of any server
//! then returns its jobs to their places, and counts the crash. That is why a job runs *at least* once: the
//! handler may have run to its end and its outcome never been reported. A job whose servers crash again and
//! again comes *alone*: the claim gives it to a server that holds nothing, and gives that nothing else until it
//! has ended, so that the next crash tells whether it is the cause (core's `suspects`).

use std::sync::Arc;

use crate::core::Core;
use crate::in_hand::{Assigned, Done, InHand};
use crate::lane::Seat;
use crate::perform::{Attempt, Performer};

/// Runs jobs one after the other in its slot.
///
/// It is one long-lived task: a job costs no spawn, and one short lock puts down what is done and
/// takes up what is next.
pub(crate) struct Worker {
    core: Arc<Core>,
    in_hand: Arc<InHand>,
    seat: Seat,
}

/// Jobs after which a worker lets others have the thread, when no handler has waited for anything.
const IN_A_ROW_MAX: u32 = 32;

impl Worker {
    pub(crate) fn new(core: Arc<Core>, in_hand: Arc<InHand>, seat: Seat) -> Worker {
        Worker { core, in_hand, seat }
    }

    /// Works until the pool is closed.
    pub(crate) async fn run(self) {
        let mut done = None;
        let mut in_a_row = 0;
        while let Some(assigned) = self.in_hand.next(self.seat, done.take()).await {
            done = self.work(assigned).await;
            in_a_row += 1;
            if in_a_row >= IN_A_ROW_MAX {
                in_a_row = 0;
                yield_now().await;
            }
        }
    }

    /// Runs one job; what it comes to, unless that is put down already.
    async fn work(&self, assigned: Assigned) -> Option<Done> {
        let Assigned { job, label, token, incarnation, desk } = assigned;
        let performer: &Performer = &self.core.performer;
        let attempt = performer.attempt(job, token, &desk, Some(self.seat)).await;
        let Attempt { finish, notes, context, thread } = attempt;
        let context = self.core.is_heard.then_some(context);
        let done = Done { finish, incarnation, label: Some(label), notes, context };
        let Some(thread) = thread else { return Some(done) };
        // The attempt has ended, but its thread may not have: when the handler ignored its timeout.
        // The job is not held up by that: it bars no others. The slot is: threads must not grow without a bound.
        self.in_hand.linger(self.seat, done);
        let _ = thread.await;
        self.in_hand.stop_lingering(self.seat);
        None
    }
}

/// Lets other tasks run.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
