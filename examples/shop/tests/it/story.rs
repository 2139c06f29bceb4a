//! Customers who come, stay and go.

use std::time::Duration;

use jiff::ToSpan as _;
use portfire::{JobFilter, JobState, StateName};
use shop::jobs::schedule_renewals;
use shop::model::{Customer, Order};
use shop::shop::coupon_job;

use crate::stage::Stage;

fn customer(renews_on: Option<&str>) -> Customer {
    Customer {
        customer_id: "C-1".into(),
        name: "Zoé".into(),
        email: "zoe@example.com".parse().unwrap(),
        language: "fr".into(),
        address: String::new(),
        country: String::new(),
        signed_up_on: "2025-01-31".parse().unwrap(),
        renews_on: renews_on.map(|day| day.parse().unwrap()),
        deleted_on: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_leaves_gets_no_coupon() {
    let stage = Stage::new(Duration::from_secs(3_600), None).await;
    let new = stage.app.blocking(|app| app.shop.sign_up(&app.client, &customer(None))).await;
    assert!(new.unwrap());
    let coupon = stage.app.client.job(coupon_job("C-1")).await.unwrap().unwrap();
    assert_eq!(coupon.state.name(), StateName::Scheduled);

    let day = "2026-01-01".parse().unwrap();
    let left = stage.app.blocking(move |app| app.shop.leave(&app.client, "C-1", day)).await;
    assert!(left.unwrap());
    let coupon = stage.app.client.job(coupon_job("C-1")).await.unwrap().unwrap();
    assert_eq!(coupon.state.name(), StateName::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_up_twice_is_signing_up_once() {
    let stage = Stage::new(Duration::ZERO, None).await;
    for _ in 0..2 {
        let again = stage.app.blocking(|app| app.shop.sign_up(&app.client, &customer(None)));
        again.await.unwrap();
    }
    stage.drain().await;
    assert_eq!(stage.results("mail"), ["coupon-C-1.eml", "welcome-C-1.eml"]);
    assert!(stage.result("mail/welcome-C-1.eml").contains("Subject: Bienvenue"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_renews_what_is_due() {
    let stage = Stage::new(Duration::from_secs(3_600), None).await;
    let first: jiff::civil::Date = "2020-01-31".parse().unwrap();
    let subscriber = customer(Some("2020-01-31"));
    stage.app.blocking(move |app| app.shop.sign_up(&app.client, &subscriber)).await.unwrap();
    for _ in 0..2 {
        schedule_renewals(&stage.app.client).await.unwrap();
    }
    let renewals = stage.app.client.recurring_job("renewals");
    assert!(renewals.record().await.unwrap().unwrap().next_at.is_some());
    let night = renewals.trigger().await.unwrap();
    stage.drain().await;

    let job = stage.app.client.job(night).await.unwrap().unwrap();
    let JobState::Succeeded { result: Some(renewed), .. } = job.state else {
        panic!("{:?}", job.state)
    };
    // Every year that was missed, each with its invoice.
    let years = (0..200).map(|year| first.saturating_add(year.years()));
    let missed = years.take_while(|day| *day <= jiff::Zoned::now().date()).count();
    assert_eq!(renewed.as_str(), missed.to_string());
    assert_eq!(stage.results("invoices").len(), missed);
    assert_eq!(stage.results("invoices")[0], "R-C-1-2020-01-31.html");
    let runs = renewals.runs(10).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].job, runs[0].outcome), (Some(night), Some(StateName::Succeeded)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_letter_of_an_invoice_that_is_given_up_is_deleted() {
    let stage = Stage::new(Duration::from_secs(3_600), None).await;
    let order = Order {
        order_id: "A-1".into(),
        ordered_on: "2026-01-31".parse().unwrap(),
        customer_id: None,
        name: "Zoé".into(),
        email: "zoe@example.com".parse().unwrap(),
        address: String::new(),
        currency: "EUR".into(),
        items: Vec::new(),
    };
    stage.app.blocking(move |app| app.shop.place_order(&app.client, &order)).await.unwrap();
    let states = async |state| stage.app.storage.counts().await.unwrap().of(state);
    assert_eq!((states(StateName::Enqueued).await, states(StateName::Awaiting).await), (1, 1));
    let waiting = stage.app.storage.jobs(JobFilter::state(StateName::Enqueued)).await.unwrap();
    let _ = stage.app.client.delete(waiting.jobs[0].id).await.unwrap();
    assert_eq!(states(StateName::Deleted).await, 2);
    stage.drain().await;
    assert!(stage.results("mail").is_empty());
}
