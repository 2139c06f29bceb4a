//! The macros of Portfire: `#[job]`, `#[jobs]`, `cron!`, `#[derive(FromServices)]` and `#[portfire::test]`.
//!
//! Use them through `portfire`, which re-exports them: what they write stands on `portfire::__private`.
//! Only signatures are read; bodies go through as they are.

mod attribute;
mod cron;
mod duration;
mod form;
mod from_services;
mod handler;
mod job;
mod jobs;
mod mistakes;
mod parameter;
mod parent;
mod root;
mod signature;
mod template;
mod test;

use proc_macro::TokenStream;

/// Makes a function a background job.
///
/// The function then makes its own call: `send_welcome(42, "en")` runs nothing, but returns a
/// `Call<send_welcome>` with checked and serialised arguments, for `client.enqueue(..)`. The body is
/// `send_welcome::run(..)`, with all of its parameters.
///
/// ```text
/// #[job(queue = "mail", timeout = "10m", retry(max = 5, backoff = exp("10s", "1h"), jitter = 0.2))]
/// async fn send_welcome(user_id: u64, lang: &str, #[inject] smtp: &Smtp) -> anyhow::Result<()> { .. }
/// ```
///
/// # Parameters
/// Any type that serde writes and reads; `&T` and `Option<&T>` are written from the reference and lent
/// to the body. The server supplies, and callers do not pass: `#[inject]` services as `&T`, `Arc<T>` or
/// `Inject<T>`; `JobContext`, `CancellationToken` and `Tick`, by value or reference; `#[parent]` what the
/// job returned after which this one runs, as its own type, as `ParentResult<T>` (also when it did not
/// succeed) or as `ParentError`; several `#[parent]` are several parents in the order in which the call
/// names them, and `#[parents]` is a `Vec` or slice of all. A stored job may lack a
/// parameter of type `Option<T>`, or one with `#[arg(default)]` or `#[arg(default = path)]`;
/// `#[arg(alias = "old")]` keeps a renamed one readable.
///
/// # Result
/// `()` or `Result<T, E>`, where `T` is stored and `E` is an error type, `anyhow::Error`, a text or
/// `JobError`. An `async fn` runs as a task, an `fn` on a thread that may block.
///
/// # Keys
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the kind under which jobs are stored; default: the function's name |
/// | `aliases("…", …)` | kinds under which they were stored before |
/// | `queue = "…"` | the queue of calls that name none; default: `default` |
/// | `priority = 5` | their rank; default: 0 |
/// | `retry = 5`, `retry = none` | so many retries with Hangfire's waits |
/// | `retry(max = 5, backoff = …, jitter = 0.2, only("…"), except("…"), exceeded = delete)` | a policy; `backoff` is `hangfire`, `fixed("10s")`, `exp("10s", "1h")` or `delays("1s", "5s")` |
/// | `timeout = "10m"` | longest run of one attempt |
/// | `start_within = "10m"` | longest wait in the queue; a job that is claimed later is deleted |
/// | `retention(succeeded = "7d", failed = "forever", deleted = "1h")` | how long jobs are kept after their end |
/// | `unique`, `unique(by = "args", until = started, on_conflict = replace)` | one call at a time holds a key: `by = "args"` (the default), `by("user_id", "lang")` or `key = "invoice:{order_id}"`; `until = finished` (the default), `until = started` or `within = "10m"`; `on_conflict` is `reject` (the default), `replace` or `debounce`; `debounce = "30s", at_most = "5m"` runs it half a minute after the last call, five minutes after the first at the latest |
/// | `limit(concurrency = 1)`, `limit("tenant:{tenant_id}", concurrency = 2, rate = "10/s")` | how many run at a time and start in a time: of the kind, or of all that name the same limit and partition; `window = fixed` counts a rate in windows one after another; up to four |
/// | `filter = Timed::new()`, `elect = GiveUpAtNight`, `applied = Alerts` | filters of these jobs alone, inside of the server's: expressions, made once for each server; several of each |
/// | `cron = "0 3 * * *", tz = "Europe/Amsterdam"`, `every = "90s"` | a recurring job of the same name, stored when a server starts; for jobs without arguments |
/// | `misfire = skip`, `overlap = skip`, `jitter = "5m"` | its rules: `run_once` (the default), `all`, `skip`; `allow` (the default), `skip`, `queue_one`, `cancel_previous` |
/// | `version = 2, migrate = f` | arguments of older versions go through `f(from, value)` first |
/// | `crate = path` | where `portfire` is, when it is renamed |
///
/// On an impl block `#[job]` means [`macro@jobs`].
#[proc_macro_attribute]
pub fn job(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let (attribute, item) = (attribute.into(), item.into());
    if jobs::is_block(&item) {
        return jobs::expand(attribute, item).into();
    }
    job::expand(attribute, item).into()
}

/// Makes methods of a service background jobs.
///
/// The block stays as it is. Each method with `#[job(..)]` becomes a job of kind `Service.method`,
/// `Service::job().method(..)` makes its call, and `Service_method` is its type. For each run the
/// server makes an instance of the service by `FromServices`; methods without `self` need none.
///
/// ```text
/// #[derive(FromServices)]
/// struct EmailService { smtp: Arc<Smtp>, db: Db }
///
/// #[jobs]
/// impl EmailService {
///     #[job(queue = "mail")]
///     pub async fn send(&self, to: &str, cx: &JobContext) -> Result<(), SmtpError> { .. }
/// }
///
/// client.enqueue(EmailService::job().send("a@b.c")).await?;
/// client.on::<EmailService>().enqueue(|x| x.send("a@b.c")).await?;
/// ```
///
/// A type can have one such block. Keys and parameters are those of [`macro@job`]; `#[jobs(crate = path)]`
/// says where a renamed `portfire` is.
#[proc_macro_attribute]
pub fn jobs(attribute: TokenStream, item: TokenStream) -> TokenStream {
    jobs::expand(attribute.into(), item.into()).into()
}

/// A cron text that is checked while the program is compiled: a constant of type `CronExpression`.
///
/// ```text
/// const NIGHTLY: CronExpression = cron!("0 3 * * *");
/// client.recurring("report", cron!("0 8 * * MON-FRI"), send_report()).upsert().await?;
/// client.recurring("clean", cron!("H H * * *", seed = "clean"), clean()).upsert().await?;
/// ```
///
/// The rules are those of `portfire::cron`. `seed` chooses the values that `H` stands for;
/// `crate = path` says where a renamed `portfire` is. A text that is known only at run time is read by
/// `CronExpression::parse`.
#[proc_macro]
pub fn cron(input: TokenStream) -> TokenStream {
    cron::expand(input.into()).into()
}

/// Makes a struct from services: each field is one. `Arc<T>` and `Inject<T>` take the service `T`
/// itself, every other type a clone of the service of that type.
///
/// A server checks before it starts that every service its jobs need is there.
/// `#[portfire(crate = path)]` says where a renamed `portfire` is.
#[proc_macro_derive(FromServices, attributes(portfire))]
pub fn from_services(item: TokenStream) -> TokenStream {
    from_services::expand(item.into()).into()
}

/// Makes an async function a test with a fresh `TestPortfire`: jobs in memory, on a clock that the
/// test moves.
///
/// ```text
/// #[portfire::test]
/// async fn signup_sends_mail(pf: TestPortfire) -> portfire::Result<()> {
///     signup(&pf.client(), "a@b.c").await?;
///     pf.assert_enqueued::<send_welcome>().in_queue("mail").once();
///     pf.drain().await.assert_all_succeeded();
///     Ok(())
/// }
/// ```
///
/// The test runs on a tokio runtime of one thread. `#[portfire::test(crate = path)]` says where a
/// renamed `portfire` is.
#[proc_macro_attribute]
pub fn test(attribute: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(attribute.into(), item.into()).into()
}
