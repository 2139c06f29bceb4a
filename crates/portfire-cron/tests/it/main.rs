//! Cron texts as their users see them.

mod vectors;
