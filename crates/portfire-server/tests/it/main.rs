//! The server's behaviour, sentence by sentence, in virtual time.

mod cancel;
mod deadlines;
mod dispatch;
mod faulty;
mod filters;
mod lease;
mod numbers;
mod orders;
mod outage;
mod outcomes;
mod processes;
mod queues;
mod recurring;
mod said;
mod shutdown;
#[cfg(unix)]
mod signals;
mod stage;
mod start;
mod threads;
mod world;
