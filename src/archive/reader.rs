//! A file's bytes.
