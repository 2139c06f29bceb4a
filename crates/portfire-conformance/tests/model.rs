//! The model passes the suite.

use std::sync::Arc;

use portfire_conformance::ManualFixture;
use portfire_conformance::model::Model;
use portfire_core::ManualClock;

async fn fixture() -> ManualFixture {
    let clock = Arc::new(ManualClock::default());
    ManualFixture::new(Arc::new(Model::with_clock(clock.clone())), clock)
}

portfire_conformance::suite!(fixture, clock);
