use portfire::prelude::*;

#[job]
async fn extract(order: u64) -> Result<Vec<u32>, JobError> {
    Ok(vec![order as u32])
}

#[job]
async fn load(table: &str, #[parent] rows: Vec<u32>) -> Result<(), JobError> {
    let _ = (table, rows);
    Ok(())
}

#[job]
async fn load_text(#[parent] text: &str) -> Result<(), JobError> {
    let _ = text;
    Ok(())
}

#[job]
async fn notify(channel: &str) -> Result<(), JobError> {
    let _ = channel;
    Ok(())
}

fn chains() {
    let _ = extract(7).pipe(load("t1"));
    let _ = extract(7).pipe(load_text());
    let _ = extract(7).pipe(notify("ops"));
    let _ = extract(7).pipe(load("t1")).pipe(load("t2"));
    let _ = extract(7).then(5);
}

fn main() {}
