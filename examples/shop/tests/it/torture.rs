//! The measure of the torture: it passes what is right, and finds what is lost, torn or too much.

use std::fs;
use std::time::Duration;

use shop::expected::Expected;
use shop::report::Totals;

use crate::stage::Stage;

const ORDERS: &str = r#"[
    {"order_id": "A-1", "ordered_on": "2025-03-01", "name": "Bo", "email": "bo@example.com",
     "sku": "T", "quantity": 1, "unit_price": 1},
    {"order_id": "A-2", "ordered_on": "2025-03-01", "name": "Jo", "email": "jo@example.com",
     "sku": "T", "quantity": 1, "unit_price": 1},
    {"order_id": "A-3"}
]"#;

async fn violations(stage: &Stage, totals: &Totals) -> Vec<String> {
    let expected = Expected::read(&stage.path("data")).unwrap();
    expected.compare(&stage.path("out"), &stage.path("shop.db"), totals).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_torn_or_too_much_is_found() {
    let stage = Stage::new(Duration::ZERO, None).await;
    stage.put("orders.json", ORDERS);
    let totals = stage.import().await;
    assert_eq!(violations(&stage, &totals).await, [""; 0]);

    fs::remove_file(stage.path("out/mail/invoice-A-1.eml")).unwrap();
    let invoice = stage.path("out/invoices/A-2.html");
    let whole = fs::read_to_string(&invoice).unwrap();
    fs::write(&invoice, &whole[..whole.len() / 2]).unwrap();
    fs::write(stage.path("out/invoices/A-9.html"), &whole).unwrap();
    fs::write(stage.path("out/tmp/1-1"), "half").unwrap();
    let miscounted = Totals { created: totals.created + 1, ..totals };
    stage.app.client.enqueue(shop::jobs::count_stock(1)).await.unwrap();
    let found = violations(&stage, &miscounted).await.join("\n");
    for wrong in [
        "e-mail that is missing",
        "invoice that is not whole",
        "invoice that nobody asked for",
        "unfinished file that nobody asked for",
        "created: ",
        "1 jobs are left enqueued",
    ] {
        assert!(found.contains(wrong), "{wrong}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_for_another_reason_is_found() {
    let stage = Stage::new(Duration::ZERO, None).await;
    stage.put("orders.json", ORDERS);
    stage.import().await;
    stage.app.client.enqueue(shop::jobs::write_invoice("no such order")).await.unwrap();
    stage.drain().await;
    let found = violations(&stage, &Totals::default()).await.join("\n");
    assert!(found.contains("failed without a place"), "{found}");
}
