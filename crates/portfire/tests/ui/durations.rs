use portfire::prelude::*;

#[job(timeout = "10 minutes")]
async fn words() {}

#[job(timeout = "10")]
async fn no_unit() {}

#[job(timeout = "1.5h")]
async fn fraction() {}

#[job(timeout = "")]
async fn empty() {}

#[job(timeout = "0s")]
async fn zero() {}

#[job(timeout = 600)]
async fn number() {}

#[job(retry(backoff = delays("1s", "5sec")))]
async fn in_a_list() {}

#[job(retention(succeeded = "-1d"))]
async fn negative() {}

#[job(timeout = "99999999999999w")]
async fn too_long() {}

fn main() {}
