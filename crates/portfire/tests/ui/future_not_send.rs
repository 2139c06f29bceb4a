use std::rc::Rc;

use portfire::prelude::*;

#[job]
async fn holds_an_rc(n: u32) -> Result<(), JobError> {
    let shared = Rc::new(n);
    std::future::ready(()).await;
    let _ = shared;
    Ok(())
}

#[derive(FromServices)]
struct Service;

#[jobs]
impl Service {
    #[job]
    async fn method(&self) {
        let shared = Rc::new(1);
        std::future::ready(()).await;
        drop(shared);
    }
}

fn main() {}
