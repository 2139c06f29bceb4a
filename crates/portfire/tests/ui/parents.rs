use portfire::prelude::*;

#[job]
async fn with_an_argument(#[parent] #[arg(default)] rows: u64) {
    let _ = rows;
}

#[job]
async fn with_a_service(#[inject] #[parent] rows: &u64) {
    let _ = rows;
}

#[job]
async fn with_something_in_it(#[parent(first)] rows: u64) {
    let _ = rows;
}

#[job]
async fn all_of_one(#[parents] rows: u64) {
    let _ = rows;
}

#[job]
async fn lends_inside(#[parent] words: ParentResult<&str>) {
    let _ = words;
}

#[job]
async fn changes(#[parent] rows: &mut Vec<u64>) {
    rows.clear();
}

struct Unreadable;

#[job]
async fn unreadable(#[parent] what: Unreadable) {
    let _ = what;
}

#[job]
async fn awaited(#[parent] rows: u64) {
    let _ = rows;
}

async fn run() {
    let _ = awaited().await;
}

fn main() {}
