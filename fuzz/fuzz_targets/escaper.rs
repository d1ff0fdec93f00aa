//! libFuzzer's form of the target `escaper`:
//! `cargo +nightly fuzz run --features libfuzzer escaper`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::escaper::run(bytes);
});
