//! The suite that every storage of Portfire passes: one named case for each sentence of the contract.

pub mod differential;
