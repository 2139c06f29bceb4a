//! The macros and the facade as users meet them, in one binary.

mod calls;
mod cron;
mod facade;
mod lock;
mod methods;
mod stage;
mod testing;
mod ties;
mod versions;
