//! libFuzzer's form of the target `receiver`:
//! `cargo +nightly fuzz run --features libfuzzer receiver`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::receiver::run(bytes);
});
