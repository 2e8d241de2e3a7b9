//! One verb a file.

pub mod crd;
