//! The index of a closed file.
