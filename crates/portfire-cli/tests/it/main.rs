//! The `portfire` program itself: what it answers, how it fails, and what it never shows.

mod batches;
mod bench;
mod cron;
mod explain;
mod export;
mod jobs;
mod limits;
mod log;
mod program;
mod queues;
mod recurring;
mod status;
mod terminal;
mod usage;
