//! The sample shop.
fn main() {}
