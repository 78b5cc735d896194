//! Feeds `alinas_csi_fuzz::device_name` whatever the fuzzer comes upon.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        alinas_csi_fuzz::device_name(text);
    }
});
