//! The shop's pages as HTML. Everything that came from outside is escaped.

use std::fmt::Write as _;

use portfire::{
    BatchRecord, Counts, HistoryEntry, JobRecord, JobState, LogLine, NotesRecord, RecurringRecord,
    Schedule, StateName,
};

use crate::db::ShopCounts;
use crate::html::{escape, live_page, moment, page};
use crate::import::Fields;
use crate::letters::coupon_code;
use crate::model::{Customer, Order};

/// What can be ordered: number, name, price.
const ARTICLES: [(&str, &str, &str); 4] = [
    ("TEA-SEN-100", "Sencha, 100 g", "8.95"),
    ("COF-ESP-1000", "Espresso beans, 1 kg", "21.90"),
    ("POT-JAP-06", "Kyusu teapot, 0.6 l", "49.00"),
    ("CUP-SET-4", "Cups, set of 4", "32.00"),
];

/// What the front page shows.
#[derive(Debug, Default)]
pub(crate) struct Front {
    pub(crate) jobs: Counts,
    pub(crate) shop: ShopCounts,
    /// The latest first.
    pub(crate) orders: Vec<Order>,
    /// The number of the order that the form places.
    pub(crate) order_id: String,
    /// The imports, the latest first.
    pub(crate) batches: Vec<BatchRecord>,
    pub(crate) recurring: Vec<RecurringRecord>,
}

/// The front page: the forms, the numbers, the imports, the nightly work, the latest orders.
pub(crate) fn front(front: &Front) -> String {
    let Front { jobs, shop, orders, order_id, batches, recurring } = front;
    let mut body = String::from(
        "<h1>Kettle &amp; Cup</h1>\n<h2>Sign up</h2>\n\
         <form method=\"post\" action=\"/customers\">\n\
         <label>Name <input name=\"name\" required maxlength=\"200\"></label>\n\
         <label>E-mail <input name=\"email\" type=\"email\" required maxlength=\"200\"></label>\n\
         <label>Language <select name=\"language\"><option>en<option>de<option>fr<option>nl</select></label>\n\
         <button>Sign up</button>\n</form>\n",
    );
    body.push_str(&order_form(order_id));
    body.push_str(&counts_table(jobs));
    let _ = writeln!(
        body,
        "<p>Customers: {}, orders: {}, invoices: {}, e-mails: {}.</p>",
        shop.customers, shop.orders, shop.invoices, shop.mails
    );
    body.push_str(
        "<form method=\"post\" action=\"/stock-counts\"><button>Count the stock (a minute)</button></form>\n",
    );
    body.push_str(&batches_table(batches));
    body.push_str(&recurring_table(recurring));
    body.push_str("<h2>Latest orders</h2>\n<table>\n<tr><th>Order</th><th>Date</th><th>Name</th><th class=\"number\">Total</th></tr>\n");
    for order in orders {
        let _ = writeln!(
            body,
            "<tr><td><a href=\"/invoices/{}\">{}</a></td><td>{}</td><td>{}</td><td class=\"number\">{} {}</td></tr>",
            path_segment(&order.order_id),
            escape(&order.order_id),
            order.ordered_on,
            escape(&order.name),
            order.total(),
            escape(&order.currency),
        );
    }
    body.push_str("</table>\n");
    page("Kettle & Cup", &body)
}

fn order_form(order_id: &str) -> String {
    let mut options = String::new();
    for (sku, title, price) in ARTICLES {
        let _ = write!(options, "<option value=\"{sku}\">{} ({price} EUR)", escape(title));
    }
    format!(
        "<h2>Order</h2>\n<form method=\"post\" action=\"/orders\">\n\
         <input type=\"hidden\" name=\"order_id\" value=\"{}\">\n\
         <label>Article <select name=\"sku\">{options}</select></label>\n\
         <label>Pieces <input name=\"quantity\" type=\"number\" min=\"1\" max=\"1000\" value=\"1\" required></label>\n\
         <label>Name <input name=\"name\" required maxlength=\"200\"></label>\n\
         <label>E-mail <input name=\"email\" type=\"email\" required maxlength=\"200\"></label>\n\
         <label>Address <input name=\"address\" maxlength=\"1000\"></label>\n\
         <button>Order</button>\n</form>\n",
        escape(order_id)
    )
}

/// Puts name and price of the chosen article into an order's form: the browser does not set prices.
///
/// # Errors
/// That there is no such article.
pub(crate) fn fill_in_article(form: &mut Fields) -> Result<(), String> {
    let sku = form.get("sku").and_then(|sku| sku.as_str()).unwrap_or_default();
    let article = ARTICLES.into_iter().find(|(known, ..)| *known == sku);
    let (_, title, price) =
        article.ok_or_else(|| format!("`sku` is `{sku}`, which the shop does not sell"))?;
    form.insert("title".to_owned(), title.into());
    form.insert("unit_price".to_owned(), price.into());
    Ok(())
}

fn batches_table(batches: &[BatchRecord]) -> String {
    if batches.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>Imports</h2>\n<table>\n<tr><th>File</th><th>Is</th><th class=\"number\">Rows</th>\
         <th class=\"number\">Done</th><th class=\"number\">Failed</th></tr>\n",
    );
    for batch in batches {
        let members = &batch.members;
        let _ = writeln!(
            table,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escape(&batch.description),
            batch.state.as_str(),
            members.total,
            members.succeeded,
            members.failed,
        );
    }
    table.push_str("</table>\n");
    table
}

fn recurring_table(recurring: &[RecurringRecord]) -> String {
    if recurring.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>Every night</h2>\n<table>\n<tr><th>What</th><th>When</th><th>Next</th><th></th></tr>\n",
    );
    for job in recurring {
        let id = job.definition.id.as_str();
        let next = job.next_at.map(moment).unwrap_or_default();
        let _ = writeln!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{next}</td><td><form method=\"post\" action=\"/recurring/{}/trigger\">\
             <button>Run now</button></form></td></tr>",
            escape(id),
            escape(&in_words(&job.definition.schedule)),
            path_segment(id),
        );
    }
    table.push_str("</table>\n");
    table
}

fn in_words(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Cron { text, zone } => match text.parse::<portfire::cron::CronExpression>() {
            Ok(cron) => format!("{}, {zone}", cron.describe()),
            Err(_) => format!("{text}, {zone}"),
        },
        Schedule::Every(interval) => {
            format!("every {}", portfire::cron::duration::words(*interval))
        }
    }
}

fn counts_table(jobs: &Counts) -> String {
    let mut table = String::from("<h2>Jobs</h2>\n<table>\n<tr>");
    for state in StateName::ALL {
        let _ =
            write!(table, "<th class=\"number\"><a href=\"/jobs?state={state}\">{state}</a></th>");
    }
    table.push_str("</tr>\n<tr>");
    for state in StateName::ALL {
        let _ = write!(table, "<td class=\"number\">{}</td>", jobs.of(state));
    }
    let _ = writeln!(
        table,
        "</tr>\n</table>\n<p class=\"note\">Ever: {} created, {} succeeded, {} failed, {} retried, {} recovered.</p>",
        jobs.created_total,
        jobs.succeeded_total,
        jobs.failed_total,
        jobs.retried_total,
        jobs.recovered_total
    );
    table
}

/// A customer, with their coupon and the way out.
pub(crate) fn customer(customer: &Customer, coupon: Option<&JobRecord>) -> String {
    let coupon = match coupon {
        Some(job) => format!(
            "<p>The coupon {} is <a href=\"/jobs/{}\">{}</a>.</p>\n",
            coupon_code(&customer.customer_id),
            job.id,
            job.state.name()
        ),
        None => String::new(),
    };
    let leave = match customer.deleted_on {
        Some(day) => format!("<p>Left on {day}.</p>\n"),
        None => format!(
            "<form method=\"post\" action=\"/customers/{}/leave\"><button>Leave the shop</button></form>\n",
            path_segment(&customer.customer_id)
        ),
    };
    let body = format!(
        "<h1>{}</h1>\n<p>{}, signed up on {}.</p>\n{coupon}{leave}<p><a href=\"/\">Back</a></p>\n",
        escape(&customer.name),
        escape(customer.email.as_ref()),
        customer.signed_up_on,
    );
    page(&customer.name, &body)
}

/// Jobs, of one state or of all.
pub(crate) fn jobs(state: Option<StateName>, jobs: &[JobRecord]) -> String {
    let which = state.map(|state| format!(": {state}")).unwrap_or_default();
    let mut body = format!(
        "<h1>Jobs{which}</h1>\n<table>\n<tr><th>Kind</th><th>Created</th><th>State</th><th>Remark</th></tr>\n"
    );
    for job in jobs {
        let _ = writeln!(
            body,
            "<tr><td><a href=\"/jobs/{}\">{}</a></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            job.id,
            escape(job.kind.as_str()),
            moment(job.created_at),
            job.state.name(),
            escape(&remark(&job.state)),
        );
    }
    body.push_str("</table>\n<p><a href=\"/\">Back</a></p>\n");
    page("Jobs", &body)
}

/// A job with its history, and what it has said about itself.
pub(crate) fn job(
    job: &JobRecord,
    history: &[HistoryEntry],
    notes: &NotesRecord,
    log: &[LogLine],
) -> String {
    let mut body = format!(
        "<h1>{}</h1>\n<p>{}: {}. {}</p>\n<pre>{}</pre>\n",
        escape(job.kind.as_str()),
        job.id,
        job.state.name(),
        escape(&remark(&job.state)),
        escape(job.args.as_str()),
    );
    if !job.state.name().is_final() {
        let _ = writeln!(
            body,
            "<form method=\"post\" action=\"/jobs/{}/cancel\"><button>Cancel it</button></form>",
            job.id
        );
    }
    for bar in &notes.progress {
        let _ = writeln!(
            body,
            "<p><label>{} <progress max=\"{}\" value=\"{}\"></progress> {} of {}</label></p>",
            escape(&bar.bar),
            bar.total,
            bar.done,
            bar.done,
            bar.total
        );
    }
    if !log.is_empty() {
        body.push_str("<h2>Log</h2>\n<pre>");
        for line in log {
            let _ = writeln!(body, "{} {}", moment(line.at), escape(&line.text));
        }
        body.push_str("</pre>\n");
    }
    body.push_str("<h2>History</h2>\n<table>\n<tr><th>When</th><th>State</th><th>Cause</th><th>Why</th></tr>\n");
    for entry in history {
        let error = entry.error.as_ref().map(ToString::to_string);
        let why = error.or(entry.reason.clone()).unwrap_or_default();
        let _ = writeln!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            entry.at,
            entry.state,
            entry.cause,
            escape(&why)
        );
    }
    body.push_str("</table>\n<p><a href=\"/\">Back</a></p>\n");
    if job.state.name().is_final() { page("Job", &body) } else { live_page("Job", &body) }
}

/// Why a request is not answered as it wished.
pub(crate) fn refusal(reason: &str) -> String {
    let body = format!(
        "<h1>That did not work</h1>\n<p>{}</p>\n<p><a href=\"/\">Back</a></p>\n",
        escape(reason)
    );
    page("That did not work", &body)
}

fn remark(state: &JobState) -> String {
    match state {
        JobState::Scheduled { run_at, cause } => format!("until {} ({cause})", moment(*run_at)),
        JobState::Failed { error, .. } => error.message.clone(),
        JobState::Deleted { reason, .. } => reason.clone(),
        JobState::Succeeded { result: Some(result), .. } => result.as_str().to_owned(),
        _ => String::new(),
    }
}

/// A text as one segment of a path.
pub(crate) fn path_segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::fields;

    #[test]
    fn the_price_of_an_article_is_the_shops() {
        let mut form = fields(&[("sku", "CUP-SET-4"), ("unit_price", "0.01")]);
        fill_in_article(&mut form).unwrap();
        assert_eq!(form["unit_price"], "32.00");
        let mut form = fields(&[("sku", "FREE"), ("unit_price", "0.00")]);
        let refusal = fill_in_article(&mut form).unwrap_err();
        assert_eq!(refusal, "`sku` is `FREE`, which the shop does not sell");
    }

    #[test]
    fn names_are_escaped() {
        let mut order = fields(&[
            ("order_id", "A/1\"<"),
            ("ordered_on", "2026-01-01"),
            ("name", "<script>x</script>"),
            ("email", "a@b.c"),
            ("sku", "T"),
            ("quantity", "1"),
            ("unit_price", "1"),
        ]);
        order.insert("currency".into(), "EUR".into());
        let order = Order::read(&order).unwrap();
        let html =
            front(&Front { orders: vec![order], order_id: "W-1".into(), ..Front::default() });
        assert!(html.contains("/invoices/A%2F1%22%3C\">A/1&quot;&lt;</a>"), "{html}");
        assert!(!html.contains("<script>"));
    }
}
