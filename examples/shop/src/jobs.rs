//! The shop's background jobs. Each may be started again at any point of its work, after a failure
//! or because its process was killed, so each says how it stays right when it is:
//!
//! | job | why running it again changes nothing |
//! |---|---|
//! | [`import_file`] | its batch and its rows have ids that follow from the file: what is enqueued already stays as it is |
//! | [`import_row`] | the shop's row and the jobs that follow from it are one transaction |
//! | [`write_invoice`] | the file has one name; the letter waits for the job's end, which comes once |
//! | [`Letters`] | the letter has a key; what is noted as sent is not sent again |
//! | [`tell_warehouse`] | the warehouse is told a digest, and knows what it was told before |
//! | [`remove_former_customers`], [`renew_subscriptions`] | they look for what is left to do |
//! | [`count_stock`] | it only reads |

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::ToSpan as _;
use jiff::civil::Date;
use portfire::prelude::*;
use portfire::{BatchId, BatchState, Call};
use serde::{Deserialize, Serialize};

use crate::db;
use crate::error::ShopError;
use crate::ids::{digest, job_id};
use crate::import::{self, Row};
use crate::letters;
use crate::mail::Letter;
use crate::model::{Customer, Entry, Order};
use crate::shop::Shop;

/// Where the path of a file stands in its job's metadata. Not among the arguments: the same file in
/// another folder is the same job.
const PATH: &str = "path";

/// The application that owns the shop's recurring jobs.
pub const APP: &str = "shop";

/// Where it is night when the nightly work is done.
const SHOP_ZONE: &str = "Europe/Amsterdam";

/// How long the data of a customer who left is kept.
const KEPT_DAYS: i32 = 30;

/// Most subscriptions renewed by one job; it then enqueues the next.
const RENEWALS_MAX: u32 = 500;

/// Where a row stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file's name.
    pub file: String,
    /// The row's first line, from 1.
    pub line: u64,
}

/// The call that imports a file; the same file gives the same job.
///
/// # Errors
/// When the file cannot be read.
pub fn import_call(path: &std::path::Path) -> Result<Call<import_file>, ShopError> {
    let content = std::fs::read(path).map_err(ShopError::file(path))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = digest(&content);
    let id = job_id(["import", &file, &digest]);
    let place = std::path::absolute(path).map_err(ShopError::file(path))?;
    Ok(import_file(&file, &digest).id(id).metadata(PATH, place.to_string_lossy()))
}

/// Makes a batch of a file: a job for every row, and the warehouse is told when all have ended. A file
/// that is not well-formed fails at once, with the place, and none of its rows is imported.
///
/// While this job is kept, importing the file again does nothing at all; later its rows are looked at
/// once more, and change nothing.
#[job(queue = "import", retention(succeeded = "30d"))]
pub fn import_file(file: &str, digest: &str, cx: &JobContext) -> Result<usize, JobError> {
    let path = cx.options().metadata.get(PATH).map(PathBuf::from).unwrap_or_default();
    let content = std::fs::read(&path).map_err(ShopError::file(&path))?;
    if crate::ids::digest(&content) != digest {
        let reason = format!("{file} has changed since it was submitted; submit it again");
        return Err(JobError::permanent(reason));
    }
    let records = import::read(&path, &content)
        .map_err(|error| JobError::permanent(format!("{file}:{error}")))?;
    let rows = records.iter().enumerate().map(|(index, record)| {
        let source = Source { file: file.to_owned(), line: record.line };
        // The place within the content is the row's key: two equal rows are two jobs, and the row of
        // a file that is imported again is the job that there is already.
        import_row(source, record.row.clone()).id(job_id(["row", file, digest, &index.to_string()]))
    });
    let client = cx.client().blocking();
    let batch = BatchId::new(job_id(["batch", file, digest]));
    // A batch is stored whole or, when it is larger than one call, open until its last row is there: an
    // attempt that finds it sealed has nothing left to do.
    let stored = client.batch_record(batch)?.is_some_and(|batch| batch.state != BatchState::Open);
    let count = records.len();
    if !stored {
        let told = tell_warehouse(file, digest, count as u64);
        let told = told.id(job_id(["warehouse", file, digest]));
        client.enqueue_batch(Batch::new(file).id(batch).add_all(rows).on_finish(told))?;
    }
    cx.log(format!("{count} rows"));
    Ok(count)
}

/// Imports one row: a customer or an order. One that makes no sense is failed at once, with file,
/// line and reason: trying again would not mend it.
#[job(queue = "import")]
pub fn import_row(
    source: Source,
    row: Row,
    #[inject] shop: &Shop,
    cx: &JobContext,
) -> Result<(), JobError> {
    let refuse = |reason: String| {
        JobError::permanent(format!("{}:{}: {reason}", source.file, source.line))
            .with_class("malformed_row")
    };
    match Entry::read(&row).map_err(refuse)? {
        Entry::Customer(customer) => {
            shop.sign_up(cx.client(), &customer)?;
        }
        Entry::Order(order) => match shop.place_order(cx.client(), &order) {
            Err(conflict @ ShopError::Conflict { .. }) => return Err(refuse(conflict.to_string())),
            placed => {
                placed?;
            }
        },
    }
    Ok(())
}

/// Writes the invoice of an order; its letter follows as a continuation.
#[job(queue = "invoices")]
pub fn write_invoice(order_id: &str, #[inject] shop: &Shop) -> Result<(), JobError> {
    let order = known_order(shop, order_id)?;
    Ok(shop.write_invoice(&order)?)
}

/// The shop's letters: a service whose methods are jobs.
#[derive(Debug, FromServices)]
pub struct Letters {
    shop: Arc<Shop>,
}

#[jobs]
impl Letters {
    /// Welcomes a customer.
    #[job(queue = "mail")]
    pub fn welcome(&self, customer_id: &str, cx: &JobContext) -> Result<(), JobError> {
        self.write_to(customer_id, |customer| letters::welcome(customer, date(cx)))
    }

    /// Sends a customer their coupon.
    #[job(queue = "mail")]
    pub fn coupon(&self, customer_id: &str, cx: &JobContext) -> Result<(), JobError> {
        self.write_to(customer_id, |customer| letters::coupon(customer, date(cx)))
    }

    /// Sends the invoice of an order.
    #[job(queue = "mail")]
    pub fn invoice(&self, order_id: &str, cx: &JobContext) -> Result<(), JobError> {
        let order = known_order(&self.shop, order_id)?;
        let letter = self.shop.invoice_letter(&order, date(cx))?;
        Ok(self.shop.deliver(&letter)?)
    }
}

impl Letters {
    /// Writes to a customer, unless they have left meanwhile.
    fn write_to(
        &self,
        customer_id: &str,
        letter: impl FnOnce(&Customer) -> Letter,
    ) -> Result<(), JobError> {
        let customer = self.shop.db.read(|db| db::customer_of(db, customer_id))?;
        match customer.filter(|customer| customer.deleted_on.is_none()) {
            Some(customer) => Ok(self.shop.deliver(&letter(&customer))?),
            None => Err(JobError::discard(format!("customer {customer_id} has left"))),
        }
    }
}

/// Tells the warehouse about an imported file. Its service is down, as services are, whenever it is
/// called for the first or second time; the third attempt reaches it.
#[job(queue = "default", retry(max = 5, backoff = fixed("300ms")))]
pub async fn tell_warehouse(
    file: &str,
    digest: &str,
    rows: u64,
    cx: &JobContext,
) -> Result<String, JobError> {
    if cx.failures() < 2 {
        return Err(JobError::new("the warehouse does not answer").with_class("warehouse_down"));
    }
    Ok(format!("the warehouse knows {file} ({rows} rows, {})", &digest[..8.min(digest.len())]))
}

/// Counts the stock, a shelf a second: a long job that can be watched and cancelled, and of which only
/// one runs at a time.
#[job(limit(concurrency = 1))]
pub async fn count_stock(
    shelves: u32,
    cx: &JobContext,
    cancel: CancellationToken,
) -> Result<u32, JobError> {
    let mut second = tokio::time::interval(std::time::Duration::from_secs(1));
    let bar = cx.progress_bar("shelves", u64::from(shelves));
    for shelf in 1..=shelves {
        // Deleting the job, or stopping the server, ends it here.
        cancel.check()?;
        second.tick().await;
        cx.log(format!("shelf {shelf} is counted"));
        bar.set(u64::from(shelf));
    }
    Ok(shelves)
}

/// Removes customers who left long ago: every night, as the attribute says.
#[job(queue = "nightly", cron = "0 3 * * *", tz = "Europe/Amsterdam", overlap = "skip")]
pub fn remove_former_customers(tick: Tick, #[inject] shop: &Shop) -> Result<usize, JobError> {
    let until = day_of(&tick).saturating_sub(KEPT_DAYS.days());
    Ok(shop.db.write(|transaction| db::purge(transaction, until))?)
}

/// Renews the subscriptions that are due. Its schedule is stored when the shop is opened, see
/// [`schedule_renewals`].
#[job(queue = "nightly")]
pub fn renew_subscriptions(
    tick: Tick,
    #[inject] shop: &Shop,
    cx: &JobContext,
    cancel: CancellationToken,
) -> Result<usize, JobError> {
    let day = day_of(&tick);
    let mut renewed = 0;
    loop {
        let due = shop.db.read(|db| db::due_renewals(db, day, RENEWALS_MAX))?;
        if due.is_empty() {
            break;
        }
        for customer in &due {
            cancel.check()?;
            shop.renew(cx.client(), customer)?;
            renewed += 1;
        }
    }
    Ok(renewed)
}

/// Stores the schedule of the renewals; it does not matter how many processes do so, or how often.
///
/// A night in which no server runs is made up for by one run, planned for the night that was missed.
///
/// # Errors
/// When it cannot be stored.
pub async fn schedule_renewals(client: &Client) -> Result<(), ShopError> {
    client
        .recurring("renewals", cron!("30 3 * * *"), renew_subscriptions())
        .tz(SHOP_ZONE)
        .misfire(Misfire::RunOnce)
        .overlap(Overlap::Skip)
        .app(APP)
        .upsert()
        .await?;
    Ok(())
}

/// The day that a nightly run is for, however late it runs.
fn day_of(tick: &Tick) -> Date {
    let zone = jiff::tz::TimeZone::get(SHOP_ZONE).unwrap_or(jiff::tz::TimeZone::UTC);
    let micros = tick.nominal.as_micros();
    let nominal = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    nominal.to_zoned(zone).date()
}

fn known_order(shop: &Shop, order_id: &str) -> Result<Order, JobError> {
    let order = shop.db.read(|db| db::order_of(db, order_id))?;
    order.ok_or_else(|| JobError::permanent(format!("there is no order {order_id}")))
}

/// The date that a job's letters bear.
fn date(cx: &JobContext) -> SystemTime {
    cx.created_at().into()
}
