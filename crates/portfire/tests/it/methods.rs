//! Jobs that are methods: `#[jobs]`, `#[derive(FromServices)]`, `client.on::<Service>()`.

use std::sync::Arc;

use portfire::prelude::*;
use portfire::{JobFn, MemoryStorage};
use portfire_core::{JobFilter, Monitor};

use crate::stage::{descriptor, perform};

struct Smtp {
    host: &'static str,
}

#[derive(Clone)]
struct Db(u8);

#[derive(FromServices)]
struct EmailService {
    smtp: Arc<Smtp>,
    db: Db,
    also: Inject<Smtp>,
}

const SEPARATOR: &str = "/";

#[jobs]
impl EmailService {
    /// Untouched.
    const GREETING: &'static str = "hi";

    /// Sends an e-mail.
    #[job(queue = "mail", retry = 2)]
    pub(crate) async fn send(&self, to: &str, cx: &JobContext) -> Result<String, JobError> {
        let parts = [Self::GREETING, to, self.smtp.host, self.also.host, cx.kind().as_str()];
        Ok(format!("{} {}", parts.join(SEPARATOR), self.db.0))
    }

    #[job]
    fn count(&mut self, #[arg(default)] by: u8, #[inject] db: &Db) -> Result<u8, std::io::Error> {
        self.db.0 += by + db.0;
        Ok(self.db.0)
    }

    #[job(name = "mail.consume")]
    async fn consume(self) {
        drop(self.smtp);
    }

    #[job]
    async fn stateless(n: u8) -> Result<u8, JobError> {
        Self::helper(n)
    }

    fn helper(n: u8) -> Result<u8, JobError> {
        Ok(n + 1)
    }
}

/// More private than the method that returns it, as in many programs.
#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

struct Outbox;

#[jobs]
impl Outbox {
    #[job]
    pub(crate) async fn hand_over(to: &str) -> Result<usize, Refused> {
        if to.is_empty() { Err(Refused) } else { Ok(to.len()) }
    }
}

#[tokio::test]
async fn the_error_may_be_more_private_than_the_method() {
    assert_eq!(Outbox::job().hand_over("a@b.c").await.unwrap(), 5);
    assert!(Outbox::job().hand_over("").await.is_err());
}

fn services() -> Services {
    Services::new().with(Smtp { host: "localhost" }).with(Db(4))
}

#[tokio::test]
async fn a_method_runs_on_an_instance_made_from_services() {
    let sent = perform(EmailService::job().send("a@b.c"), services()).await.unwrap().unwrap();
    assert_eq!(sent.as_str(), r#""hi/a@b.c/localhost/localhost/EmailService.send 4""#);
    let counted = perform(EmailService::job().count(1), services()).await.unwrap().unwrap();
    assert_eq!(counted.as_str(), "9");
    assert_eq!(perform(EmailService::job().consume(), services()).await.unwrap(), None);
}

#[tokio::test]
async fn a_method_without_self_needs_no_instance() {
    assert_eq!(EmailService::job().stateless(1).await.unwrap(), 2);
    assert!((descriptor("EmailService.stateless").needs)().is_empty());
}

#[tokio::test]
async fn the_real_methods_are_still_there() {
    let mut service = EmailService {
        smtp: Arc::new(Smtp { host: "h" }),
        db: Db(1),
        also: Inject(Arc::new(Smtp { host: "i" })),
    };
    assert_eq!(service.count(2, &Db(3)).unwrap(), 6);
    assert_eq!(EmailService::stateless(4).await.unwrap(), 5);
}

#[tokio::test]
async fn a_client_enqueues_on_a_service() {
    let storage = Arc::new(MemoryStorage::new());
    let client = Client::new(storage.clone());
    let id = client.on::<EmailService>().enqueue(|x| x.send("a@b.c")).await.unwrap();
    let job = client.job(id).await.unwrap().unwrap();
    assert_eq!((job.kind.as_str(), job.queue.as_str()), ("EmailService.send", "mail"));
    assert_eq!(job.args.as_str(), r#"{"to":"a@b.c"}"#);
    let later = std::time::Duration::from_secs(60);
    client.on::<EmailService>().schedule(|x| x.count(1), later).await.unwrap();
    let scheduled = JobFilter::state(portfire::StateName::Scheduled);
    assert_eq!(storage.jobs(scheduled).await.unwrap().jobs.len(), 1);
}

#[test]
fn the_jobs_of_a_service_are_registered_together() {
    let kinds: Vec<_> = portfire::jobs![EmailService].iter().map(|job| job.kind).collect();
    assert_eq!(
        kinds,
        ["EmailService.send", "EmailService.count", "mail.consume", "EmailService.stateless"]
    );
    assert_eq!(EmailService_send::KIND, "EmailService.send");
}

#[test]
fn a_service_needs_what_its_fields_and_parameters_need() {
    let names = |kind: &str| -> Vec<&str> {
        let needs = (descriptor(kind).needs)();
        needs.iter().map(|need| need.name().rsplit("::").next().unwrap()).collect()
    };
    assert_eq!(names("EmailService.send"), ["Smtp", "Db", "Smtp"]);
    assert_eq!(names("EmailService.count"), ["Smtp", "Db", "Smtp", "Db"]);
}

#[derive(FromServices)]
struct Pair(Arc<Smtp>, Db);

#[derive(FromServices)]
struct Nothing;

#[test]
fn tuples_and_units_are_made_from_services_too() {
    use portfire::FromServices as _;
    let scope = services().scope();
    let pair = Pair::resolve(&scope).unwrap();
    assert_eq!((pair.0.host, pair.1.0), ("localhost", 4));
    assert!(Nothing::resolve(&scope).is_ok() && Nothing::needs().is_empty());
    let missing = Pair::resolve(&Services::new().scope()).err().unwrap();
    assert!(missing.to_string().contains("Smtp"), "{missing}");
}

struct Repo<D>(std::marker::PhantomData<D>);

impl portfire::FromServices for Repo<Db> {
    fn resolve(_: &portfire::Scope) -> Result<Self, portfire::ServiceError> {
        Ok(Repo(std::marker::PhantomData))
    }

    fn needs() -> Vec<portfire::Need> {
        Vec::new()
    }
}

#[portfire::job]
impl Repo<Db> {
    #[job]
    fn vacuum(&self) -> Result<(), JobError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_concrete_instance_of_a_generic_service_has_jobs() {
    perform(Repo::<Db>::job().vacuum(), Services::new()).await.unwrap();
}
