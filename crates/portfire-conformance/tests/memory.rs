//! The storage in memory passes the suite.

use std::sync::Arc;

use portfire_conformance::ManualFixture;
use portfire_core::{ManualClock, MemoryStorage};

async fn fixture() -> ManualFixture {
    let clock = Arc::new(ManualClock::default());
    ManualFixture::new(Arc::new(MemoryStorage::with_clock(clock.clone())), clock)
}

portfire_conformance::suite!(fixture, clock);
