//! libFuzzer's form of the target `sender`:
//! `cargo +nightly fuzz run --features libfuzzer sender`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::sender::run(bytes);
});
