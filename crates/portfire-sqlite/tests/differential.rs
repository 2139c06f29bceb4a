//! Random sequences of operations give the same answers, and leave the same contents, on SQLite as
//! on the reference. A failure names its seed; `PORTFIRE_SEED=17` runs that one alone.

use std::cell::Cell;
use std::sync::Arc;

use portfire_conformance::differential;
use portfire_core::client::block_on;
use portfire_core::{ManualClock, Storage};
use portfire_sqlite::{SqliteOptions, Synchronous};

const SEQUENCES: u64 = 2_000;
const STEPS: usize = 60;

/// Tests run side by side, each with its share of the sequences.
const SHARES: u64 = 4;

#[test]
fn sequences_of_the_first_share_equal_the_reference() {
    run_share(0);
}

#[test]
fn sequences_of_the_second_share_equal_the_reference() {
    run_share(1);
}

#[test]
fn sequences_of_the_third_share_equal_the_reference() {
    run_share(2);
}

#[test]
fn sequences_of_the_fourth_share_equal_the_reference() {
    run_share(3);
}

fn run_share(share: u64) {
    let only: Option<u64> = std::env::var("PORTFIRE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..SEQUENCES, |seed| seed..seed + 1);
    for seed in seeds.filter(|seed| seed % SHARES == share) {
        if let Err(difference) = run(seed) {
            panic!("{difference}");
        }
    }
}

fn run(seed: u64) -> Result<(), differential::Difference> {
    let folder = tempfile::tempdir().expect("the test may write to the temporary folder");
    let opened = Cell::new(0);
    let make = async |clock: Arc<ManualClock>| {
        opened.set(opened.get() + 1);
        let path = folder.path().join(format!("{}.db", opened.get()));
        // What a power failure undoes is not the question here.
        let options = SqliteOptions::new(path).clock(clock).synchronous(Synchronous::Off);
        let storage = options.open().await.expect("an empty database is opened");
        Arc::new(storage) as Arc<dyn Storage>
    };
    block_on(differential::run(seed, STEPS, make))
}
