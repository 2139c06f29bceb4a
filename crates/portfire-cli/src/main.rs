//! The portfire command.
fn main() {}
