use portfire::prelude::*;

#[job]
async fn takes_a_tuple((a, b): (u8, u8)) {
    let _ = (a, b);
}

#[job]
async fn takes_nothing(_: u8) {}

#[job]
async fn changes(list: &mut Vec<u8>) {
    list.clear();
}

#[job]
async fn lends_inside(words: Vec<&str>) {
    let _ = words;
}

#[job]
async fn unknown_attribute(#[parant] rows: u64) {
    let _ = rows;
}

#[job]
async fn unknown_key(#[arg(optional)] rows: u64) {
    let _ = rows;
}

#[job]
async fn injects_by_value(#[inject] db: String) {
    let _ = db;
}

#[job]
async fn both(#[inject] #[arg(default)] db: &String) {
    let _ = db;
}

#[job]
async fn same_alias(a: u8, #[arg(alias = "a")] b: u8) {
    let _ = (a, b);
}

struct Service;

impl Service {
    #[job]
    async fn method(&self) {}
}

fn main() {}
