//! Cron texts as their users see them.

mod changes;
mod hostile;
mod oracle;
mod random;
mod refused;
mod texts;
mod vectors;
mod walk;
mod words;
