//! The #[job], #[jobs], #[derive(FromServices)] and #[portfire::test] macros of Portfire.
