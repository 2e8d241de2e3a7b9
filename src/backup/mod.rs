//! (owner: see docs/architecture.md)
