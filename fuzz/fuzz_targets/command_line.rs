//! libFuzzer's form of the target `command_line`:
//! `cargo +nightly fuzz run --features libfuzzer command_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ufx_fuzz::command_line::run(bytes);
});
