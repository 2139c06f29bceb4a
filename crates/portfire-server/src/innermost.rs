//! Runs a handler, inside of all filters: [`Innermost`], as a task or on a thread of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use portfire_core::{BoxFuture, JobError, Level};
use tokio::sync::oneshot;

use crate::context::JobContext;
use crate::handler::{Handler, HandlerResult, Invocation, UnencodableResult};
use crate::panics::caught;
use crate::runtime::Runtime;

/// The handler with everything it needs: what the innermost filter runs.
pub(crate) struct Innermost<'a> {
    pub(crate) handler: Handler,
    pub(crate) invocation: Invocation,
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) thread: &'a ThreadSlot,
}

impl<'a> Innermost<'a> {
    pub(crate) fn run(self) -> BoxFuture<'a, HandlerResult> {
        let job = self.invocation.context.clone();
        match self.handler {
            Handler::Async(handler) => match caught(|| handler(self.invocation)) {
                Ok(run) => Box::pin(Caught { run, job }),
                Err(message) => Box::pin(std::future::ready(Err(panic_error(message)))),
            },
            Handler::Blocking(handler) => Box::pin(async move {
                let result = on_thread(handler, self.invocation, self.runtime, self.thread).await;
                without_unencodable(&job, result)
            }),
        }
    }
}

/// A result that cannot be stored is dropped, as one that is too large: the job has succeeded all the
/// same, and its log says why there is no result.
fn without_unencodable(job: &JobContext, result: HandlerResult) -> HandlerResult {
    let Err(error) = &result else { return result };
    match error.source().and_then(|source| source.downcast_ref::<UnencodableResult>()) {
        Some(unencodable) => {
            job.log_at(Level::Warn, format_args!("the result was dropped: {unencodable}"));
            Ok(None)
        }
        None => result,
    }
}

/// Where a blocking handler leaves word of its thread.
#[derive(Default)]
pub(crate) struct ThreadSlot(Mutex<Option<oneshot::Receiver<()>>>);

impl ThreadSlot {
    fn put(&self, thread: oneshot::Receiver<()>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    pub(crate) fn into_inner(self) -> Option<oneshot::Receiver<()>> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn on_thread(
    handler: fn(Invocation) -> HandlerResult,
    invocation: Invocation,
    runtime: &dyn Runtime,
    thread: &ThreadSlot,
) -> HandlerResult {
    let (answer, answered) = oneshot::channel();
    let (returned, thread_ended) = oneshot::channel();
    thread.put(thread_ended);
    let span = tracing::Span::current();
    runtime.spawn_blocking(Box::new(move || {
        let run = || span.in_scope(|| handler(invocation));
        let result = caught(run).unwrap_or_else(|message| Err(panic_error(message)));
        // Nobody listens any more when the attempt has timed out.
        let _ = answer.send(result);
        drop(returned);
    }));
    match answered.await {
        Ok(result) => result,
        Err(_) => {
            Err(JobError::new("no thread could be had to run the handler").with_class("no_thread"))
        }
    }
}

/// A handler whose panic is its error, so that filters see it as one.
struct Caught<'a> {
    run: BoxFuture<'a, HandlerResult>,
    job: JobContext,
}

impl Future for Caught<'_> {
    type Output = HandlerResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<HandlerResult> {
        // A future that panicked is never polled again: its attempt has ended.
        caught(|| self.run.as_mut().poll(cx))
            .unwrap_or_else(|message| Poll::Ready(Err(panic_error(message))))
            .map(|result| without_unencodable(&self.job, result))
    }
}

fn panic_error(message: String) -> JobError {
    JobError::new(message).with_class("panic")
}
