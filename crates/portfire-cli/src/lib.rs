//! The portfire command: look at a storage, steer it, measure it.
