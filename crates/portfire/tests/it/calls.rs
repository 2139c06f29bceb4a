//! What `#[job]` makes of a function: calls, stored arguments, handlers, descriptors.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portfire::prelude::*;
use portfire::{Backoff, Exceeded, JobFn, JobSet, Retention};
use serde::{Deserialize, Serialize};

use crate::stage::{descriptor, perform, perform_stored};

/// Welcomes a user.
#[job]
async fn send_welcome(user_id: u64, lang: &str) -> anyhow::Result<String> {
    Ok(format!("{user_id} {lang}"))
}

fn call_options<J: JobFn>(call: portfire::Call<J>) -> portfire::JobOptions {
    call.into_new_job(|| portfire::JobId::from_bytes([0; 16])).unwrap().options
}

fn args<J: JobFn>(call: portfire::Call<J>) -> String {
    call.args().unwrap().as_str().to_owned()
}

#[tokio::test]
async fn a_call_is_its_arguments_by_name() {
    assert_eq!(args(send_welcome(42, "en")), r#"{"user_id":42,"lang":"en"}"#);
}

#[tokio::test]
async fn a_stored_call_runs_with_its_arguments() {
    let result = perform(send_welcome(42, "en \"quoted\" é"), Services::new()).await.unwrap();
    assert_eq!(result.unwrap().as_str(), r#""42 en \"quoted\" é""#);
}

#[tokio::test]
async fn an_awaited_call_runs_in_place_with_its_own_types() {
    let text: String = send_welcome(7, "fr").await.unwrap();
    assert_eq!(text, "7 fr");
    assert_eq!(send_welcome::run(8, "de").await.unwrap(), "8 de");
}

/// A type of the user's own, which is lent without being cloned.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Order {
    lines: Vec<(String, u32)>,
}

#[job]
fn every_form(
    number: i16,
    mut owned: String,
    text: &str,
    list: &[u8],
    path: &Path,
    order: &Order,
    some_text: Option<&str>,
    no_order: Option<&Order>,
    maybe: Option<u8>,
    r#type: bool,
    _unused: (),
) -> Result<String, std::io::Error> {
    owned.push('!');
    let order = order.lines.len();
    Ok(format!(
        "{number} {owned} {text} {list:?} {path:?} {order} {some_text:?} {no_order:?} {maybe:?} {type}"
    ))
}

#[tokio::test]
async fn every_form_of_parameter_survives_storage() {
    let order = Order { lines: vec![("nut".into(), 2)] };
    let call = every_form(
        -1,
        "o".into(),
        "t",
        &[1, 2],
        Path::new("a/b"),
        &order,
        Some("s"),
        None,
        Some(3),
        true,
        (),
    );
    let json = r#"{"number":-1,"owned":"o","text":"t","list":[1,2],"path":"a/b","order":{"lines":[["nut",2]]},"some_text":"s","no_order":null,"maybe":3,"type":true,"_unused":null}"#;
    assert_eq!(args(call.clone()), json);
    let expected = r#"-1 o! t [1, 2] "a/b" 1 Some("s") None Some(3) true"#;
    assert_eq!(call.clone().await.unwrap(), expected);
    let stored = perform(call, Services::new()).await.unwrap().unwrap();
    assert_eq!(stored.decode::<String>().unwrap(), expected);
}

fn nine() -> u8 {
    9
}

#[job]
async fn lenient(
    a: Option<u8>,
    b: Option<&str>,
    #[arg(default)] c: String,
    #[arg(default = nine)] d: u8,
    #[arg(alias = "old_e", alias = "older_e")] e: u8,
) -> anyhow::Result<String> {
    Ok(format!("{a:?} {b:?} {c:?} {d} {e}"))
}

#[tokio::test]
async fn what_is_optional_may_be_missing_and_what_is_renamed_is_found() {
    let run = |json| perform_stored("lenient", json, Services::new());
    let text = |result: portfire_server::HandlerResult| {
        result.unwrap().unwrap().decode::<String>().unwrap()
    };
    assert_eq!(text(run(r#"{"e":1}"#).await), r#"None None "" 9 1"#);
    assert_eq!(text(run(r#"{"older_e":2,"later":[]}"#).await), r#"None None "" 9 2"#);
    let all = r#"{"d":4,"c":"c","b":"b","a":1,"old_e":3}"#;
    assert_eq!(text(run(all).await), r#"Some(1) Some("b") "c" 4 3"#);
    let error = run("{}").await.unwrap_err();
    assert_eq!(error.record().class, "undecodable_args");
    assert!(error.to_string().contains("`e` is missing"), "{error}");
}

struct Db(&'static str);

#[job(queue = "mail")]
async fn supplied(
    cx: &JobContext,
    #[inject] lent: &Db,
    word: &str,
    #[inject] shared: Arc<Db>,
    wrapped: Inject<Db>,
    own: JobContext,
    token: CancellationToken,
    token_ref: &CancellationToken,
) -> Result<String, JobError> {
    token.check()?;
    token_ref.check()?;
    let same = cx.id() == own.id();
    Ok(format!("{word} {} {} {} {same} {}", lent.0, shared.0, wrapped.0.0, cx.queue()))
}

#[tokio::test]
async fn what_the_server_supplies_is_not_passed_by_the_caller() {
    let services = Services::new().with(Db("db"));
    assert_eq!(args(supplied("w")), r#"{"word":"w"}"#);
    let result = perform(supplied("w"), services).await.unwrap().unwrap();
    assert_eq!(result.as_str(), r#""w db db db true mail""#);
}

#[tokio::test]
async fn a_missing_service_is_known_before_and_named_in_the_attempt() {
    let needs = (descriptor("supplied").needs)();
    assert_eq!(needs.len(), 3);
    assert!(needs.iter().all(|need| need.name().ends_with("Db")));
    let error = perform(supplied("w"), Services::new()).await.unwrap_err();
    assert!(error.to_string().contains("Db"), "{error}");
}

#[job(
    name = "mail.campaign",
    aliases("campaign", "old::campaign"),
    queue = "mail",
    priority = -3,
    retry(
        max = 5,
        backoff = exp("10s", "1h"),
        jitter = 0.2,
        only("Timeout"),
        except("app::Bad", "Worse"),
        exceeded = delete
    ),
    timeout = "1h30m",
    retention(succeeded = "7d", failed = "forever", deleted = "90s")
)]
fn campaign() {}

#[test]
fn the_attribute_is_in_the_descriptor_and_in_the_call() {
    let job = descriptor("mail.campaign");
    assert_eq!(job.aliases, ["campaign", "old::campaign"]);
    assert_eq!((job.queue, job.version), ("mail", 1));
    assert!(job.location.contains("calls.rs:"), "{}", job.location);
    assert!(matches!(job.handler, portfire_server::Handler::Blocking(_)));

    let defaults = (job.defaults)();
    let retry = defaults.retry.unwrap();
    let (base, cap) = (Duration::from_secs(10), Duration::from_secs(3_600));
    assert_eq!(retry.backoff, Backoff::Exponential { base, cap });
    assert_eq!((retry.max, retry.jitter, retry.exceeded), (5, 0.2, Exceeded::Delete));
    assert_eq!(retry.only, ["Timeout"]);
    assert_eq!(retry.except, ["app::Bad", "Worse"]);
    assert_eq!(defaults.timeout, Some(Duration::from_secs(5_400)));
    let retention = campaign::retention().unwrap();
    let day = Duration::from_secs(86_400);
    assert_eq!(retention.succeeded, Some(7 * day));
    assert_eq!((retention.failed, retention.deleted), (None, Some(Duration::from_secs(90))));

    // It goes with every call: the storage that ends the job may know nothing of the function.
    assert_eq!(call_options::<never_again>(never_again()).retention, None);
    assert_eq!(call_options::<steady>(steady()).retention, Some(Retention::default()));

    assert_eq!(
        (campaign::KIND, campaign::QUEUE, campaign::PRIORITY),
        ("mail.campaign", "mail", -3)
    );
}

#[job(retry = none)]
fn never_again() {}

#[job(retry = 3)]
fn three_times() {}

#[job(retry(backoff = delays("1s", "5s")))]
fn by_list() {}

#[job(retry(backoff = fixed("2m"), exceeded = fail), retention(deleted = "1d"))]
fn steady() {}

#[job(retry(max = 1, backoff = hangfire))]
fn as_hangfire() {}

#[test]
fn every_form_of_retry_is_taken() {
    let retry = |kind| (descriptor(kind).defaults)().retry.unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(retry("never_again"), RetryPolicy::none());
    assert_eq!(retry("three_times"), RetryPolicy::times(3));
    assert_eq!(retry("by_list").backoff, Backoff::Delays(vec![seconds(1), seconds(5)]));
    assert_eq!(retry("steady").backoff, Backoff::Fixed(seconds(120)));
    assert_eq!(retry("as_hangfire"), RetryPolicy::times(1));
    assert_eq!((descriptor("send_welcome").defaults)(), Default::default());
    assert_eq!(steady::retention(), Some(Retention::default()));
}

#[test]
fn parameters_are_described_as_written() {
    let shapes = (descriptor("every_form").params)();
    let texts: Vec<_> = shapes.iter().map(|shape| (shape.name, shape.ty, shape.optional)).collect();
    assert_eq!(
        texts[3..8],
        [
            ("list", "&[u8]", false),
            ("path", "&Path", false),
            ("order", "&Order", false),
            ("some_text", "Option<&str>", true),
            ("no_order", "Option<&Order>", true),
        ]
    );
    assert_eq!(texts[9], ("type", "bool", false));
    let lenient = (descriptor("lenient").params)();
    assert_eq!(lenient[4].aliases, ["old_e", "older_e"]);
    assert!(lenient[2].optional && lenient[3].optional && !lenient[4].optional);
    assert!((descriptor("supplied").params)().iter().all(|shape| shape.name == "word"));
}

#[tokio::test]
async fn a_job_inside_a_function_is_a_job() {
    #[derive(Serialize, Deserialize)]
    struct Local(u8);

    #[job]
    async fn local(local: Local) -> anyhow::Result<Local> {
        Ok(Local(local.0 + 1))
    }

    let result = perform(local(Local(1)), Services::new()).await.unwrap().unwrap();
    assert_eq!(result.as_str(), "2");
    assert_eq!(local::descriptors()[0].kind, "local");
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

#[job]
async fn fails_typed() -> Result<(), Broken> {
    Err(Broken)
}

#[job]
async fn fails_permanently() -> anyhow::Result<u8> {
    Err(JobError::permanent("no way").into_error())?
}

#[job]
fn fails_with_text(text: String) -> Result<(), String> {
    Err(text)
}

#[tokio::test]
async fn every_kind_of_error_keeps_its_meaning() {
    let error = perform(fails_typed(), Services::new()).await.unwrap_err();
    assert!(error.record().class.ends_with("Broken"), "{}", error.record().class);
    let error = perform(fails_permanently(), Services::new()).await.unwrap_err();
    assert_eq!(*error.steer(), portfire_core::job_error::Steer::Permanent);
    let error = perform(fails_with_text("told".into()), Services::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "told");
}

#[tokio::test]
async fn unit_has_no_result_and_names_of_the_macro_do_not_clash() {
    #[job]
    async fn clashing(args: u8, fields: u8, context: u8, services: u8, run: u8, finish: u8) {
        assert_eq!([args, fields, context, services, run, finish], [1, 2, 3, 4, 5, 6]);
    }
    assert_eq!(perform(clashing(1, 2, 3, 4, 5, 6), Services::new()).await.unwrap(), None);
}

mod outside {
    use portfire as renamed;

    /// Kept on the function.
    #[renamed::job(crate = renamed)]
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) async fn elsewhere(n: u8) -> Result<u8, renamed::JobError> {
        Ok(n)
    }
}

use outside::elsewhere;

#[tokio::test]
async fn a_job_is_imported_by_one_name_and_the_facade_may_be_renamed() {
    assert_eq!(elsewhere(3).await.unwrap(), 3);
    let jobs = portfire::jobs![send_welcome, outside::elsewhere];
    let kinds: Vec<_> = jobs.iter().map(|job| job.kind).collect();
    assert_eq!(kinds, ["send_welcome", "elsewhere"]);
}

#[tokio::test]
async fn a_job_can_enqueue_itself() {
    #[job]
    async fn countdown(n: u8, cx: JobContext) -> Result<(), JobError> {
        if n > 0 {
            cx.client().enqueue(countdown(n - 1)).await?;
        }
        Ok(())
    }
    perform(countdown(1), Services::new()).await.unwrap();
}

#[test]
fn mistakes_of_a_call_are_reported_when_it_is_enqueued() {
    let client = Client::new(Arc::new(portfire::MemoryStorage::new()));
    let error = client.blocking().enqueue(send_welcome(1, "x").queue("No Queue")).unwrap_err();
    assert!(error.to_string().contains("`No Queue` is not a queue name"), "{error}");
}
