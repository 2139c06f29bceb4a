//! Customers who come, stay and go.

use std::time::Duration;

use portfire::{JobState, StateName};
use shop::jobs::{remove_former_customers, renew_subscriptions};
use shop::model::Customer;
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
async fn a_night_renews_what_is_due_and_schedules_the_next() {
    let stage = Stage::new(Duration::from_secs(3_600), None).await;
    let subscriber = customer(Some("2026-01-31"));
    stage.app.blocking(move |app| app.shop.sign_up(&app.client, &subscriber)).await.unwrap();
    let day = "2099-02-01".parse().unwrap();
    let night = stage.app.client.enqueue(renew_subscriptions(day)).await.unwrap();
    stage.app.client.enqueue(remove_former_customers(day)).await.unwrap();
    stage.drain().await;
    let night = stage.app.client.job(night).await.unwrap().unwrap();
    let JobState::Succeeded { result: Some(renewed), .. } = night.state else {
        panic!("{:?}", night.state)
    };
    // Every year that was missed, each with its invoice.
    assert_eq!(renewed.as_str(), "74");
    assert_eq!(stage.results("invoices").len(), 74);
    assert_eq!(stage.results("invoices")[0], "R-C-1-2026-01-31.html");
    let counts = stage.app.storage.counts().await.unwrap();
    // The coupon, and two jobs for the next night.
    assert_eq!(counts.of(StateName::Scheduled), 3);
}
