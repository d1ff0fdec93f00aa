//! libFuzzer's form of the target `packets`:
//! `cargo +nightly fuzz run --features libfuzzer packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::packets::run(bytes);
});
