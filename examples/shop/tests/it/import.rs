//! Imports: everything once, malformed things told, and nothing at all the second time.

use std::time::Duration;

use portfire::{JobFilter, JobState, StateName};
use shop::report::Totals;

use crate::stage::Stage;

const CUSTOMERS: &str = "signed_up_on,email,customer_id,name,deleted_on,shoe_size\r\n\
    2025-01-31,bo@example.com,C-1,\"O’Brien, Bo\",,43\r\n\
    2025-02-01,no address,C-2,Jo,,\r\n\
    2025-02-02,el@example.com,C-3,Ελένη,2025-03-01,\r\n";
const ORDERS: &str = r#"{"orders": [
    {"order_id": "A/1", "ordered_on": "2025-03-01", "name": "Bo", "email": "bo@example.com",
     "items": [{"sku": "T", "quantity": 2, "unit_price": 12.5}]},
    {"order_id": "A/2", "ordered_on": "2025-03-01", "name": "Bo", "email": "bo@example.com", "items": []}
]}"#;
const BROKEN: &str = "<orders>\n<order order_id='X'>\n</orders>\n";

async fn failures(stage: &Stage) -> Vec<String> {
    let page = stage.app.storage.jobs(JobFilter::state(StateName::Failed)).await.unwrap();
    let message = |state: JobState| match state {
        JobState::Failed { error, .. } => error.message,
        other => panic!("{other:?}"),
    };
    let mut messages: Vec<_> = page.jobs.into_iter().map(|job| message(job.state)).collect();
    messages.sort();
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_does_everything_once_and_a_second_one_nothing() {
    let stage = Stage::new(Duration::ZERO, None).await;
    stage.put("customers.csv", CUSTOMERS);
    stage.put("orders.json", ORDERS);
    stage.put("broken.xml", BROKEN);
    let totals = stage.import().await;
    // 3 files, 2 of them told to the warehouse, 5 rows, 2 letters to Bo, an invoice and its letter.
    let expected = Totals {
        created: 14,
        succeeded: 11,
        failed: 3,
        retried: 4,
        recovered: 0,
        mails: 3,
        invoices: 1,
    };
    assert_eq!(totals, expected);
    let mails = ["coupon-C-1.eml", "invoice-A%2F1.eml", "welcome-C-1.eml"];
    assert_eq!(stage.results("mail"), mails);
    assert_eq!(stage.results("invoices"), ["A%2F1.html"]);
    assert_eq!(stage.results("tmp"), [""; 0]);
    assert!(stage.result("invoices/A%2F1.html").contains("25.00"));

    assert_eq!(stage.import().await, Totals::default());
    assert_eq!(stage.results("mail"), mails);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_a_failed_job_with_file_line_and_reason() {
    let stage = Stage::new(Duration::ZERO, None).await;
    stage.put("customers.csv", CUSTOMERS);
    stage.put("orders.json", ORDERS);
    stage.put("broken.xml", BROKEN);
    stage.import().await;
    let failures = failures(&stage).await;
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert!(failures[0].starts_with("broken.xml:3: "), "{failures:?}");
    assert_eq!(failures[1], "customers.csv:3: `email` is `no address`, which is no e-mail address");
    assert_eq!(failures[2], "orders.json:4: the order has no items");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_number_stands_for_one_order() {
    let stage = Stage::new(Duration::ZERO, None).await;
    stage.put("a.json", ORDERS);
    stage.import().await;
    // The same order in another file is passed over; another order of that number is malformed.
    stage.put("b.json", &ORDERS.replace("  ", " "));
    let same = stage.import().await;
    assert_eq!((same.failed, same.invoices, same.mails), (1, 0, 0));
    stage.put("c.json", &ORDERS.replace("12.5", "13"));
    let other = stage.import().await;
    assert_eq!((other.failed, other.invoices, other.mails), (2, 0, 0));
    let told = failures(&stage).await;
    let conflict = "c.json:2: order `A/1` is known already with another content";
    assert!(told.contains(&conflict.to_owned()), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_moves_is_changed_and_not_welcomed_again() {
    let stage = Stage::new(Duration::ZERO, None).await;
    stage.put("customers.csv", CUSTOMERS);
    stage.import().await;
    stage.put("customers.csv", &CUSTOMERS.replace("bo@example.com", "bo@example.org"));
    let totals = stage.import().await;
    assert_eq!((totals.mails, totals.failed), (0, 1));
    let read = |db: &_| shop::db::customer_of(db, "C-1");
    let customer = stage.app.shop.db.read(read).unwrap().unwrap();
    assert_eq!(customer.email.to_string(), "bo@example.org");
}
