//! libFuzzer's form of the target `names`:
//! `cargo +nightly fuzz run --features libfuzzer names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::names::run(bytes);
});
