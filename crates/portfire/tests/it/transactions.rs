//! `cx.tx()`: a handler's writes, its follow-ups and its completion in one commit, on a real server.

#![cfg(feature = "sqlite")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portfire::prelude::*;
use portfire::sqlite::rusqlite::Connection;
use portfire::{StateName, Storage};

use crate::stage::{descriptor, perform};

#[job(retry = none)]
async fn debit(amount: i64, cx: &JobContext) -> Result<Completed<i64>, JobError> {
    cx.log("debits");
    let mut tx = cx.tx().await?;
    let sql = "UPDATE account SET balance = balance - ?1 RETURNING balance";
    let left: i64 = tx.run(move |db| db.query_row(sql, [amount], |row| row.get(0))).await??;
    tx.enqueue(receipt(amount).then(receipt(0))).await?;
    if left < 0 {
        return Err(JobError::new("no money left"));
    }
    tx.complete(left).await
}

#[job]
fn debit_blocking(amount: i64, cx: JobContext) -> anyhow::Result<Completed<()>> {
    let done = portfire::block_on(async {
        let mut tx = cx.tx().await?;
        let sql = "UPDATE account SET balance = balance - ?1";
        tx.run(move |db| db.execute(sql, [amount])).await??;
        tx.complete(()).await
    });
    done.map_err(|error| error.into_error().into())
}

/// Cannot complete its job, for its own SQL has ended the transaction.
#[job(retry = none)]
async fn overdraw(cx: &JobContext) -> Result<Completed<()>, JobError> {
    cx.log("begins");
    cx.progress(10);
    cx.set("step", "overdrawing")?;
    cx.tag("odd");
    let mut tx = cx.tx().await?;
    tx.run(|db| db.execute_batch("ROLLBACK")).await??;
    let completed = tx.complete(()).await;
    cx.log(format_args!("completed: {}", completed.is_ok()));
    completed
}

/// Goes on after it has completed its job.
#[job]
async fn go_on(value: String, cx: &JobContext) -> Result<Completed<String>, JobError> {
    let bar = cx.progress_bar("steps", 2);
    bar.set(1);
    cx.log("before");
    let completed = cx.tx().await?.complete(value).await?;
    bar.set(2);
    cx.log("after");
    Ok(completed)
}

/// Wants a second transaction while its first is open.
#[job(retry = none)]
async fn open_twice(cx: &JobContext) -> Result<Completed<()>, JobError> {
    let tx = cx.tx().await?;
    let second = cx.tx().await;
    drop(tx);
    cx.log(second.unwrap_err());
    cx.tx().await?.complete(()).await
}

#[job]
async fn receipt(amount: i64) {
    let _ = amount;
}

#[job]
async fn print_left(#[parent] left: i64) -> Result<i64, JobError> {
    Ok(left)
}

struct Bank {
    _folder: tempfile::TempDir,
    path: PathBuf,
    storage: Arc<dyn Storage>,
    client: Client,
}

async fn bank(balance: i64) -> Bank {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let storage = portfire::open(&format!("sqlite://{}", path.display())).await.unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE account (balance INTEGER NOT NULL)").unwrap();
    db.execute("INSERT INTO account VALUES (?1)", [balance]).unwrap();
    Bank { _folder: folder, path, client: Client::new(storage.clone()), storage }
}

impl Bank {
    fn balance(&self) -> i64 {
        let db = Connection::open(&self.path).unwrap();
        db.query_row("SELECT balance FROM account", [], |row| row.get(0)).unwrap()
    }

    /// Runs a server until these jobs are final.
    async fn run(&self, jobs: &[JobId]) {
        let server = Server::builder(self.storage.clone())
            .register(portfire::jobs![
                debit,
                debit_blocking,
                go_on,
                open_twice,
                overdraw,
                print_left,
                receipt
            ])
            .result_bytes_max(1_000)
            .start()
            .await
            .unwrap();
        let client = self.client.clone();
        let jobs = jobs.to_vec();
        let mut wakeups = self.storage.wakeups();
        let ended = async move {
            for job in jobs {
                while !client.job(job).await.unwrap().unwrap().state.name().is_final() {
                    let hint = tokio::time::timeout(Duration::from_millis(20), wakeups.next());
                    let _ = hint.await;
                }
            }
        };
        server.run_until(ended).await.unwrap();
    }

    async fn log(&self, job: JobId) -> Vec<String> {
        let page = self.storage.log(job, None, 10).await.unwrap();
        page.lines.into_iter().map(|line| line.text).collect()
    }

    async fn state(&self, job: JobId) -> StateName {
        self.client.job(job).await.unwrap().unwrap().state.name()
    }
}

#[tokio::test]
async fn effects_follow_ups_and_success_are_one_commit() {
    let bank = bank(100).await;
    let paid = bank.client.enqueue(debit(30)).await.unwrap();
    let left = bank.client.continue_with(paid, print_left()).await.unwrap();
    let too_much = bank.client.enqueue(debit(1_000).after(paid)).await.unwrap();
    let blocking = bank.client.enqueue(debit_blocking(5).after_end(too_much)).await.unwrap();
    bank.run(&[left, too_much, blocking]).await;
    assert_eq!(bank.balance(), 65);
    assert_eq!(bank.state(paid).await, StateName::Succeeded);
    assert_eq!(bank.state(too_much).await, StateName::Failed);
    assert_eq!(bank.state(blocking).await, StateName::Succeeded);
    let result = match bank.client.job(left).await.unwrap().unwrap().state {
        portfire::JobState::Succeeded { result, .. } => result,
        state => panic!("{state:?}"),
    };
    assert_eq!(result.unwrap().as_str(), "70", "what was completed is handed to the continuation");
    // The receipts of the one that was rolled back were never there.
    assert_eq!(bank.storage.counts().await.unwrap().created_total, 6);
    let log = bank.storage.log(paid, None, 10).await.unwrap();
    assert_eq!(log.lines.len(), 1, "what was said before the commit is in it");
}

#[tokio::test]
async fn what_a_job_says_outlives_a_completion_that_fails() {
    let bank = bank(100).await;
    let job = bank.client.enqueue(overdraw()).await.unwrap();
    bank.run(&[job]).await;
    assert_eq!(bank.state(job).await, StateName::Failed);
    assert_eq!(bank.log(job).await, ["begins", "completed: false"]);
    let notes = bank.storage.notes(job).await.unwrap();
    assert_eq!((notes.progress[0].done, &notes.tags[..]), (10, &["odd".to_owned()][..]));
    assert_eq!(notes.metadata["step"].as_str(), "\"overdrawing\"");
}

#[tokio::test]
async fn what_a_job_says_after_its_completion_is_kept() {
    let bank = bank(100).await;
    let [short, long] = ["x".to_owned(), "x".repeat(2_000)];
    let short = bank.client.enqueue(go_on(short)).await.unwrap();
    let long = bank.client.enqueue(go_on(long)).await.unwrap();
    bank.run(&[short, long]).await;
    assert_eq!(bank.log(short).await, ["before", "after"]);
    let dropped = "the result was dropped: it has 2002 bytes, and at most 1000 are kept";
    assert_eq!(bank.log(long).await, ["before", dropped, "after"]);
    assert_eq!(bank.storage.notes(long).await.unwrap().progress[0].done, 2);
}

#[tokio::test]
async fn a_second_transaction_of_a_job_is_refused_at_once() {
    let bank = bank(100).await;
    let job = bank.client.enqueue(open_twice()).await.unwrap();
    bank.run(&[job]).await;
    assert_eq!(bank.state(job).await, StateName::Succeeded);
    let log = bank.log(job).await;
    assert!(log[0].contains("has a transaction open already"), "{log:?}");
}

#[tokio::test]
async fn a_job_elsewhere_has_no_transaction_and_says_so() {
    let error = perform(debit(1), Services::new()).await.unwrap_err();
    assert!(error.to_string().contains("stored in `memory`"), "{error}");
    assert_eq!(error.record().class, "no_transaction");
    assert!(descriptor("debit").recurring.is_none());
}

fn takes<J: portfire::Takes<T>, T>(_: fn() -> J, _: T) {}

#[test]
fn the_value_of_a_receipt_is_what_the_job_returns() {
    fn returns<J: portfire::JobFn<Output = i64>>(_: portfire::Call<J>) {}
    returns(debit(1));
    takes(|| -> print_left { unreachable!() }, 1i64);
    let chain = debit(1).pipe(print_left());
    assert_eq!(chain.len(), 2);
}
