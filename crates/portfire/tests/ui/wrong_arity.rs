use portfire::prelude::*;

#[job]
async fn send_welcome(user_id: u64, lang: &str) -> Result<(), JobError> {
    let _ = (user_id, lang);
    Ok(())
}

#[derive(FromServices)]
struct Mail;

#[jobs]
impl Mail {
    #[job]
    async fn send(&self, to: &str, cx: &JobContext) -> Result<(), JobError> {
        let _ = (to, cx);
        Ok(())
    }
}

async fn enqueue(client: Client) {
    let _ = client.enqueue(send_welcome(42)).await;
    let _ = client.enqueue(Mail::job().send("a@b.c", "too many")).await;
    let _ = client.on::<Mail>().enqueue(|x| x.send()).await;
}

fn main() {}
