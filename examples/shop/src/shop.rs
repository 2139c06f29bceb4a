//! What the shop does, for jobs and web page alike: each operation changes the shop's tables and
//! enqueues what follows from it in **one transaction**.
//!
//! So no customer is ever without their welcome, and no welcome without a customer, whenever the
//! process is killed. All of it blocks and belongs on threads that may block.

use std::time::{Duration, SystemTime};

use jiff::ToSpan as _;
use jiff::civil::Date;
use portfire::prelude::*;
use portfire::{Chain, Limit};

use crate::db::{self, Db, enqueue_in};
use crate::error::ShopError;
use crate::files::Files;
use crate::ids::job_id;
use crate::invoice;
use crate::jobs::{Letters, Letters_invoice, write_invoice};
use crate::letters;
use crate::mail::{Letter, Post};
use crate::model::{Customer, Item, Money, Order};

/// What a year of the subscription costs.
const SUBSCRIPTION: Money = Money(12_000);

/// Letters on their way to one mail domain at a time: providers turn away who sends more.
const LETTERS_PER_DOMAIN: u32 = 4;

/// How long nobody is welcomed twice, whatever the rows of files and forms say.
const WELCOMED_ONCE_IN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The shop: its tables, its files, its post. The service that the jobs ask for.
#[derive(Debug)]
pub struct Shop {
    /// Its tables.
    pub db: Db,
    /// Its results.
    pub files: Files,
    /// Its way out for e-mail.
    pub post: Post,
    /// How long after the sign-up a customer gets a coupon.
    pub coupon_after: Duration,
}

impl Shop {
    /// Takes a customer in, or changes what is known of them; tells whether they are new.
    ///
    /// A new one gets a welcome at once and a coupon later. Those who have left get neither.
    ///
    /// # Errors
    /// When the write fails: nothing has happened then.
    pub fn sign_up(&self, client: &Client, customer: &Customer) -> Result<bool, ShopError> {
        let new = self.db.write(|transaction| {
            let new = db::put_customer(transaction, customer)?;
            if new && customer.deleted_on.is_none() {
                let id = &*customer.customer_id;
                // The key is made of kind and customer: a second welcome is answered with the first.
                let once = Unique::by_args().within(WELCOMED_ONCE_IN);
                let welcome = Letters::job().welcome(id).unique(once);
                enqueue_in(transaction, client, welcome.limit(per_domain(&customer.email)))?;
                let coupon = Letters::job().coupon(id).id(coupon_job(id)).delay(self.coupon_after);
                enqueue_in(transaction, client, coupon.limit(per_domain(&customer.email)))?;
            }
            Ok(new)
        })?;
        if customer.deleted_on.is_some() {
            self.cancel_coupon(client, &customer.customer_id)?;
        }
        Ok(new)
    }

    /// Lets a customer go: no coupon any more. Tells whether there was one to let go.
    ///
    /// # Errors
    /// When a write fails; repeating it is harmless.
    pub fn leave(
        &self,
        client: &Client,
        customer_id: &str,
        today: Date,
    ) -> Result<bool, ShopError> {
        let left = self.db.write(|transaction| db::leave(transaction, customer_id, today))?;
        self.cancel_coupon(client, customer_id)?;
        Ok(left)
    }

    /// The id of the coupon's job follows from the customer, so nobody had to remember it.
    fn cancel_coupon(&self, client: &Client, customer_id: &str) -> Result<(), ShopError> {
        // Who leaves late has had the coupon: its job is gone then, and that is as good.
        let _deleted_or_gone = client.blocking().delete(coupon_job(customer_id))?;
        Ok(())
    }

    /// Takes an order; tells whether it is new. A new one gets an invoice.
    ///
    /// # Errors
    /// [`ShopError::Conflict`] when the number stands for another order; otherwise when the write
    /// fails. Nothing has happened then.
    pub fn place_order(&self, client: &Client, order: &Order) -> Result<bool, ShopError> {
        self.db.write(|transaction| {
            let new = db::put_order(transaction, order)?;
            if new {
                enqueue_in(transaction, client, invoice_and_letter(order))?;
            }
            Ok(new)
        })
    }

    /// Writes the invoice of an order.
    ///
    /// The file first: its name follows from the order, so a second attempt puts the same file in
    /// the same place. Then the note that it is there. Its letter waits for the end of this job.
    ///
    /// # Errors
    /// When a write fails; repeating it is harmless.
    pub fn write_invoice(&self, order: &Order) -> Result<(), ShopError> {
        let to = self.files.invoice_file(&order.order_id);
        self.files.write(&to, &invoice::render(order)).map_err(ShopError::file(&to))?;
        self.db.write(|transaction| db::put_invoice(transaction, &order.order_id))?;
        Ok(())
    }

    /// Sends a letter unless it is sent already.
    ///
    /// # Errors
    /// When the letter is not taken, or the note of it fails; repeating it is harmless.
    pub fn deliver(&self, letter: &Letter) -> Result<(), ShopError> {
        if self.db.read(|db| db::is_sent(db, &letter.key))? {
            return Ok(());
        }
        self.post.send(letter, &self.files)?;
        // Only now: a crash before this line sends the letter again, under the same name; the other
        // order could lose it.
        self.db.write(|transaction| db::put_mail(transaction, &letter.key))?;
        Ok(())
    }

    /// Orders another year for one subscriber, and moves their renewal by as much.
    ///
    /// # Errors
    /// When the write fails: nothing has happened then.
    pub fn renew(&self, client: &Client, customer: &Customer) -> Result<(), ShopError> {
        let Some(due) = customer.renews_on else { return Ok(()) };
        let next = due.checked_add(1.year()).unwrap_or(Date::MAX);
        let order = renewal(customer, due);
        self.db.write(|transaction| {
            // Another attempt may have been here; then the day has moved and there is no order to place.
            if db::move_renewal(transaction, &customer.customer_id, due, next)?
                && db::put_order(transaction, &order)?
            {
                enqueue_in(transaction, client, invoice_and_letter(&order))?;
            }
            Ok(())
        })
    }

    /// The letter with an order's invoice.
    ///
    /// # Errors
    /// When the invoice cannot be read.
    pub fn invoice_letter(&self, order: &Order, date: SystemTime) -> Result<Letter, ShopError> {
        let file = self.files.invoice_file(&order.order_id);
        let html = std::fs::read_to_string(&file).map_err(ShopError::file(&file))?;
        Ok(letters::invoice(order, html, date))
    }
}

/// The invoice of an order, and after it the letter that carries it: two jobs in one commit. When the
/// invoice is given up, the letter is deleted.
fn invoice_and_letter(order: &Order) -> Chain<Letters_invoice> {
    let id = &*order.order_id;
    let letter = Letters::job().invoice(id).id(job_id(["invoice letter", id]));
    let letter = letter.limit(per_domain(&order.email));
    write_invoice(id).id(job_id(["invoice", id])).then(letter)
}

/// What a letter is limited by: its recipient's mail domain.
fn per_domain(email: &lettre::Address) -> Limit {
    Limit::named("mail-domain")
        .partition(email.domain().to_lowercase())
        .concurrency(LETTERS_PER_DOMAIN)
}

/// The job of a customer's coupon.
pub fn coupon_job(customer_id: &str) -> JobId {
    job_id(["coupon", customer_id])
}

fn renewal(customer: &Customer, due: Date) -> Order {
    Order {
        order_id: format!("R-{}-{due}", customer.customer_id),
        ordered_on: due,
        customer_id: Some(customer.customer_id.clone()),
        name: customer.name.clone(),
        email: customer.email.clone(),
        address: customer.address.clone(),
        currency: "EUR".to_owned(),
        items: vec![Item {
            sku: "SUB-YEAR".to_owned(),
            title: "Tea of the month, one year".to_owned(),
            quantity: 1,
            unit_price: SUBSCRIPTION,
        }],
    }
}
