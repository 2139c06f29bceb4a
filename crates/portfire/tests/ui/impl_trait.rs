use portfire::prelude::*;

#[job]
async fn takes_any(text: impl AsRef<str>) {
    let _ = text.as_ref();
}

#[job]
async fn takes_many(texts: Vec<impl AsRef<str>>) {
    let _ = texts;
}

#[job]
async fn takes_an_object(text: &dyn std::fmt::Display) {
    let _ = text.to_string();
}

#[job]
fn returns_some() -> Result<impl Sized, JobError> {
    Ok(1)
}

fn main() {}
