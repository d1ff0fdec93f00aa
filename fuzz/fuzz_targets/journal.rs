//! libFuzzer's form of the target `journal`:
//! `cargo +nightly fuzz run --features libfuzzer journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::journal::run(bytes);
});
