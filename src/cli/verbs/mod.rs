//! One verb a file.

pub mod backup;
pub mod copy;
pub mod crd;
pub mod operator;
pub mod prune;
pub mod rekey;
pub mod restore;
pub mod run;
pub mod serve;
pub mod status;
pub mod stream;
pub mod verify;
