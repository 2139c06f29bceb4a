//! What only real threads show: in tokio, in real time, with bounded waits on conditions.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::{Client, Json, KindName, MemoryStorage, NewJob, StateName, Storage, Wakeup};
use portfire_server::{Handler, Invocation, JobDescriptor, Server, Services};

use crate::stage::describe;

const BOUND: Duration = Duration::from_secs(20);

/// Lets a handler block its thread until the test lets it go on.
struct Gate {
    entered: Mutex<mpsc::Sender<()>>,
    go: Mutex<mpsc::Receiver<()>>,
}

fn blocks_its_thread(
    invocation: Invocation,
) -> portfire_core::BoxFuture<'static, portfire_server::HandlerResult> {
    let gate = invocation.services.get::<Gate>().unwrap();
    Box::pin(async move {
        gate.entered.lock().unwrap().send(()).unwrap();
        // An async handler that blocks: what it must not do, and what some will do.
        let _ = gate.go.lock().unwrap().recv_timeout(BOUND);
        Ok(None)
    })
}

#[test]
fn a_handler_that_blocks_an_async_thread_does_not_stop_the_heartbeat() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = tokio.unwrap();
    let (entered, has_entered) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let gate = Gate { entered: Mutex::new(entered), go: Mutex::new(go) };
    let job: &'static JobDescriptor =
        Box::leak(Box::new(describe("blocks", Handler::Async(blocks_its_thread))));
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let client = Client::new(Arc::clone(&storage));
    let server = tokio.block_on(async {
        let job = Server::builder(Arc::clone(&storage)).register([job]);
        let job = job.services(Services::new().with(gate)).workers(1);
        let job =
            job.lease(Duration::from_millis(200)).heartbeat_interval(Duration::from_millis(20));
        job.start().await.unwrap()
    });
    let id = client.next_id();
    let job = NewJob::new(id, KindName::stored("blocks"), Json::empty());
    portfire_core::client::block_on(client.create(vec![job])).unwrap();
    has_entered.recv_timeout(BOUND).unwrap();

    // The only thread of the runtime is blocked now; a lease is 10 heartbeats long.
    let beats = server.stats().heartbeats_total;
    let begun = std::time::Instant::now();
    while server.stats().heartbeats_total < beats + 20 {
        assert!(begun.elapsed() < BOUND, "the heartbeat has stopped");
        std::thread::yield_now();
    }
    let rescued = portfire_core::client::block_on(storage.rescue(Default::default())).unwrap();
    assert_eq!((rescued.dead.len(), rescued.returned), (0, 0));
    let_go.send(()).unwrap();
    let report = tokio.block_on(server.shutdown());
    assert_eq!((report.overdue, report.retired), (0, true));
    let job = portfire_core::client::block_on(storage.job(id)).unwrap().unwrap();
    assert_eq!((job.state.name(), job.attempt), (StateName::Succeeded, 1));
}

#[test]
fn a_thousand_jobs_of_both_sorts_run_once_each_on_real_threads() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    tokio.unwrap().block_on(async {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let client = Client::new(Arc::clone(&storage));
        let jobs: [&'static JobDescriptor; 2] = [
            Box::leak(Box::new(describe(
                "async",
                Handler::Async(|_| Box::pin(async { Ok(None) })),
            ))),
            Box::leak(Box::new(describe("sync", Handler::Blocking(|_| Ok(None))))),
        ];
        let server = Server::builder(Arc::clone(&storage)).register(jobs).start().await.unwrap();
        let mut wakeups = storage.wakeups();
        let kind = |n: u32| KindName::stored(if n.is_multiple_of(2) { "async" } else { "sync" });
        let new = |n| NewJob::new(client.next_id(), kind(n), Json::empty());
        client.create((0..1_000).map(new).collect()).await.unwrap();
        assert_eq!(wakeups.next().await, Wakeup::Work);
        let begun = std::time::Instant::now();
        while storage.counts().await.unwrap().of(StateName::Succeeded) < 1_000 {
            assert!(begun.elapsed() < BOUND, "{:?}", storage.counts().await);
            tokio::task::yield_now().await;
        }
        let stats = server.stats();
        assert_eq!((stats.claimed_total, stats.fenced_total), (1_000, 0));
        server.shutdown().await;
    });
}
