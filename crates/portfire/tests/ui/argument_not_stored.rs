use portfire::prelude::*;
use serde::{Deserialize, Serialize};

struct Plain;

#[derive(Serialize)]
struct OneWay;

#[derive(Serialize, Deserialize)]
struct Borrowing<'a> {
    text: &'a str,
}

struct Db;
type Context = JobContext;

#[job]
async fn by_value(plain: Plain) {
    let _ = plain;
}

#[job]
async fn by_reference(plain: &Plain) {
    let _ = plain;
}

#[job]
async fn in_a_list(plain: &[OneWay]) {
    let _ = plain;
}

#[job]
async fn maybe(plain: Option<&OneWay>) {
    let _ = plain;
}

#[job]
fn borrowing(text: Borrowing<'_>) {
    let _ = text.text;
}

#[job]
async fn forgotten_inject(db: &Db) {
    let _ = db;
}

#[job]
async fn hidden_context(cx: Context) {
    let _ = cx;
}

fn main() {}
