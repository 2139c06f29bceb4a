//! A shop in a folder of its own, for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shop::app::App;
use shop::batch::{self, End};
use shop::config::Config;
use shop::report::Totals;
use tempfile::TempDir;

/// Longest time a test waits for jobs.
const WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) app: Arc<App>,
}

impl Stage {
    pub(crate) async fn new(coupon_after: Duration, smtp: Option<&str>) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            db: folder.path().join("shop.db"),
            out: folder.path().join("out"),
            workers: 4,
            smtp: smtp.map(str::to_owned),
            coupon_after,
            slow_ms: 0,
        };
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let app = App::open(&config).await.unwrap();
        Stage { folder, app }
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("data").join(name), text).unwrap();
    }

    /// A path in the folder of the test.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Imports the folder's files and runs everything that follows.
    pub(crate) async fn import(&self) -> Totals {
        let run = batch::run(&self.app, self.folder.path().join("data"), 4);
        match tokio::time::timeout(WITHIN, run).await.unwrap().unwrap() {
            End::Done(report) => report.totals,
            End::Interrupted => panic!("interrupted"),
        }
    }

    /// Runs everything there is.
    pub(crate) async fn drain(&self) {
        let server = self.app.serve(4).await.unwrap();
        let idle = batch::wait_until_idle(&*self.app.storage);
        tokio::time::timeout(WITHIN, idle).await.unwrap().unwrap();
        server.shutdown().await;
    }

    /// The names of the files in a folder of results, sorted.
    pub(crate) fn results(&self, of: &str) -> Vec<String> {
        names(&self.folder.path().join("out").join(of))
    }

    pub(crate) fn result(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("out").join(path)).unwrap()
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
