use portfire::prelude::*;

#[job]
struct NotAFunction;

#[job]
const fn constant() {}

#[job]
unsafe fn dangerous() {}

#[job]
extern "C" fn foreign() {}

fn main() {}
