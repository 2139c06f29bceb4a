//! The shop as a whole: imports, customers who come and go, pages, and the program itself.

mod import;
mod lock;
mod program;
mod smtp;
mod stage;
mod story;
mod torture;
mod web;
