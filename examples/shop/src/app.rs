//! The shop put together: storage, client, tables, files, post; and the server that runs its jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use portfire::{
    Backoff, Client, JobContext, Next, RetryPolicy, Server, Services, Storage, filter_with,
};

use crate::config::Config;
use crate::db::Db;
use crate::error::ShopError;
use crate::files::Files;
use crate::jobs::APP;
use crate::mail::Post;
use crate::shop::Shop;

/// The queues, the preferred first: people wait for e-mails, nobody for the nightly work.
const QUEUES: [&str; 5] = ["mail", "invoices", "import", "default", "nightly"];

/// Time between two looks for processes that died. On SQLite another process notices a death by
/// itself, without waiting for a lease to lapse; this is how soon.
const RESCUE_INTERVAL: Duration = Duration::from_secs(1);

/// Crashes that a job survives. Portfire's default of 3 protects against jobs that take their process
/// down; those of the shop cannot, so a crash says nothing about the job that was running.
const RECOVERIES_MAX: u32 = 100;

/// The shop as a program sees it.
#[derive(Debug)]
pub struct App {
    /// Where the jobs are.
    pub storage: Arc<dyn Storage>,
    /// What enqueues them.
    pub client: Client,
    /// The shop itself.
    pub shop: Arc<Shop>,
    slow: Duration,
}

impl App {
    /// Opens the shop: its database, its folder, its post.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub async fn open(config: &Config) -> anyhow::Result<Arc<App>> {
        // First the storage, which makes the file and puts it into WAL mode; then the shop's tables
        // in the same file.
        let storage = portfire::sqlite::SqliteStorage::open(&config.db)
            .await
            .with_context(|| format!("the database {}", config.db.display()))?;
        let storage: Arc<dyn Storage> = Arc::new(storage);
        let shop = Shop {
            db: Db::open(&config.db)?,
            files: Files::open(&config.out)
                .with_context(|| format!("the folder {}", config.out.display()))?,
            post: Post::configured(config.smtp.as_deref()).map_err(anyhow::Error::msg)?,
            coupon_after: config.coupon_after,
        };
        Ok(Arc::new(App {
            client: Client::new(Arc::clone(&storage)),
            storage,
            shop: Arc::new(shop),
            slow: Duration::from_millis(config.slow_ms),
        }))
    }

    /// Starts a server with so many workers.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn serve(&self, workers: usize) -> anyhow::Result<Server> {
        let server = Server::builder(Arc::clone(&self.storage))
            .name("shop")
            .app(APP)
            .services(Services::new().with_arc(Arc::clone(&self.shop)))
            .queues(QUEUES)
            .workers(workers)
            .blocking_workers(workers)
            .retry(RetryPolicy::times(10).backoff(Backoff::Exponential {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(60),
            }))
            .rescue_interval(RESCUE_INTERVAL)
            .recoveries_max(RECOVERIES_MAX)
            // For tests that kill the process: half of the time before the handler, when nothing is
            // done yet, and half after it, when all is done and not yet recorded.
            .filter(filter_with(
                self.slow / 2,
                async |half: &Duration, job: &JobContext, next: Next<'_>| {
                    linger(half, job).await;
                    let result = next.run(job).await;
                    linger(half, job).await;
                    result
                },
            ));
        Ok(server.start().await?)
    }

    /// Runs jobs with so many workers, 0 for none, until `stop` is ready; then ends in good order: what
    /// runs is given time to end, what waits stays stored. A second signal ends it at once.
    ///
    /// # Errors
    /// What keeps the server from starting.
    pub async fn work_until(
        &self,
        workers: usize,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        if workers == 0 {
            stop.await;
        } else {
            self.serve(workers).await?.run_until(stop).await?;
        }
        Ok(())
    }

    /// Does something that blocks, on a thread that may.
    ///
    /// # Errors
    /// What `work` says.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&App) -> Result<T, ShopError> + Send + 'static,
    ) -> Result<T, ShopError> {
        let app = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&app)).await {
            Ok(result) => result,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

/// Waits half of what a slowed job takes, but not while the server is stopping.
async fn linger(half: &Duration, job: &JobContext) {
    if !half.is_zero() {
        let _ = tokio::time::timeout(*half, job.cancellation().cancelled()).await;
    }
}
