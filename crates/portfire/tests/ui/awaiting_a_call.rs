use portfire::prelude::*;

struct Db;

#[job]
async fn needs_a_service(#[inject] db: &Db) {
    let _ = db;
}

async fn in_place() {
    needs_a_service().await;
}

fn main() {}
