#![no_main]
//! Policy files: bytes to policies to a compiled set to a judgement, and back to the same policies.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Err(broken) = checkrein_core::policy::fuzz::exercise(bytes) {
        panic!("{broken}");
    }
});
