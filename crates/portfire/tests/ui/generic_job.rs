use portfire::prelude::*;

#[job]
async fn of_any<T: Send>(value: T) {
    let _ = value;
}

#[job]
async fn of_any_size<const N: usize>(values: [u8; N]) {
    let _ = values;
}

#[job]
async fn with_a_lifetime<'a>(text: &'a str) {
    let _ = text;
}

#[job]
async fn with_a_clause(n: u8)
where
    u8: Copy,
{
    let _ = n;
}

struct Repo<D>(D);

#[jobs]
impl<D> Repo<D> {
    #[job]
    async fn vacuum(&self) {}
}

fn main() {}
