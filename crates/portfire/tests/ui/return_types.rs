use portfire::prelude::*;

struct Report;
struct NotAnError;

#[job]
async fn bare() -> u32 {
    1
}

#[job]
async fn optional() -> Option<u32> {
    None
}

#[job]
async fn not_stored() -> Result<Report, JobError> {
    Ok(Report)
}

#[job]
async fn not_an_error() -> Result<(), NotAnError> {
    Err(NotAnError)
}

#[job]
async fn never() -> ! {
    std::future::pending().await
}

#[job]
async fn lends(text: &str) -> Result<&str, JobError> {
    Ok(text)
}

type Fallible<E> = Result<(), E>;

#[job]
async fn an_alias_is_fine() -> Fallible<JobError> {
    Ok(())
}

fn main() {}
