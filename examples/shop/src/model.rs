//! What the shop deals in: customers, orders and money; and what a record must say to be one of them.
//!
//! Pure: the rules that turn a row of a file or a form into something that makes sense, or say why not.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use lettre::Address;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::import::{Fields, Row};

/// Longest one-line text that is taken, in characters.
const TEXT_MAX: usize = 200;
/// Longest postal address, in characters.
const ADDRESS_MAX: usize = 1_000;
/// Most items of an order.
const ITEMS_MAX: usize = 1_000;
/// Most pieces of one item.
const QUANTITY_MAX: u32 = 100_000;
/// Highest price of one piece: ten million.
const PRICE_MAX: Money = Money(1_000_000_000);

/// Somebody who signed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The shop's name for them, never given twice.
    pub customer_id: String,
    /// How they want to be called.
    pub name: String,
    /// Where their e-mail goes.
    pub email: Address,
    /// The language of their e-mail, such as `nl`; English when it is one the shop does not write.
    pub language: String,
    /// Where their parcels go; may have several lines.
    pub address: String,
    /// The country, as two letters or a name.
    pub country: String,
    /// When they signed up.
    pub signed_up_on: Date,
    /// When their subscription is renewed; `None` without one.
    pub renews_on: Option<Date>,
    /// When they left; their data is removed some time later.
    pub deleted_on: Option<Date>,
}

/// What somebody bought. It carries its own recipient, as the order of a guest does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number, never given twice.
    pub order_id: String,
    /// When it was placed.
    pub ordered_on: Date,
    /// The customer, when it is one that the shop knows.
    pub customer_id: Option<String>,
    /// Who ordered.
    pub name: String,
    /// Where the invoice is sent.
    pub email: Address,
    /// Where the parcel is sent; may have several lines.
    pub address: String,
    /// The currency, as three letters.
    pub currency: String,
    /// What was bought; at least one.
    pub items: Vec<Item>,
}

impl Order {
    /// What is to be paid.
    pub fn total(&self) -> Money {
        self.items.iter().map(Item::total).fold(Money(0), |sum, price| Money(sum.0 + price.0))
    }
}

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The article number.
    pub sku: String,
    /// What it is.
    pub title: String,
    /// How many.
    pub quantity: u32,
    /// The price of one.
    pub unit_price: Money,
}

impl Item {
    /// The price of all pieces. Cannot overflow: the bounds of an order see to that.
    pub fn total(&self) -> Money {
        Money(self.unit_price.0 * i64::from(self.quantity))
    }
}

/// An amount in hundredths of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(pub i64);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / 100, self.0 % 100))
    }
}

impl FromStr for Money {
    type Err = String;

    fn from_str(text: &str) -> Result<Money, String> {
        let refuse = || format!("`{}` is not a price such as 12.50", shorten(text));
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
            return Err(refuse());
        }
        let hundredths: i64 = format!("{whole}{part:0<2}").parse().map_err(|_| refuse())?;
        let price = Money(hundredths);
        if price > PRICE_MAX {
            Err(format!("`{}` is over {PRICE_MAX}", shorten(text)))
        } else {
            Ok(price)
        }
    }
}

/// A row that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has an `order_id`.
    Order(Order),
    /// It has a `customer_id` and no `order_id`.
    Customer(Customer),
}

impl Entry {
    /// Reads a row.
    ///
    /// # Errors
    /// What is wrong with it, in words for the person who made the file.
    pub fn read(row: &Row) -> Result<Entry, String> {
        let fields = match row {
            Row::Fields(fields) => fields,
            Row::Defect(reason) => return Err(reason.clone()),
        };
        if fields.contains_key("order_id") {
            Order::read(fields).map(Entry::Order)
        } else {
            Customer::read(fields).map(Entry::Customer)
        }
    }
}

impl Customer {
    /// Reads a customer from the columns of a record or a form.
    ///
    /// # Errors
    /// The first column that is missing or does not make sense.
    pub fn read(fields: &Fields) -> Result<Customer, String> {
        Ok(Customer {
            customer_id: required(fields, "customer_id")?,
            name: required(fields, "name")?,
            email: email(fields)?,
            language: optional(fields, "language", TEXT_MAX)?.unwrap_or_else(|| "en".to_owned()),
            address: optional(fields, "address", ADDRESS_MAX)?.unwrap_or_default(),
            country: optional(fields, "country", TEXT_MAX)?.unwrap_or_default(),
            signed_up_on: date(fields, "signed_up_on")?
                .ok_or_else(|| "`signed_up_on` is missing".to_owned())?,
            renews_on: date(fields, "renews_on")?,
            deleted_on: date(fields, "deleted_on")?,
        })
    }
}

impl Order {
    /// Reads an order from the columns of a record or a form. Without `items` it has one item, and
    /// the record's own columns say which: so a flat file can hold orders too.
    ///
    /// # Errors
    /// The first column that is missing or does not make sense.
    pub fn read(fields: &Fields) -> Result<Order, String> {
        Ok(Order {
            order_id: required(fields, "order_id")?,
            ordered_on: date(fields, "ordered_on")?
                .ok_or_else(|| "`ordered_on` is missing".to_owned())?,
            customer_id: optional(fields, "customer_id", TEXT_MAX)?,
            name: required(fields, "name")?,
            email: email(fields)?,
            address: optional(fields, "address", ADDRESS_MAX)?.unwrap_or_default(),
            currency: currency(fields)?,
            items: items(fields)?,
        })
    }
}

fn items(fields: &Fields) -> Result<Vec<Item>, String> {
    let items = match fields.get("items") {
        None if fields.contains_key("sku") => return Ok(vec![item(fields)?]),
        Some(Value::Array(items)) if !items.is_empty() => items,
        _ => return Err("the order has no items".to_owned()),
    };
    if items.len() > ITEMS_MAX {
        return Err(format!("{} items, and an order takes at most {ITEMS_MAX}", items.len()));
    }
    let numbered = |(index, value): (usize, &Value)| {
        let columns: Fields = match value {
            Value::Object(members) => members.clone().into_iter().collect(),
            _ => return Err(format!("item {} is not a record", index + 1)),
        };
        item(&columns).map_err(|reason| format!("item {}: {reason}", index + 1))
    };
    items.iter().enumerate().map(numbered).collect()
}

fn item(fields: &Fields) -> Result<Item, String> {
    let sku = required(fields, "sku")?;
    let quantity = required(fields, "quantity")?;
    let quantity = match quantity.parse() {
        Ok(pieces @ 1..=QUANTITY_MAX) => pieces,
        _ => return Err(format!("`quantity` is `{quantity}`; expected 1 to {QUANTITY_MAX}")),
    };
    let unit_price = required(fields, "unit_price")?.parse();
    let unit_price = unit_price.map_err(|reason| format!("`unit_price`: {reason}"))?;
    let title = optional(fields, "title", TEXT_MAX)?.unwrap_or_else(|| sku.clone());
    Ok(Item { sku, title, quantity, unit_price })
}

fn email(fields: &Fields) -> Result<Address, String> {
    let text = required(fields, "email")?;
    text.parse().map_err(|_| format!("`email` is `{text}`, which is no e-mail address"))
}

fn currency(fields: &Fields) -> Result<String, String> {
    let text = optional(fields, "currency", TEXT_MAX)?.unwrap_or_else(|| "EUR".to_owned());
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(text)
    } else {
        Err(format!("`currency` is `{text}`; expected three letters such as EUR"))
    }
}

fn date(fields: &Fields, name: &str) -> Result<Option<Date>, String> {
    let Some(text) = optional(fields, name, TEXT_MAX)? else { return Ok(None) };
    let date = text
        .parse()
        .map_err(|_| format!("`{name}` is `{text}`; expected a date such as 2026-02-28"));
    date.map(Some)
}

fn required(fields: &Fields, name: &str) -> Result<String, String> {
    optional(fields, name, TEXT_MAX)?.ok_or_else(|| format!("`{name}` is missing"))
}

/// The text of a column; `None` when it is absent, empty or null. A number is as good as its text.
fn optional(fields: &Fields, name: &str, characters_max: usize) -> Result<Option<String>, String> {
    let text = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(format!("`{name}` is neither a text nor a number")),
    };
    let characters = text.chars().count();
    if characters > characters_max {
        return Err(format!(
            "`{name}` has {characters} characters; at most {characters_max} are taken"
        ));
    }
    // Only an address has lines. Elsewhere a line break would end up in the header of an e-mail.
    let legal = |c: char| !c.is_control() || (name == "address" && matches!(c, '\n' | '\r' | '\t'));
    if !text.chars().all(legal) {
        return Err(format!("`{name}` contains control characters"));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Row {
        Row::Fields(serde_json::from_value(value).unwrap())
    }

    fn order(change: impl FnOnce(&mut Value)) -> Result<Entry, String> {
        let mut value = json!({
            "order_id": "A-1", "ordered_on": "2025-10-16", "name": "Zoé", "email": "zoe@example.com",
            "items": [{"sku": "T", "quantity": 2, "unit_price": 12.5}],
        });
        change(&mut value);
        Entry::read(&row(value))
    }

    #[test]
    fn an_order_is_read_with_its_defaults() {
        let Entry::Order(order) = order(|_| {}).unwrap() else { panic!("not an order") };
        assert_eq!((order.currency.as_str(), order.total()), ("EUR", Money(2_500)));
        assert_eq!(order.items[0].title, "T");
    }

    #[test]
    fn a_flat_order_has_one_item() {
        let flat = json!({
            "order_id": "A-1", "ordered_on": "2025-10-16", "name": "Zoé", "email": "zoe@example.com",
            "sku": "T", "quantity": "3", "unit_price": "0.99", "currency": "GBP",
        });
        let Ok(Entry::Order(order)) = Entry::read(&row(flat)) else { panic!("not an order") };
        assert_eq!(order.total().to_string(), "2.97");
    }

    #[test]
    fn what_makes_no_sense_is_said_by_column() {
        let refusal = |change: fn(&mut Value)| order(change).unwrap_err();
        assert_eq!(refusal(|o| o["items"] = json!([])), "the order has no items");
        let negative = refusal(|o| o["items"][0]["quantity"] = json!(-2));
        assert_eq!(negative, "item 1: `quantity` is `-2`; expected 1 to 100000");
        let price = refusal(|o| o["items"][0]["unit_price"] = json!("twelve"));
        assert_eq!(price, "item 1: `unit_price`: `twelve` is not a price such as 12.50");
        assert_eq!(refusal(|o| o["order_id"] = json!(" ")), "`order_id` is missing");
        assert!(refusal(|o| o["ordered_on"] = json!("2025-13-40")).contains("expected a date"));
        assert!(refusal(|o| o["email"] = json!("a@b@c")).contains("no e-mail address"));
        assert!(refusal(|o| o["name"] = json!("a\nBcc: b@c.d")).contains("control characters"));
        assert!(refusal(|o| o["currency"] = json!("EURO")).contains("three letters"));
        assert!(refusal(|o| o["name"] = json!({})).contains("neither a text nor a number"));
    }

    #[test]
    fn a_customer_is_read_and_needs_an_address_to_write_to() {
        let customer = |email: &str| {
            let row = row(json!({
                "customer_id": 17, "name": "Bo", "email": email, "signed_up_on": "2025-01-31",
                "address": "High Street 1\nDublin", "deleted_on": "",
            }));
            Entry::read(&row)
        };
        let Ok(Entry::Customer(bo)) = customer("bo@example.com") else { panic!("not a customer") };
        assert_eq!((bo.customer_id.as_str(), bo.language.as_str()), ("17", "en"));
        assert_eq!((bo.renews_on, bo.deleted_on), (None, None));
        assert!(customer("bo.example.com").is_err());
    }

    #[test]
    fn money_is_exact() {
        for (text, hundredths) in [("0", 0), ("12", 1_200), ("12.5", 1_250), ("8.95", 895)] {
            assert_eq!(text.parse(), Ok(Money(hundredths)));
        }
        for text in ["", ".5", "1.234", "-1", "1,50", "1e3", "99999999999999999999", "10000000.01"]
        {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
        assert_eq!(Money(5).to_string(), "0.05");
    }
}
