#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pygate_fuzz::run("llm_stream", data));
