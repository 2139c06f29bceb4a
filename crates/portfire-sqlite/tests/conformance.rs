//! The contract, case by case, on a database file of each case's own.

use std::sync::Arc;

use portfire_conformance::ManualFixture;
use portfire_core::Storage;
use portfire_sqlite::SqliteOptions;

async fn fixture() -> ManualFixture {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("jobs.db");
    ManualFixture::opening(move |clock| {
        let options = SqliteOptions::new(&path).clock(clock);
        async move {
            let storage = options.open().await.expect("a fresh database opens");
            Arc::new(storage) as Arc<dyn Storage>
        }
    })
    .await
    .keeping(folder)
}

portfire_conformance::suite!(fixture, clock, reopen, second, hints);
