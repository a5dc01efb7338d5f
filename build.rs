//! Tells the linker what a Node addon needs; nothing when the binding is left out.

fn main() {
    // Cargo compares paths relative to the checkout, and times: with one target folder for several checkouts it takes the
    // build of one for the build of another. The working directory tells them apart.
    println!("cargo:rerun-if-env-changed=PWD");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_NODE").is_some() {
        napi_build::setup();
    }
}
