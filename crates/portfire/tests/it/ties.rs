//! What calls say about other jobs, keys, limits and schedules, and how continuations get what their
//! parents returned.

use std::time::Duration;

use portfire::prelude::*;
use portfire::{
    Antecedent, Call, Conflict, Dependency, Enqueue, InvalidJob, JobFn, JobOptions, LimitRule,
    NewJob, NewRecurring, ParentOutcome, Rate, Schedule, StateName, Takes, Timestamp, UniqueScope,
    Window,
};
use portfire_core::{ErrorRecord, Json, Occurrence};
use serde::{Deserialize, Serialize};

use crate::stage::{descriptor, perform, perform_as};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Rows(Vec<u32>);

#[job]
async fn extract(order: u32) -> Result<Rows, JobError> {
    Ok(Rows(vec![order]))
}

#[job]
async fn load(table: &str, #[parent] rows: &Rows) -> Result<String, JobError> {
    Ok(format!("{table} {:?}", rows.0))
}

#[job]
async fn load_by_value(#[parent] rows: Rows) -> Result<usize, JobError> {
    Ok(rows.0.len())
}

#[job]
fn count_words(#[parent] text: &str, #[arg(default)] least: usize) -> Result<usize, JobError> {
    Ok(text.split(' ').count().max(least))
}

#[job]
async fn report(#[parent] outcome: ParentResult<Rows>) -> Result<String, JobError> {
    Ok(match outcome {
        Ok(rows) => format!("{} rows", rows.0.len()),
        Err(error) => error.to_string(),
    })
}

#[job]
async fn alert(channel: String, #[parent] error: &ParentError) -> Result<String, JobError> {
    Ok(format!("{channel}: {}", error.state))
}

#[job]
async fn merge(#[parent] left: Rows, #[parent] right: ParentResult<u8>) -> anyhow::Result<String> {
    Ok(format!("{:?} {:?}", left.0, right.is_ok()))
}

#[job]
async fn sum(#[parents] all: &[u32]) -> Result<u32, JobError> {
    Ok(all.iter().sum())
}

#[job]
async fn survey(#[parents] all: Vec<ParentResult<u32>>) -> Result<usize, JobError> {
    Ok(all.iter().filter(|one| one.is_err()).count())
}

#[job]
async fn sweep(tick: Tick) -> Result<String, JobError> {
    Ok(format!("{} {}", tick.nominal, tick.triggered))
}

fn id(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn job<J: JobFn>(call: Call<J>) -> NewJob {
    call.into_new_job(|| id(1)).unwrap()
}

fn refusal<J: JobFn>(call: Call<J>) -> String {
    call.into_new_job(|| id(1)).unwrap_err().to_string()
}

fn succeeded(n: u8, result: &str) -> ParentOutcome {
    let result = Some(Json::stored(result));
    ParentOutcome { parent: id(n).into(), state: StateName::Succeeded, result, error: None }
}

fn failed(n: u8) -> ParentOutcome {
    let error = Some(ErrorRecord::new("app::Broken", "no disk"));
    ParentOutcome { parent: id(n).into(), state: StateName::Failed, result: None, error }
}

async fn with_parents<J: JobFn>(
    call: Call<J>,
    parents: &[ParentOutcome],
) -> portfire::HandlerResult {
    perform_as(call.after(id(8)).after(id(9)), |job| job.parents = parents.to_vec()).await
}

async fn text<J: JobFn>(call: Call<J>, parents: &[ParentOutcome]) -> String {
    let result = with_parents(call, parents).await.unwrap().unwrap();
    result.as_str().to_owned()
}

#[tokio::test]
async fn a_continuation_takes_what_its_parent_returned() {
    assert_eq!(text(load("t1"), &[succeeded(2, "[7,8]")]).await, r#""t1 [7, 8]""#);
    assert_eq!(text(load_by_value(), &[succeeded(2, "[7,8]")]).await, "2");
    assert_eq!(text(count_words(1), &[succeeded(2, r#""a b c""#)]).await, "3");
    assert_eq!(text(report(), &[succeeded(2, "[7]")]).await, r#""1 rows""#);
    assert_eq!(text(merge(), &[succeeded(2, "[1]"), failed(3)]).await, r#""[1] false""#);
    assert_eq!(text(sum(), &[succeeded(2, "40"), succeeded(3, "2")]).await, "42");
    assert_eq!(text(survey(), &[succeeded(2, "40"), failed(3), failed(4)]).await, "2");
}

#[tokio::test]
async fn a_continuation_on_failure_takes_the_error() {
    let told = text(report(), &[failed(2)]).await;
    assert!(told.contains("is failed: app::Broken: no disk"), "{told}");
    assert_eq!(text(alert("ops".into()), &[failed(2)]).await, r#""ops: failed""#);
}

#[tokio::test]
async fn what_does_not_fit_is_permanent_and_says_why() {
    let refused = |error: JobError| {
        assert_eq!(*error.steer(), portfire_core::job_error::Steer::Permanent);
        (error.record().class, error.to_string())
    };
    let (class, told) = refused(with_parents(load("t"), &[]).await.unwrap_err());
    assert_eq!(class, "no_parent");
    assert!(told.contains("`load` takes what its parent returned, and has none"), "{told}");
    let (class, told) = refused(with_parents(load("t"), &[failed(2)]).await.unwrap_err());
    assert_eq!(class, "no_parent");
    assert!(told.contains("did not succeed") && told.contains("no disk"), "{told}");
    let (class, told) =
        refused(with_parents(load("t"), &[succeeded(2, "[1,\"x\"]")]).await.unwrap_err());
    assert_eq!(class, "undecodable_parent");
    assert!(told.contains("at `[1]`: invalid type: string \"x\""), "{told}");
    let large = format!("\"{}\"", "é at line 9 ".repeat(100_000));
    let (_, told) = refused(with_parents(load("t"), &[succeeded(2, &large)]).await.unwrap_err());
    assert!(told.contains("returned does not fit: invalid type: string \"é at line 9"), "{told}");
    assert!(told.ends_with("expected a sequence") && told.len() < 500, "{told}");
    let (class, told) =
        refused(with_parents(alert("c".into()), &[succeeded(2, "1")]).await.unwrap_err());
    assert_eq!(class, "no_parent");
    assert!(told.contains("After::Failure"), "{told}");
}

#[tokio::test]
async fn a_job_that_takes_from_parents_is_not_stored_without_them() {
    let error = perform(load("t"), Services::new()).await.unwrap_err().to_string();
    assert!(
        error.contains("`load` takes what its parents return: it needs 1 of them and names 0"),
        "{error}"
    );
    assert!(refusal(merge().after(id(2))).contains("needs 2 of them and names 1"));
    assert_eq!(job(sum()).ties.after, [], "any number of parents will do");
}

#[test]
fn a_call_names_what_it_runs_after_and_how_it_must_end() {
    let plain = job(extract(1).after(id(2)).after_end(id(3)).after_on(id(4), After::Failure));
    assert_eq!(
        plain.ties.after,
        [
            Dependency::on(id(2)),
            Dependency::on(id(3)).after(After::End),
            Dependency::on(id(4)).after(After::Failure),
        ]
    );
    let taking = job(load("t").after(id(2)));
    assert_eq!(
        taking.ties.after,
        [Dependency::on(id(2)).passing()],
        "what it takes is kept for it"
    );
    let batch = portfire::BatchId::new(id(5));
    assert_eq!(job(extract(1).after(batch)).ties.after[0].on, Antecedent::Batch(batch));
}

fn takes<J: Takes<T>, T>(_: fn() -> J, _: fn() -> T) {}

#[test]
fn a_pipe_is_a_chain_whose_types_fit() {
    takes(|| -> load { unreachable!() }, || Rows(Vec::new()));
    takes(|| -> count_words { unreachable!() }, String::new);
    takes(|| -> report { unreachable!() }, || Rows(Vec::new()));
    takes(|| -> sum { unreachable!() }, || 0u32);
    let chain = extract(7).pipe(load("t1")).pipe(count_words(1)).then(extract(8).then(extract(9)));
    assert_eq!(chain.len(), 5);
    assert_eq!(
        format!("{chain:?}"),
        r#"Chain ["extract", "load", "count_words", "extract", "extract"]"#
    );
    let mut kinds = Vec::new();
    chain.clone().for_each_call(&mut |call| kinds.push(call.kind().to_string()));
    assert_eq!(kinds.len(), 5);
}

#[test]
fn keys_are_made_from_arguments() {
    let key = |call: Call<extract>| job(call).ties.unique.unwrap();
    let by_args = key(extract(1).unique(Unique::by_args()));
    assert!(by_args.key.starts_with("extract#"), "{}", by_args.key);
    assert_eq!((by_args.scope, by_args.conflict), (UniqueScope::UntilFinished, Conflict::Reject));
    assert_eq!(by_args, key(extract(1).unique(Unique::by_fields(["order"]))));
    assert_ne!(by_args, key(extract(2).unique(Unique::by_args())));
    let replaced = key(extract(1)
        .unique(Unique::by_template("order:{order}").within("10m").on_conflict(Conflict::Replace)));
    assert_eq!(replaced.key, "order:1");
    assert_eq!(replaced.scope, UniqueScope::Within(Duration::from_secs(600)));
    let unknown = refusal(extract(1).unique(Unique::by_fields(["user"])));
    assert_eq!(unknown, "`extract`: it has no argument `user`: expected one of order");
    let duration = refusal(extract(1).unique(Unique::by_key("k").within("soon")));
    assert!(duration.starts_with("`soon` is not a duration"), "{duration}");
}

#[job(unique(by("user_id"), until = started, on_conflict = debounce), start_within = "10m")]
async fn welcome(user_id: u64, lang: &str) {
    let _ = (user_id, lang);
}

#[job(
    limit("tenant:{tenant}", concurrency = 2, rate = "10/s"),
    limit("mail", rate = "5/30s", window = fixed),
    limit(concurrency = 1)
)]
async fn bill(tenant: &str, amount: u32) {
    let _ = (tenant, amount);
}

#[job(unique)]
async fn once() {}

#[test]
fn the_attribute_says_what_calls_hold_and_are_limited_by() {
    let first = job(welcome(1, "en"));
    let key = first.ties.unique.unwrap();
    assert_eq!((key.scope, key.conflict), (UniqueScope::UntilStarted, Conflict::Debounce));
    assert_eq!(key.key, job(welcome(1, "nl")).ties.unique.unwrap().key);
    assert_eq!(first.options.start_deadline, Some(Duration::from_secs(600)));
    assert_eq!(job(welcome(1, "en").unique(None)).ties.unique, None);
    let own = job(welcome(1, "en").unique(Unique::by_key("own")));
    assert_eq!(own.ties.unique.unwrap().key, "own");
    assert!(job(once()).ties.unique.unwrap().key.starts_with("once#"));

    let limits = job(bill("acme", 5)).ties.limits;
    let keys: Vec<_> = limits.iter().map(|limit| limit.key()).collect();
    assert_eq!(keys, ["tenant:acme", "mail", "bill"]);
    let second = Duration::from_secs(1);
    let rate = Some(Rate { count: 10, per: second, window: Window::Sliding });
    assert_eq!(limits[0].declared, Some(LimitRule { concurrency: Some(2), rate }));
    assert_eq!(limits[1].declared, Some(LimitRule::rate(5, 30 * second, Window::Fixed)));
    assert_eq!(limits[2].declared, Some(LimitRule::concurrency(1)));
}

#[test]
fn a_call_adds_limits_and_replaces_those_of_the_same_name() {
    let call = bill("acme", 5).limit(Limit::named("mail").partition("example.org").concurrency(2));
    let limits = job(call.limit(Limit::named("cpu"))).ties.limits;
    let keys: Vec<_> = limits.iter().map(|limit| limit.key()).collect();
    assert_eq!(keys, ["tenant:acme", "bill", "mail:example.org", "cpu"]);
    assert_eq!(limits[3].declared, None);
    let zero = refusal(extract(1).limit(Limit::named("mail").concurrency(0)));
    assert!(zero.contains("limit `mail`: a concurrency is 1 to 100,000"), "{zero}");
    let name = refusal(extract(1).limit(Limit::named("a b")));
    assert!(name.contains("limit `a b`"), "{name}");
    let rate = refusal(extract(1).limit(Limit::named("mail").rate(1, "1 parsec")));
    assert!(rate.contains("`1 parsec` is not a duration"), "{rate}");
}

#[test]
fn options_of_a_call_are_stored_with_it() {
    let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = extract(1).start_within("1h").expires_at(at).traceparent(trace).key("order:1");
    let NewJob { id, options, .. } = job(call);
    let JobOptions { start_deadline, expires_at, traceparent, .. } = options;
    assert_eq!((start_deadline, expires_at), (Some(Duration::from_secs(3_600)), Some(at)));
    assert_eq!(traceparent.as_deref(), Some(trace));
    assert_eq!(id, JobId::from_name("order:1"));
}

#[job(cron = "0 3 * * *", tz = "Europe/Amsterdam", misfire = skip, overlap = queue_one, jitter = "5m", queue = "night")]
async fn nightly(#[arg(default)] rounds: u8, tick: &Tick) {
    let _ = (rounds, tick);
}

#[job(every = "90s", name = "pulse.check", unique, limit(concurrency = 1), version = 2, migrate = same)]
fn pulse() {}

fn same(_: u32, args: serde_json::Value) -> serde_json::Value {
    args
}

use portfire::serde_json;

fn declared(kind: &str) -> NewRecurring {
    let declared = descriptor(kind).recurring.expect("it declares a recurring job")();
    declared.validate(&Default::default()).unwrap();
    declared
}

#[test]
fn a_schedule_in_the_attribute_is_a_recurring_job_of_the_code() {
    let nightly = declared("nightly");
    assert!(nightly.declared && nightly.app.is_empty());
    assert_eq!((nightly.id.as_str(), nightly.kind.as_str()), ("nightly", "nightly"));
    let (text, zone) = ("0 3 * * *".to_owned(), "Europe/Amsterdam".to_owned());
    assert_eq!(nightly.schedule, Schedule::Cron { text, zone });
    assert_eq!((nightly.misfire, nightly.overlap), (Misfire::Skip, Overlap::QueueOne));
    assert_eq!(nightly.jitter, Duration::from_secs(300));
    assert_eq!((nightly.args.as_str(), nightly.queue.as_str()), ("{}", "night"));

    let pulse = declared("pulse.check");
    assert_eq!(pulse.schedule, Schedule::Every(Duration::from_secs(90)));
    assert_eq!(pulse.args.as_str(), r#"{"$version":2}"#);
    assert!(pulse.ties.unique.is_some());
    assert_eq!(pulse.ties.limits[0].key(), "pulse.check");
    assert_eq!(pulse.misfire, Misfire::RunOnce);
    assert!(descriptor("extract").recurring.is_none());
}

#[derive(FromServices)]
struct Ledger {}

#[jobs]
impl Ledger {
    #[job(cron = "H H * * *", overlap = cancel_previous, limit(concurrency = 1))]
    async fn close(&self, tick: Tick) -> Result<bool, JobError> {
        Ok(tick.triggered)
    }

    #[job(unique(by("page")))]
    async fn book(page: u32, #[parent] rows: &Rows) -> Result<usize, JobError> {
        Ok(rows.0.len() + page as usize)
    }
}

#[tokio::test]
async fn methods_of_a_service_have_all_of_it_too() {
    let close = declared("Ledger.close");
    assert_eq!(close.overlap, Overlap::CancelPrevious);
    assert_eq!(close.ties.limits[0].key(), "Ledger.close");
    assert_eq!(text(Ledger::job().book(40), &[succeeded(2, "[7,8]")]).await, "42");
    assert_eq!(extract(1).pipe(Ledger::job().book(1)).len(), 2);
    let key = job(Ledger::job().book(1).after(id(2))).ties.unique.unwrap().key;
    assert!(key.starts_with("Ledger.book#"), "{key}");
}

#[tokio::test]
async fn a_run_knows_its_planned_instant() {
    let planned_at: Timestamp = "2026-03-29T02:30:00Z".parse().unwrap();
    let told = perform_as(sweep(), |job| {
        let recurring = "sweep".parse().unwrap();
        job.ties.occurrence = Some(Occurrence { recurring, planned_at, triggered: false });
    });
    assert_eq!(told.await.unwrap().unwrap().as_str(), r#""2026-03-29T02:30:00.000000Z false""#);
}

#[test]
fn a_recurring_job_refuses_calls_that_make_no_sense() {
    let refused = |call: Call<extract>| {
        let recurring = portfire::Recurring::new("daily", "0 8 * * *", call);
        recurring.into_definition().unwrap_err().to_string()
    };
    assert!(refused(extract(1).id(id(1))).contains("has an id"));
    assert!(refused(extract(1).delay(Duration::from_secs(1))).contains("has a delay"));
    assert!(refused(extract(1).after(id(1))).contains("waits for another job"));
    let name = portfire::Recurring::new("", "0 8 * * *", extract(1)).into_definition();
    assert!(matches!(name, Err(InvalidJob::RecurringId { .. })));
    let zone = portfire::Recurring::new("r", Duration::from_secs(90), extract(1)).tz("UTC");
    assert!(zone.into_definition().unwrap_err().to_string().contains("no time zone"));
    let whole = portfire::Recurring::new("r", cron!("0 8 * * *"), extract(1).queue("night"))
        .tz("Europe/Amsterdam")
        .jitter("10m")
        .app("shop")
        .into_definition()
        .unwrap();
    assert_eq!((whole.app.as_str(), whole.queue.as_str()), ("shop", "night"));
    assert_eq!(whole.jitter, Duration::from_secs(600));
}
