use portfire::prelude::*;

mod reports {
    use portfire::prelude::*;

    #[derive(serde::Serialize)]
    struct Report;

    #[job]
    pub async fn crunch() -> Result<Report, JobError> {
        Ok(Report)
    }
}

async fn enqueue(client: Client) {
    let _ = client.enqueue(reports::crunch()).await;
}

fn main() {}
