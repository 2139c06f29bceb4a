//! The web page: forms that enqueue jobs, and what became of them. For this machine only.
//!
//! The handlers here decide what a request means; `pages.rs` makes HTML of the answers. Whatever
//! touches the disk runs on a thread that may block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Form, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Zoned;
use jiff::civil::Date;
use portfire::{BatchFilter, ClientError, Counts, JobFilter, JobId, RecurringFilter};
use serde::Deserialize;

use crate::app::App;
use crate::db;
use crate::error::ShopError;
use crate::ids::digest;
use crate::import::Fields;
use crate::jobs::count_stock;
use crate::model::{Customer, Order};
use crate::pages::{self, Front};
use crate::shop::coupon_job;

/// Orders on the front page.
const LATEST: u32 = 10;

/// Lines of a job's log on its page.
const LINES: u32 = 200;

/// Shelves that a count of the stock visits, one a second.
const SHELVES: u32 = 60;

/// The shop's pages.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/customers", post(sign_up))
        .route("/customers/{id}", get(customer))
        .route("/customers/{id}/leave", post(leave))
        .route("/orders", post(place_order))
        .route("/invoices/{id}", get(invoice))
        .route("/stock-counts", post(start_count))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/recurring/{id}/trigger", post(trigger))
        .route("/counts.json", get(counts))
        .fallback(async || Refusal::not_found("page"))
        .layer(middleware::from_fn(guard))
        .with_state(app)
}

async fn front(State(app): State<Arc<App>>) -> Answer {
    let jobs = job_counts(&app).await?;
    let batches = BatchFilter { max: LATEST, ..BatchFilter::default() };
    let batches = app.storage.batches(batches).await.map_err(Refusal::storage)?.batches;
    let recurring = app.storage.recurring_jobs(RecurringFilter::default()).await;
    let recurring = recurring.map_err(Refusal::storage)?.recurring;
    let (shop, orders) = app
        .blocking(|app| {
            app.shop.db.read(|db| Ok((db::counts(db)?, db::latest_orders(db, LATEST)?)))
        })
        .await?;
    let order_id = fresh_order_id();
    html(pages::front(&Front { jobs, shop, orders, order_id, batches, recurring }))
}

async fn sign_up(State(app): State<Arc<App>>, Form(form): Form<Fields>) -> Answer {
    let mut fields = form;
    let email = fields.get("email").and_then(|email| email.as_str()).unwrap_or_default();
    // The id follows from the address, so that a form sent twice signs up once.
    let id = format!("W-{}", &digest(email.trim().to_lowercase().as_bytes())[..10]);
    fields.insert("customer_id".to_owned(), id.clone().into());
    fields.insert("signed_up_on".to_owned(), today().to_string().into());
    let customer = Customer::read(&fields).map_err(Refusal::form)?;
    app.blocking(move |app| app.shop.sign_up(&app.client, &customer)).await?;
    Ok(Redirect::to(&format!("/customers/{id}")).into_response())
}

async fn customer(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let key = id.clone();
    let found = app.blocking(move |app| app.shop.db.read(|db| db::customer_of(db, &key))).await?;
    let customer = found.ok_or(Refusal::not_found("customer"))?;
    let coupon = app.client.job(coupon_job(&id)).await.map_err(ShopError::from)?;
    html(pages::customer(&customer, coupon.as_ref()))
}

async fn leave(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let to = format!("/customers/{}", pages::path_segment(&id));
    app.blocking(move |app| app.shop.leave(&app.client, &id, today())).await?;
    Ok(Redirect::to(&to).into_response())
}

async fn place_order(State(app): State<Arc<App>>, Form(form): Form<Fields>) -> Answer {
    let mut fields = form;
    fields.insert("ordered_on".to_owned(), today().to_string().into());
    pages::fill_in_article(&mut fields).map_err(Refusal::form)?;
    let order = Order::read(&fields).map_err(Refusal::form)?;
    app.blocking(move |app| app.shop.place_order(&app.client, &order)).await?;
    Ok(Redirect::to("/").into_response())
}

async fn invoice(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let file = app.shop.files.invoice_file(&id);
    let read = app.blocking(move |_| match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ShopError::file(&file)(error)),
    });
    html(read.await?.ok_or(Refusal::not_found("invoice (yet)"))?)
}

async fn start_count(State(app): State<Arc<App>>) -> Answer {
    let id = app.client.enqueue(count_stock(SHELVES)).await.map_err(ShopError::from)?;
    Ok(Redirect::to(&format!("/jobs/{id}")).into_response())
}

/// Which jobs to list.
#[derive(Debug, Deserialize)]
struct Which {
    /// All of them when it is missing.
    state: Option<String>,
}

async fn jobs(State(app): State<Arc<App>>, Query(which): Query<Which>) -> Answer {
    let state = which.state.as_deref().map(str::parse).transpose().map_err(Refusal::form)?;
    let filter = JobFilter { state, ..JobFilter::default() };
    let page = app.storage.jobs(filter).await.map_err(Refusal::storage)?;
    html(pages::jobs(state, &page.jobs))
}

async fn job(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let id: JobId = id.parse().map_err(Refusal::form)?;
    let job = app.client.job(id).await.map_err(ShopError::from)?;
    let job = job.ok_or(Refusal::not_found("job"))?;
    let history = app.storage.history(id).await.map_err(Refusal::storage)?;
    let notes = app.storage.notes(id).await.map_err(Refusal::storage)?;
    let log = app.storage.log(id, None, LINES).await.map_err(Refusal::storage)?;
    html(pages::job(&job, &history, &notes, &log.lines))
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let id: JobId = id.parse().map_err(Refusal::form)?;
    let changed = app.client.delete(id).await.map_err(ShopError::from)?;
    if !changed.is_done() {
        return Err(Refusal::not_found("job"));
    }
    Ok(Redirect::to(&format!("/jobs/{id}")).into_response())
}

async fn trigger(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let job = match app.client.recurring_job(&id).trigger().await {
        Ok(job) => job,
        Err(ClientError::NoRecurring { .. } | ClientError::Invalid(_)) => {
            return Err(Refusal::not_found("nightly work"));
        }
        Err(error) => return Err(ShopError::from(error).into()),
    };
    Ok(Redirect::to(&format!("/jobs/{job}")).into_response())
}

async fn counts(State(app): State<Arc<App>>) -> Answer {
    Ok(Json(job_counts(&app).await?).into_response())
}

async fn job_counts(app: &App) -> Result<Counts, Refusal> {
    app.storage.counts().await.map_err(Refusal::storage)
}

/// An answer, or why there is none.
type Answer = Result<Response, Refusal>;

fn html(page: String) -> Answer {
    Ok(Html(page).into_response())
}

/// A request that is not answered as it wished.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    fn form(reason: impl std::fmt::Display) -> Refusal {
        Refusal { status: StatusCode::UNPROCESSABLE_ENTITY, reason: reason.to_string() }
    }

    fn not_found(what: &str) -> Refusal {
        Refusal { status: StatusCode::NOT_FOUND, reason: format!("There is no such {what}.") }
    }

    fn storage(error: impl std::fmt::Display) -> Refusal {
        Refusal { status: StatusCode::SERVICE_UNAVAILABLE, reason: error.to_string() }
    }
}

impl From<ShopError> for Refusal {
    fn from(error: ShopError) -> Refusal {
        tracing::error!(%error, "a request failed");
        Refusal::storage(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Html(pages::refusal(&self.reason))).into_response()
    }
}

/// Keeps other sites out: their pages can make a browser send requests to this machine. Requests must
/// name this machine as their host, and whatever changes something must come from a page of ours.
async fn guard(request: Request, next: Next) -> Response {
    if let Err(reason) = check(request.method(), request.headers()) {
        let refusal = Refusal { status: StatusCode::FORBIDDEN, reason: reason.to_owned() };
        return refusal.into_response();
    }
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let rules: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in rules {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn check(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    if !["127.0.0.1", "localhost", "[::1]"].contains(&name) {
        return Err("This page is for this machine only.");
    }
    if method.is_safe() {
        return Ok(());
    }
    let same_site =
        text("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let same_origin = text("origin").is_none_or(|origin| origin == format!("http://{host}"));
    if same_site && same_origin { Ok(()) } else { Err("The request came from another site.") }
}

fn today() -> Date {
    Zoned::now().date()
}

/// A number for the order that a form will place. It is made with the form, not with the request, so
/// that a form sent twice orders once.
fn fresh_order_id() -> String {
    static FORMS: AtomicU64 = AtomicU64::new(0);
    let now = jiff::Timestamp::now();
    let form = FORMS.fetch_add(1, Ordering::Relaxed);
    let unique = digest(format!("{now} {form} {}", std::process::id()).as_bytes());
    format!("W-{}", unique[..10].to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_this_machine_and_its_own_pages_are_let_in() {
        let allowed = |method: Method, pairs: &[_]| check(&method, &headers(pairs)).is_ok();
        let host = ("host", "127.0.0.1:8080");
        assert!(allowed(Method::GET, &[host]));
        assert!(allowed(Method::GET, &[("host", "[::1]:8080")]));
        assert!(!allowed(Method::GET, &[("host", "evil.example:8080")]));
        assert!(!allowed(Method::GET, &[]));
        assert!(allowed(Method::POST, &[host]));
        assert!(allowed(Method::POST, &[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(!allowed(Method::POST, &[host, ("origin", "http://evil.example")]));
        assert!(!allowed(Method::POST, &[host, ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn no_two_forms_place_the_same_order() {
        assert_ne!(fresh_order_id(), fresh_order_id());
    }
}
