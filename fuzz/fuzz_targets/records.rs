//! libFuzzer's form of the target `records`:
//! `cargo +nightly fuzz run --features libfuzzer records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::records::run(bytes);
});
