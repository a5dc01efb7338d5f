//! Drives `fuzzing::TARGETS` of the crate: what is checked stands there.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smartregistry_native::fuzzing::run("oci_manifest", data));
