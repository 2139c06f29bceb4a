//! A process of the user's own that runs as long as its server does: [`BackgroundProcess`].

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use portfire_core::{BoxError, BoxFuture, Client};

use crate::service::Service;
use crate::shutdown::Shutdown;

/// Something that is done again and again in every server it was added to: polling a mailbox,
/// watching a directory, publishing numbers.
///
/// It is run once when the server starts and then after each [`interval`](Self::interval). A pass
/// that fails or panics is logged, at most once a minute, and repeated with waits that grow to 2 s.
/// When the server stops, no further pass begins; one that is under way should watch
/// [`ProcessContext::shutdown`], and is dropped at the deadline of the shutdown.
pub trait BackgroundProcess: Send + Sync + 'static {
    /// What it is called in the log.
    fn name(&self) -> &str;

    /// The wait after each pass.
    fn interval(&self) -> Duration;

    /// One pass.
    fn run_once<'a>(&'a self, context: &'a ProcessContext) -> BoxFuture<'a, Result<(), BoxError>>;
}

/// What a [`BackgroundProcess`] knows of its server.
#[derive(Clone, Debug)]
pub struct ProcessContext {
    client: Client,
    shutdown: Shutdown,
}

impl ProcessContext {
    pub(crate) fn new(client: Client, shutdown: Shutdown) -> ProcessContext {
        ProcessContext { client, shutdown }
    }

    /// A client of the server's storage.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Tells when the server stops.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }
}

/// A process that is an async function of its context.
///
/// ```
/// use portfire_server::process::{ProcessContext, process_fn};
/// use std::time::Duration;
/// let tidy = process_fn("tidy", Duration::from_secs(60), async |_: ProcessContext| Ok(()));
/// # let _ = tidy;
/// ```
pub fn process_fn<F, Fut>(
    name: impl Into<String>,
    interval: Duration,
    pass: F,
) -> impl BackgroundProcess
where
    F: Fn(ProcessContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    FromFn { name: name.into(), interval, pass }
}

struct FromFn<F> {
    name: String,
    interval: Duration,
    pass: F,
}

impl<F, Fut> BackgroundProcess for FromFn<F>
where
    F: Fn(ProcessContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn run_once<'a>(&'a self, context: &'a ProcessContext) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin((self.pass)(context.clone()))
    }
}

/// A process as a service of its server.
pub(crate) struct UserProcess {
    process: Arc<dyn BackgroundProcess>,
    context: ProcessContext,
}

impl UserProcess {
    pub(crate) fn new(process: Arc<dyn BackgroundProcess>, context: ProcessContext) -> UserProcess {
        UserProcess { process, context }
    }
}

impl Service for UserProcess {
    fn name(&self) -> &str {
        self.process.name()
    }

    async fn run_once(&mut self) -> Result<Duration, BoxError> {
        self.process.run_once(&self.context).await?;
        Ok(self.process.interval())
    }

    fn gap(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Debug for UserProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserProcess").field(&self.process.name()).finish()
    }
}
