//! The sample application: a small web shop that does its work in background jobs.
pub mod config;
pub mod error;
pub mod files;
pub mod html;
pub mod ids;
pub mod import;
pub mod invoice;
pub mod letters;
pub mod mail;
pub mod model;
