//! The macros and the facade as users meet them, in one binary.

mod calls;
mod cron;
mod facade;
mod flows;
mod lock;
mod methods;
mod rules;
mod stage;
mod testing;
mod ties;
mod transactions;
mod versions;
