//! The macros and the facade as users meet them, one binary.

mod calls;
