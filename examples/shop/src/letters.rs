//! What the shop writes to people: the welcome, the coupon, the invoice; in the languages it speaks.

use std::time::SystemTime;

use lettre::message::Mailbox;

use crate::ids::{digest, file_stem};
use crate::mail::Letter;
use crate::model::{Customer, Order};

/// The letter to somebody who has just signed up.
pub fn welcome(customer: &Customer, date: SystemTime) -> Letter {
    let name = &customer.name;
    let (subject, text) = match language(customer) {
        "de" => (
            "Willkommen bei Kettle & Cup",
            format!("Guten Tag {name},\n\nschön, dass Sie da sind.\n"),
        ),
        "fr" => (
            "Bienvenue chez Kettle & Cup",
            format!("Bonjour {name},\n\nmerci de votre inscription.\n"),
        ),
        "nl" => ("Welkom bij Kettle & Cup", format!("Dag {name},\n\nfijn dat je er bent.\n")),
        _ => {
            ("Welcome to Kettle & Cup", format!("Hello {name},\n\nit is good to have you here.\n"))
        }
    };
    letter(format!("welcome-{}", customer.customer_id), customer, subject, text, date)
}

/// The letter with a discount, some days later.
pub fn coupon(customer: &Customer, date: SystemTime) -> Letter {
    let name = &customer.name;
    let code = coupon_code(&customer.customer_id);
    let (subject, text) = match language(customer) {
        "de" => ("10 % für Sie", format!("Guten Tag {name},\n\nmit {code} sparen Sie 10 %.\n")),
        "fr" => {
            ("10 % pour vous", format!("Bonjour {name},\n\n{code} vous offre 10 % de remise.\n"))
        }
        "nl" => ("10 % voor jou", format!("Dag {name},\n\nmet {code} krijg je 10 % korting.\n")),
        _ => ("10 % for you", format!("Hello {name},\n\n{code} takes 10 % off your next order.\n")),
    };
    letter(format!("coupon-{}", customer.customer_id), customer, subject, text, date)
}

/// The letter with an invoice.
pub fn invoice(order: &Order, html: String, date: SystemTime) -> Letter {
    Letter {
        key: format!("invoice-{}", order.order_id),
        to: Mailbox::new(Some(order.name.clone()), order.email.clone()),
        subject: format!("Invoice {}", order.order_id),
        text: format!(
            "Hello {},\n\nthank you for your order of {}. The invoice over {} {} is attached.\n",
            order.name,
            order.ordered_on,
            order.total(),
            order.currency
        ),
        attachment: Some((format!("{}.html", file_stem(&order.order_id)), html)),
        date,
    }
}

/// A customer's code: always the same one, so that a repeated letter promises nothing new.
pub fn coupon_code(customer_id: &str) -> String {
    format!("TEA-{}", digest(format!("coupon {customer_id}").as_bytes())[..8].to_uppercase())
}

fn letter(
    key: String,
    customer: &Customer,
    subject: &str,
    text: String,
    date: SystemTime,
) -> Letter {
    let to = Mailbox::new(Some(customer.name.clone()), customer.email.clone());
    Letter { key, to, subject: subject.to_owned(), text, attachment: None, date }
}

/// The language without its region: `nl-BE` is `nl`.
fn language(customer: &Customer) -> &str {
    customer.language.split(['-', '_']).next().unwrap_or_default()
}
