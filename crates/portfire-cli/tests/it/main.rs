//! The `portfire` program itself: what it answers, how it fails, and what it never shows.

mod bench;
mod cron;
mod export;
mod jobs;
mod program;
mod status;
mod terminal;
mod usage;
