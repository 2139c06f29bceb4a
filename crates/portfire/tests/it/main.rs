//! The macros and the facade as users meet them, in one binary.

mod calls;
mod methods;
mod stage;
mod versions;
