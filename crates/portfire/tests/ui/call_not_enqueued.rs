#![deny(unused_must_use)]

use portfire::prelude::*;

#[job]
async fn send_welcome() {}

fn forgets() {
    send_welcome();
}

fn main() {
    forgets();
}
