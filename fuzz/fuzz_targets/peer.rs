//! Feeds `alinas_csi_fuzz::peer` whatever the fuzzer comes upon.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| alinas_csi_fuzz::peer(bytes));
