//! Invoices as HTML: one order, one page that can be printed.

use std::fmt::Write as _;

use crate::html::{escape, page};
use crate::model::Order;

/// The invoice of an order. The same order gives the same bytes, so writing it twice is harmless.
pub fn render(order: &Order) -> String {
    let mut rows = String::new();
    for item in &order.items {
        let _ = writeln!(
            rows,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escape(&item.sku),
            escape(&item.title),
            item.quantity,
            item.unit_price,
            item.total(),
        );
    }
    let address = escape(&order.address).replace('\n', "<br>\n");
    let id = escape(&order.order_id);
    let body = format!(
        "<h1>Invoice {id}</h1>\n<p>Kettle &amp; Cup<br>\nordered on {date}</p>\n\
         <p>{name}<br>\n{address}</p>\n\
         <table>\n<thead><tr><th>Article</th><th>Description</th><th class=\"number\">Pieces</th>\
         <th class=\"number\">Price</th><th class=\"number\">Amount</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n\
         <tfoot><tr><th colspan=\"4\">Total {currency}</th><th class=\"number\">{total}</th></tr></tfoot>\n\
         </table>\n",
        date = order.ordered_on,
        name = escape(&order.name),
        currency = escape(&order.currency),
        total = order.total(),
    );
    page(&format!("Invoice {}", order.order_id), &body)
}

#[cfg(test)]
mod tests {
    use crate::model::{Item, Money, Order};

    #[test]
    fn an_invoice_shows_lines_and_total_and_escapes_everything() {
        let order = Order {
            order_id: "A<1>".into(),
            ordered_on: "2025-10-16".parse().unwrap(),
            customer_id: None,
            name: "Zoé & <b>".into(),
            email: "zoe@example.com".parse().unwrap(),
            address: "High Street 1\nDublin".into(),
            currency: "EUR".into(),
            items: vec![Item {
                sku: "T\"".into(),
                title: "<script>".into(),
                quantity: 3,
                unit_price: Money(895),
            }],
        };
        let html = super::render(&order);
        assert!(html.contains("<th class=\"number\">26.85</th>"), "{html}");
        assert!(html.contains("Zoé &amp; &lt;b&gt;<br>\nHigh Street 1<br>\nDublin"));
        assert!(!html.contains("<script>") && !html.contains("A<1>"));
        assert_eq!(html, super::render(&order));
    }
}
