//! libFuzzer's form of the target `admission`:
//! `cargo +nightly fuzz run --features libfuzzer admission`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::admission::run(bytes);
});
