//! Feeds `alinas_csi_fuzz::mountinfo` whatever the fuzzer comes upon.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As the driver does: a path of somebody else that is no UTF-8 must not hide ours.
    alinas_csi_fuzz::mountinfo(&String::from_utf8_lossy(bytes));
});
