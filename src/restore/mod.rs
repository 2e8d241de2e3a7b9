//! Restores: a pure plan, the base load, replay by the target's own applier, and the proof.

pub mod base;
pub mod plan;
