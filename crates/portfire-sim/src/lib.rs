//! Deterministic simulation of the shipped code of Portfire: one seed, virtual time, faults and invariants.
