//! What is no filter is refused where it stands.

use portfire::prelude::*;

struct Plain;

#[job(filter = Plain)]
async fn around() {}

#[job(elect = Plain)]
async fn elected() {}

#[job(applied = Plain)]
async fn heard() {}

#[job(filter)]
async fn nothing() {}

fn main() {}
