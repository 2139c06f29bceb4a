//! The client against the reference storage.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::client::{ClientFilter, block_on};
use portfire_core::{
    Action, Answer, BoxFuture, Call, Changed, Client, ClientError, Created, InvalidJob, JobFn,
    JobState, Layer, ManualClock, MemoryStorage, Monitor, NewBatch, NewJob, RetryPolicy, StateName,
    Storage, StorageError,
};

/// A job function as `#[job]` would write it.
#[derive(Debug)]
enum Greet {}

impl JobFn for Greet {
    const KIND: &'static str = "greet";
    const QUEUE: &'static str = "mail";
    const PRIORITY: i16 = 3;
    type Output = ();
}

fn greet(name: &str) -> Call<Greet> {
    Call::new(&serde_json::json!({ "name": name }))
}

fn client() -> Client {
    let clock = Arc::new(ManualClock::default());
    Client::new(Arc::new(MemoryStorage::with_clock(clock)))
}

#[test]
fn a_call_is_stored_with_the_functions_defaults() {
    block_on(async {
        let client = client();
        let id = client.enqueue(greet("Ada")).await.unwrap();
        let job = client.job(id).await.unwrap().unwrap();
        assert_eq!((job.kind.as_str(), job.queue.as_str(), job.priority), ("greet", "mail", 3));
        assert_eq!(job.args.as_str(), r#"{"name":"Ada"}"#);
        assert!(job.options.is_default());
    });
}

#[test]
fn what_a_call_says_wins_over_the_function() {
    block_on(async {
        let client = client();
        let call = greet("Ada").queue("fast").priority(-7).tag("eu").metadata("k", "v");
        let id = client.enqueue(call.retry(RetryPolicy::none())).await.unwrap();
        let job = client.job(id).await.unwrap().unwrap();
        assert_eq!((job.queue.as_str(), job.priority), ("fast", -7));
        assert_eq!(job.options.retry, Some(RetryPolicy::none()));
        assert_eq!(job.options.tags, ["eu"]);
        assert_eq!(job.options.metadata["k"], "v");
    });
}

#[test]
fn a_mistake_in_a_call_is_reported_when_it_is_enqueued_and_nothing_is_stored() {
    block_on(async {
        let client = client();
        let refused = client.enqueue(greet("Ada").queue("No Such!")).await.unwrap_err();
        assert!(matches!(refused, ClientError::Invalid(InvalidJob::Queue { .. })), "{refused}");
        let mut calls = vec![greet("Ada"), greet("Bob").retry(RetryPolicy::times(5_000))];
        let refused = client.enqueue_many(calls.drain(..)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Invalid(InvalidJob::Retry { .. })), "{refused}");
        assert_eq!(client.storage().counts().await.unwrap().created_total, 0);
    });
}

#[test]
fn an_absurd_delay_is_refused_and_the_year_2999_is_not() {
    block_on(async {
        let client = client();
        let absurd = client.schedule(greet("Ada"), Duration::MAX).await;
        assert!(absurd.unwrap_err().to_string().contains("after the year 9999"));
        let at: portfire_core::Timestamp = "2999-01-01T00:00:00Z".parse().unwrap();
        let id = client.schedule(greet("Ada"), at).await.unwrap();
        let job = client.job(id).await.unwrap().unwrap();
        assert!(matches!(job.state, JobState::Scheduled { run_at, .. } if run_at == at));
    });
}

#[test]
fn a_call_with_an_id_is_stored_once() {
    block_on(async {
        let client = client();
        let id = client.next_id();
        for _ in 0..2 {
            assert_eq!(client.enqueue(greet("Ada").id(id)).await.unwrap(), id);
        }
        assert_eq!(client.storage().counts().await.unwrap().created_total, 1);
        let other = client.enqueue(greet("Bob").id(id)).await.unwrap_err();
        assert!(other.to_string().contains("stored already"), "{other}");
    });
}

#[test]
fn many_calls_keep_their_order_beyond_one_commit() {
    block_on(async {
        let client = client();
        let ids = client.enqueue_many((0..10_001).map(|i| greet(&i.to_string()))).await.unwrap();
        assert_eq!(ids.len(), 10_001);
        assert!(ids.is_sorted());
        assert_eq!(client.storage().counts().await.unwrap().of(StateName::Enqueued), 10_001);
        assert!(client.enqueue_many(std::iter::empty::<Call<Greet>>()).await.unwrap().is_empty());
    });
}

#[test]
fn a_change_can_name_the_states_it_is_meant_for() {
    block_on(async {
        let client = client();
        let id = client.enqueue(greet("Ada")).await.unwrap();
        let requeue = client.change_if(id, Action::Requeue, [StateName::Failed]).await.unwrap();
        assert!(matches!(requeue, Changed::Unexpected { state: StateName::Enqueued, .. }));
        assert!(client.delete(id).await.unwrap().is_done());
        assert_eq!(client.delete(id).await.unwrap(), Changed::Unchanged);
        assert!(client.requeue(id).await.unwrap().is_done());
        assert!(client.reschedule(id, Duration::from_secs(5)).await.unwrap().is_done());
        assert_eq!(client.requeue(client.next_id()).await.unwrap(), Changed::Missing);
    });
}

#[test]
fn code_without_a_runtime_blocks() {
    let client = client();
    let id = client.blocking().enqueue(greet("Ada")).unwrap();
    let failed_only = client.blocking().change_if(id, Action::Requeue, [StateName::Failed]);
    assert!(matches!(failed_only, Ok(Changed::Unexpected { .. })));
    assert!(client.blocking().delete(id).unwrap().is_done());
    let job = client.blocking().job(id).unwrap().unwrap();
    assert_eq!(job.state.name(), StateName::Deleted);
}

/// Tags every job, refuses one name, and remembers what was stored.
#[derive(Clone, Default)]
struct Doorman {
    stored: Arc<Mutex<Vec<Created>>>,
}

impl ClientFilter for Doorman {
    fn creating(&self, job: &mut NewJob) -> Result<(), String> {
        if job.args.as_str().contains("Mallory") {
            return Err("not on the list".to_owned());
        }
        job.options.tags.push("seen".to_owned());
        Ok(())
    }

    fn created(&self, _job: &NewJob, created: Created) {
        self.stored.lock().unwrap().push(created);
    }
}

#[test]
fn filters_see_refuse_and_hear_of_jobs() {
    block_on(async {
        let doorman = Doorman::default();
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let client = Client::builder(Arc::clone(&storage)).filter(doorman.clone()).build();
        let id = client.enqueue(greet("Ada")).await.unwrap();
        assert_eq!(client.job(id).await.unwrap().unwrap().options.tags, ["seen"]);

        let refused = client.enqueue_many([greet("Bob"), greet("Mallory")]).await.unwrap_err();
        assert!(refused.to_string().contains("not on the list"), "{refused}");
        assert_eq!(storage.counts().await.unwrap().created_total, 1);
        let heard = doorman.stored.lock().unwrap().clone();
        assert_eq!(heard, [Created { id, existing: false }]);
    });
}

/// A storage that does what it is asked and loses its answers to creates, so many of them.
#[derive(Debug)]
struct Forgetful {
    memory: MemoryStorage,
    lost: AtomicU32,
}

impl Layer for Forgetful {
    fn inner(&self) -> &dyn Storage {
        &self.memory
    }

    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        Box::pin(async move {
            let created = self.memory.create_batches(batches, jobs).await?;
            let left = self.lost.load(Ordering::Relaxed);
            if left == 0 {
                return Ok(created);
            }
            self.lost.store(left - 1, Ordering::Relaxed);
            Err(StorageError::unavailable("the answer is lost"))
        })
    }
}

fn forgetful(lost: u32) -> Arc<Forgetful> {
    Arc::new(Forgetful { memory: MemoryStorage::new(), lost: AtomicU32::new(lost) })
}

#[test]
fn an_unanswered_enqueue_names_its_job_and_is_repeated_with_that() {
    let storage = forgetful(1);
    let client = Client::new(storage.clone());
    let error = block_on(client.enqueue(greet("a"))).unwrap_err();
    let &[id] = error.unanswered() else { panic!("{error:?}") };
    assert!(error.to_string().contains(&format!("job {id} may be stored")), "{error}");
    let again = block_on(client.enqueue_unique(greet("a").id(id))).unwrap();
    assert_eq!(again, Created { id, existing: true });
    assert_eq!(block_on(storage.memory.counts()).unwrap().created_total, 1);
}

#[test]
fn a_client_that_repeats_stores_once_and_gives_up_in_the_end() {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let client = |storage: Arc<Forgetful>| {
        let waits = Arc::clone(&waits);
        let sleep = move |wait| -> BoxFuture<'static, ()> {
            waits.lock().unwrap().push(wait);
            Box::pin(std::future::ready(()))
        };
        Client::builder(storage).repeat(4, sleep).build()
    };
    let storage = forgetful(3);
    block_on(client(storage.clone()).enqueue_many((0..10).map(|n| greet(&n.to_string())))).unwrap();
    assert_eq!(block_on(storage.memory.counts()).unwrap().created_total, 10);
    let waited = std::mem::take(&mut *waits.lock().unwrap());
    assert_eq!(waited.len(), 3);
    for (wait, most) in waited.into_iter().zip([100, 200, 400]) {
        assert!(wait <= Duration::from_millis(most), "{wait:?} of {most} ms");
    }

    let error = block_on(client(forgetful(9)).enqueue(greet("b"))).unwrap_err();
    assert_eq!(error.unanswered().len(), 1);
    assert_eq!(waits.lock().unwrap().len(), 3);
}
