//! A server by hand: stores a call in memory, claims it, and runs the handler that is linked for it.

use std::sync::Arc;
use std::time::Duration;

use portfire::prelude::*;
use portfire::{Call, JobDescriptor, JobFn, MemoryStorage, Storage};
use portfire_core::{ClaimRequest, ClaimedJob, CycleRequest, Json, NewServer, QueueName, ServerId};
use portfire_server::handler::linked_jobs;
use portfire_server::{Handler, HandlerResult, Invocation};

/// The descriptor of a kind.
pub(crate) fn descriptor(kind: &str) -> &'static JobDescriptor {
    linked_jobs().into_iter().find(|job| job.kind == kind).expect("a linked job of this kind")
}

/// Stores the call, claims it again, and runs its handler.
pub(crate) async fn perform<J: JobFn>(call: Call<J>, services: Services) -> HandlerResult {
    let storage = Arc::new(MemoryStorage::new());
    let client = Client::new(storage.clone());
    client.enqueue(call).await.map_err(JobError::permanent)?;
    let job = claim(&*storage).await;
    let handler = descriptor(job.kind.as_str()).handler;
    run(handler, job, client, services).await
}

/// Runs the handler of a call as a job that was changed by `change`: whatever the call waits for is
/// taken as fulfilled.
pub(crate) async fn perform_as<J: JobFn>(
    call: Call<J>,
    change: impl FnOnce(&mut ClaimedJob),
) -> HandlerResult {
    let storage = Arc::new(MemoryStorage::new());
    let client = Client::new(storage.clone());
    let mut stored = call.into_new_job(|| client.next_id()).map_err(JobError::permanent)?;
    stored.ties = Default::default();
    client.create(vec![stored]).await.map_err(JobError::permanent)?;
    let mut job = claim(&*storage).await;
    change(&mut job);
    run(descriptor(job.kind.as_str()).handler, job, client, Services::new()).await
}

/// Runs a handler on arguments that were stored by somebody else.
pub(crate) async fn perform_stored(kind: &str, args: &str, services: Services) -> HandlerResult {
    #[job]
    fn anything() {}

    let storage = Arc::new(MemoryStorage::new());
    let client = Client::new(storage.clone());
    client.enqueue(anything()).await.map_err(JobError::permanent)?;
    let mut job = claim(&*storage).await;
    job.args = Json::stored(args);
    run(descriptor(kind).handler, job, client, services).await
}

async fn claim(storage: &dyn Storage) -> ClaimedJob {
    let id = ServerId::new("stage:1:1");
    let queues = ["default", "mail"].map(|queue| QueueName::new(queue).expect("legal"));
    let server = NewServer {
        kinds: Vec::new(),
        id: id.clone(),
        name: "stage".into(),
        queues: queues.to_vec(),
        workers: 1,
        lease: Duration::from_secs(30),
    };
    storage.announce(server).await.expect("announced");
    let mut request = CycleRequest::new(id, 1);
    request.claim = Some(ClaimRequest { queues: queues.to_vec(), max: 1, aging: None });
    let mut cycle = storage.cycle(request).await.expect("claimed");
    cycle.claimed.pop().expect("the job")
}

async fn run(
    handler: Handler,
    job: ClaimedJob,
    client: Client,
    services: Services,
) -> HandlerResult {
    let args = job.args.clone();
    let context = JobContext::new(job, CancellationToken::never(), client);
    let invocation = Invocation { args, context, services: services.scope() };
    match handler {
        Handler::Async(run) => run(invocation).await,
        Handler::Blocking(run) => run(invocation),
    }
}
