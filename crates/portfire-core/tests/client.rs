//! The client against the reference storage.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::client::{ClientFilter, block_on};
use portfire_core::{
    Action, Call, Changed, Client, ClientError, Created, InvalidJob, JobFn, JobState, ManualClock,
    MemoryStorage, NewJob, RetryPolicy, StateName, Storage,
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
