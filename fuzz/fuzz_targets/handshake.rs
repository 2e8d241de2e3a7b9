#![no_main]
//! Every packet a server or a client may send, and the dump stream: errors, never a panic.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tidemark::mysql::wire::parse_untrusted(data));
