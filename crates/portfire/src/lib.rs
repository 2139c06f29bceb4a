//! Background jobs for Rust: call a function and it runs reliably, now, later or on a schedule.
