use portfire::prelude::*;

struct Db;

#[job]
async fn needs_a_service(#[inject] db: &Db) {
    let _ = db;
}

#[job]
#[deny(unused_must_use)]
async fn forgets() {
    needs_a_service();
}

async fn in_place() {
    needs_a_service().await;
}

fn main() {}
