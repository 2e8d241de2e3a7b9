//! Object names. No other module spells one; all are relative to the archive's prefix.
//!
//! ```text
//! archive.json
//! full/<id>/manifest.json
//! full/<id>/…                                        what the manifest lists
//! binlog/<server>/<file>@<created_unix>/<start>-<end>.zst
//! binlog/<server>/<file>@<created_unix>/index.json
//! ```
//! `<start>` and `<end>` are byte offsets in 20 digits, so that a listing is in file order.
