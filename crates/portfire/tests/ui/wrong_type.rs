use portfire::prelude::*;

#[job]
async fn send_welcome(user_id: u64, lang: &str) -> Result<(), JobError> {
    let _ = (user_id, lang);
    Ok(())
}

async fn enqueue(client: Client) {
    let _ = client.enqueue(send_welcome("42", "en")).await;
    let _ = client.enqueue(send_welcome(42, String::from("en"))).await;
}

fn main() {}
