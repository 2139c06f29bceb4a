//! The shop's own tables. They live in the same SQLite file as the jobs, so that a change of the
//! shop and the jobs it leads to are **one transaction**: [`Db::write`] with `client.enqueue_in`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use portfire::{Client, Enqueue, JobId};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use crate::error::ShopError;
use crate::model::{Customer, Order};

/// How long a statement waits for other writers of the file. Commits take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most idle connections that are kept.
const IDLE_MAX: usize = 8;

const SCHEMA: &str = "
    create table if not exists shop_customers (
        customer_id text primary key, name text not null, email text not null, language text not null,
        address text not null, country text not null, signed_up_on text not null,
        renews_on text, deleted_on text
    ) strict;
    create index if not exists shop_customers_renews on shop_customers (renews_on) where renews_on is not null;
    create index if not exists shop_customers_deleted on shop_customers (deleted_on) where deleted_on is not null;
    create table if not exists shop_orders (
        order_id text primary key, ordered_on text not null, customer_id text, name text not null,
        email text not null, address text not null, currency text not null, items text not null
    ) strict;
    create table if not exists shop_invoices (order_id text primary key) strict;
    create table if not exists shop_mails (mail_key text primary key) strict;
    create table if not exists shop_runs (
        run_id integer primary key, started_at text not null, baseline text not null, finished integer not null
    ) strict;";

/// The shop's side of the database file.
#[derive(Debug)]
pub struct Db {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// SQLite has one writer. Threads of this process line up here, where waiting is cheap and fair,
    /// and only the winner competes with other processes.
    writing: Mutex<()>,
}

/// How many things the shop has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopCounts {
    /// Customers who have not left.
    pub customers: u64,
    /// Orders.
    pub orders: u64,
    /// Invoices written.
    pub invoices: u64,
    /// E-mails sent.
    pub mails: u64,
}

impl Db {
    /// Opens the file and makes the shop's tables where they are missing. The storage of the jobs
    /// has to be open already: it is what puts the file into WAL mode.
    ///
    /// # Errors
    /// When the file cannot be opened or written.
    pub fn open(path: &Path) -> Result<Db, ShopError> {
        let db = Db { path: path.to_owned(), idle: Mutex::default(), writing: Mutex::default() };
        db.write(|transaction| Ok(transaction.execute_batch(SCHEMA)?))?;
        Ok(db)
    }

    /// Reads, without waiting for writers.
    ///
    /// # Errors
    /// What `work` says.
    pub fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ShopError>,
    ) -> Result<T, ShopError> {
        let connection = self.connection()?;
        let result = work(&connection);
        self.give_back(connection);
        result
    }

    /// Changes things, all of it or nothing. Blocks until the change is on disk.
    ///
    /// # Errors
    /// What `work` says: nothing was changed then.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, ShopError>,
    ) -> Result<T, ShopError> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = self.connection()?;
        let mut transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&mut transaction)?;
        transaction.commit()?;
        self.give_back(connection);
        Ok(result)
    }

    fn connection(&self) -> Result<Connection, ShopError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // As durable as the jobs themselves.
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

/// Stores a call or a chain of calls within a transaction of the shop's: the jobs exist when that
/// commits, and never when it does not.
///
/// # Errors
/// When the call or the write is at fault; roll the transaction back then.
pub fn enqueue_in(
    transaction: &mut Transaction<'_>,
    client: &Client,
    call: impl Enqueue,
) -> Result<JobId, ShopError> {
    // The embedded storage never waits for anything but this thread's own statements.
    Ok(client.blocking().enqueue_in(transaction, call)?)
}

/// Writes a customer, new or changed; tells whether it is new.
///
/// # Errors
/// When the statement fails.
pub fn put_customer(db: &Connection, customer: &Customer) -> Result<bool, ShopError> {
    let known = customer_of(db, &customer.customer_id)?.is_some();
    db.prepare_cached(
        "insert into shop_customers values (?, ?, ?, ?, ?, ?, ?, ?, ?)
         on conflict (customer_id) do update set
            name = excluded.name, email = excluded.email, language = excluded.language,
            address = excluded.address, country = excluded.country,
            signed_up_on = excluded.signed_up_on, renews_on = excluded.renews_on,
            deleted_on = coalesce(excluded.deleted_on, deleted_on)",
    )?
    .execute(params![
        customer.customer_id,
        customer.name,
        customer.email.to_string(),
        customer.language,
        customer.address,
        customer.country,
        customer.signed_up_on.to_string(),
        customer.renews_on.map(|day| day.to_string()),
        customer.deleted_on.map(|day| day.to_string()),
    ])?;
    Ok(!known)
}

/// The customer with this id.
///
/// # Errors
/// When the statement fails.
pub fn customer_of(db: &Connection, customer_id: &str) -> Result<Option<Customer>, ShopError> {
    let mut statement = db.prepare_cached("select * from shop_customers where customer_id = ?")?;
    statement.query_row([customer_id], |row| Ok(read_customer(row))).optional()?.transpose()
}

/// Marks a customer as having left; tells whether one did.
///
/// # Errors
/// When the statement fails.
pub fn leave(db: &Connection, customer_id: &str, today: Date) -> Result<bool, ShopError> {
    let changed = db.execute(
        "update shop_customers set deleted_on = ?, renews_on = null where customer_id = ? and deleted_on is null",
        params![today.to_string(), customer_id],
    )?;
    Ok(changed == 1)
}

/// Removes the customers who left on this day or before; tells how many.
///
/// # Errors
/// When the statement fails.
pub fn purge(db: &Connection, until: Date) -> Result<usize, ShopError> {
    Ok(db.execute("delete from shop_customers where deleted_on <= ?", [until.to_string()])?)
}

/// Up to `max` customers whose subscription is due on this day or before.
///
/// # Errors
/// When the statement fails.
pub fn due_renewals(db: &Connection, until: Date, max: u32) -> Result<Vec<Customer>, ShopError> {
    let mut statement = db.prepare_cached(
        "select * from shop_customers where renews_on <= ? and deleted_on is null
         order by renews_on, customer_id limit ?",
    )?;
    let mut rows = statement.query(params![until.to_string(), max])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push(read_customer(row)?);
    }
    Ok(due)
}

/// Moves a renewal from one day to another; tells whether it stood on the first.
///
/// # Errors
/// When the statement fails.
pub fn move_renewal(
    db: &Connection,
    customer_id: &str,
    from: Date,
    to: Date,
) -> Result<bool, ShopError> {
    let changed = db.execute(
        "update shop_customers set renews_on = ? where customer_id = ? and renews_on = ?",
        params![to.to_string(), customer_id, from.to_string()],
    )?;
    Ok(changed == 1)
}

/// Writes an order; tells whether it is new.
///
/// # Errors
/// [`ShopError::Conflict`] when the number stands for another order, or when the statement fails.
pub fn put_order(db: &Connection, order: &Order) -> Result<bool, ShopError> {
    let items = serde_json::to_string(&order.items).map_err(damaged)?;
    let new = db
        .prepare_cached(
            "insert into shop_orders values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
        )?
        .execute(params![
            order.order_id,
            order.ordered_on.to_string(),
            order.customer_id,
            order.name,
            order.email.to_string(),
            order.address,
            order.currency,
            items,
        ])?;
    if new == 0 && order_of(db, &order.order_id)?.as_ref() != Some(order) {
        return Err(ShopError::Conflict { order_id: order.order_id.clone() });
    }
    Ok(new == 1)
}

/// The order with this number.
///
/// # Errors
/// When the statement fails.
pub fn order_of(db: &Connection, order_id: &str) -> Result<Option<Order>, ShopError> {
    let mut statement = db.prepare_cached("select * from shop_orders where order_id = ?")?;
    statement.query_row([order_id], |row| Ok(read_order(row))).optional()?.transpose()
}

/// The last orders that were stored, with their number and total, the latest first.
///
/// # Errors
/// When the statement fails.
pub fn latest_orders(db: &Connection, max: u32) -> Result<Vec<Order>, ShopError> {
    let mut statement =
        db.prepare_cached("select * from shop_orders order by rowid desc limit ?")?;
    let mut rows = statement.query([max])?;
    let mut orders = Vec::new();
    while let Some(row) = rows.next()? {
        orders.push(read_order(row)?);
    }
    Ok(orders)
}

/// Notes that an invoice is written; tells whether that is news.
///
/// # Errors
/// When the statement fails.
pub fn put_invoice(db: &Connection, order_id: &str) -> Result<bool, ShopError> {
    let mut statement =
        db.prepare_cached("insert into shop_invoices values (?) on conflict do nothing")?;
    Ok(statement.execute([order_id])? == 1)
}

/// Notes that an e-mail is sent; tells whether that is news.
///
/// # Errors
/// When the statement fails.
pub fn put_mail(db: &Connection, key: &str) -> Result<bool, ShopError> {
    let mut statement =
        db.prepare_cached("insert into shop_mails values (?) on conflict do nothing")?;
    Ok(statement.execute([key])? == 1)
}

/// Whether an e-mail is sent already.
///
/// # Errors
/// When the statement fails.
pub fn is_sent(db: &Connection, key: &str) -> Result<bool, ShopError> {
    Ok(db.prepare_cached("select 1 from shop_mails where mail_key = ?")?.exists([key])?)
}

/// How many things the shop has. Counts rows: the tables of a sample are small.
///
/// # Errors
/// When the statement fails.
pub fn counts(db: &Connection) -> Result<ShopCounts, ShopError> {
    let sql = "select (select count(*) from shop_customers where deleted_on is null),
        (select count(*) from shop_orders), (select count(*) from shop_invoices),
        (select count(*) from shop_mails)";
    Ok(db.query_row(sql, [], |row| {
        let count = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(ShopCounts {
            customers: count(0)?,
            orders: count(1)?,
            invoices: count(2)?,
            mails: count(3)?,
        })
    })?)
}

fn read_customer(row: &Row<'_>) -> Result<Customer, ShopError> {
    Ok(Customer {
        customer_id: row.get("customer_id")?,
        name: row.get("name")?,
        email: parsed(row, "email")?,
        language: row.get("language")?,
        address: row.get("address")?,
        country: row.get("country")?,
        signed_up_on: parsed(row, "signed_up_on")?,
        renews_on: parsed_option(row, "renews_on")?,
        deleted_on: parsed_option(row, "deleted_on")?,
    })
}

fn read_order(row: &Row<'_>) -> Result<Order, ShopError> {
    let items: String = row.get("items")?;
    Ok(Order {
        order_id: row.get("order_id")?,
        ordered_on: parsed(row, "ordered_on")?,
        customer_id: row.get("customer_id")?,
        name: row.get("name")?,
        email: parsed(row, "email")?,
        address: row.get("address")?,
        currency: row.get("currency")?,
        items: serde_json::from_str(&items).map_err(damaged)?,
    })
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T, ShopError>
where
    T::Err: std::fmt::Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| damaged(format!("{column}: {error}")))
}

fn parsed_option(row: &Row<'_>, column: &str) -> Result<Option<Date>, ShopError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(damaged)).transpose()
}

fn damaged(error: impl std::fmt::Display) -> ShopError {
    ShopError::Damaged(error.to_string())
}
