//! The embedded SQLite storage of Portfire.
