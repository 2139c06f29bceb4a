//! Random sequences of operations give the same answers, and leave the same contents, on SQLite as
//! on the reference. A failure names its seed; `PORTFIRE_SEED=17` runs that one alone.

mod crowded;
mod ties;

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use portfire_conformance::differential::{self, Difference, Grouped};
use portfire_core::client::block_on;
use portfire_core::{ManualClock, Storage};
use portfire_sqlite::{SqliteOptions, SqliteStorage, Synchronous};

use crowded::{Crowded, InCompany};

const STEPS: usize = 60;
/// Sequences in each of the tests below, which run side by side.
const SHARE: u64 = 500;
const SHARE_IN_A_CROWD: u64 = 300;
const SHARE_IN_COMPANY: u64 = 300;

#[test]
fn sequences_equal_the_reference_1() {
    run_seeds(0..SHARE, Opened::Once);
}

#[test]
fn sequences_equal_the_reference_2() {
    run_seeds(SHARE..2 * SHARE, Opened::Once);
}

#[test]
fn sequences_equal_the_reference_3() {
    run_seeds(2 * SHARE..3 * SHARE, Opened::Once);
}

#[test]
fn sequences_equal_the_reference_4() {
    run_seeds(3 * SHARE..4 * SHARE, Opened::Once);
}

#[test]
fn sequences_over_two_handles_in_a_crowd_equal_the_reference() {
    run_seeds(0..SHARE_IN_A_CROWD, Opened::TwiceInACrowd);
}

#[test]
fn sequences_that_share_their_commits_equal_the_reference_1() {
    run_seeds(0..SHARE_IN_COMPANY, Opened::TwiceInCompany);
}

#[test]
fn sequences_that_share_their_commits_equal_the_reference_2() {
    run_seeds(SHARE_IN_COMPANY..2 * SHARE_IN_COMPANY, Opened::TwiceInCompany);
}

/// How a sequence meets its database.
#[derive(Clone, Copy)]
enum Opened {
    /// By one handle, one operation to a commit.
    Once,
    /// By two handles in turn, as two processes would; each operation shares its commit with others
    /// that change nothing.
    TwiceInACrowd,
    /// By two handles in turn; several operations share a commit.
    TwiceInCompany,
}

fn run_seeds(mut seeds: Range<u64>, opened: Opened) {
    if let Ok(only) = std::env::var("PORTFIRE_SEED") {
        let only: u64 = only.parse().expect("PORTFIRE_SEED is a number");
        seeds = if seeds.contains(&only) { only..only + 1 } else { 0..0 };
    }
    for seed in seeds {
        if let Err(difference) = run(seed, opened) {
            panic!("{difference}");
        }
    }
}

fn run(seed: u64, opened: Opened) -> Result<(), Difference> {
    let folder = tempfile::tempdir().expect("the test may write to the temporary folder");
    let files = Cell::new(0);
    let make = async |clock: Arc<ManualClock>| -> Arc<dyn Storage> {
        files.set(files.get() + 1);
        let path = folder.path().join(format!("{}.db", files.get()));
        let first = open(&path, &clock).await;
        match opened {
            Opened::Once => Arc::new(first) as Arc<dyn Storage>,
            _ => Arc::new(Crowded::new([first, open(&path, &clock).await])),
        }
    };
    let make_company = async |clock: Arc<ManualClock>| -> Arc<dyn Grouped> {
        files.set(files.get() + 1);
        let path = folder.path().join(format!("{}.db", files.get()));
        let handles = [open(&path, &clock).await, open(&path, &clock).await];
        Arc::new(InCompany(Arc::new(Crowded::new(handles)))) as Arc<dyn Grouped>
    };
    match opened {
        Opened::TwiceInCompany => block_on(differential::run_together(seed, STEPS, make_company)),
        _ => block_on(differential::run(seed, STEPS, make)),
    }
}

async fn open(path: &Path, clock: &Arc<ManualClock>) -> SqliteStorage {
    // What a power failure undoes is not the question here.
    let options = SqliteOptions::new(path).clock(clock.clone()).synchronous(Synchronous::Off);
    options.open().await.expect("an empty database is opened")
}
