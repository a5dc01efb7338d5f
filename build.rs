//! Tells the linker what a Node addon needs; nothing when the binding is left out.

fn main() {
    if std::env::var_os("CARGO_FEATURE_NODE").is_some() {
        napi_build::setup();
    }
}
