use portfire::prelude::*;

#[job(queu = "mail")]
async fn misspelt() {}

#[job(retry(maximum = 3))]
async fn unknown_retry_key() {}

#[job(retry(backoff = exponential("1s", "2s")))]
async fn unknown_backoff() {}

#[job(retry(backoff = exp("1s")))]
async fn half_a_backoff() {}

#[job(retry = forever)]
async fn unknown_retry() {}

#[job(retry = 5000, retry(jitter = 2.0))]
async fn out_of_range() {}

#[job(retry(exceeded = ignore))]
async fn unknown_end() {}

#[job(retention(success = "1d"))]
async fn unknown_outcome() {}

#[job(queue = "E-Mail", name = "no spaces", priority = 40000)]
async fn illegal_names() {}

#[job(queue "mail")]
async fn no_equals() {}

#[job(queue = "a" priority = 1)]
async fn no_comma() {}

#[job(version = 2)]
async fn no_migration() {}

#[job(migrate = up)]
async fn no_version() {}

#[job(version = 0)]
async fn version_zero() {}

async fn all_of_them_are_still_jobs(client: Client) {
    let _ = client.enqueue(misspelt()).await;
    let _ = client.enqueue(illegal_names()).await;
}

fn main() {}
