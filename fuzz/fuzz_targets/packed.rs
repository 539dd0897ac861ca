#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slq_fuzz::packed(bytes));
