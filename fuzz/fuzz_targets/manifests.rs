#![no_main]
//! Whatever is in a manifest file, it is read or refused with words, and lengths of time and sizes print back to equal values.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tidemark::api::{Size, Span};
use tidemark::cli::manifests;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Err(error) = manifests::parse(Path::new("fuzz.yaml"), text) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse::<Span>().ok(), Some(span));
    }
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(size.to_string().parse::<Size>().ok(), Some(size));
    }
});
