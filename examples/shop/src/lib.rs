//! The sample application: a small web shop that does its work in background jobs.
//!
//! Read first `jobs.rs` (the jobs, and why running one twice does no harm), then `shop.rs` (what they
//! do, in transactions) and `app.rs` (how storage, client and server are put together). Around them:
//!
//! - `import`: files of customers and orders; `model`: what their rows must say.
//! - `db`: the shop's tables, in the same SQLite file as the jobs.
//! - `files`, `mail`, `letters`, `invoice`: results, each exactly once.
//! - `web`, `pages`, `html`: the page. `command`, `config`, `batch`, `report`: the program.
//! - `torture`, `expected`: the program while it is killed.

pub mod app;
pub mod batch;
pub mod command;
pub mod config;
pub mod db;
pub mod error;
pub mod expected;
pub mod files;
pub mod html;
pub mod ids;
pub mod import;
pub mod invoice;
pub mod jobs;
pub mod letters;
pub mod mail;
pub mod model;
mod pages;
pub mod report;
pub mod shop;
pub mod torture;
pub mod web;
