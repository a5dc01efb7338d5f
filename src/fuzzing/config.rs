//! The configuration, as an application writes it.

use super::input::Input;
use crate::config::Config;
use crate::core::path::Segments;
use crate::protocols::{npm, oci};

pub(super) fn run(data: &[u8]) {
    let text = Input::new(data).rest_text();
    let config = match Config::from_json(&text) {
        Ok(config) => config,
        Err(error) => {
            assert_eq!(error.status(), 400, "{text}");
            assert!(!error.message().is_empty());
            return;
        }
    };
    // A mistake is told, never worked around; and what is taken can be used.
    let _ = config.trust_proxy.resolve();
    let _ = config.storage_kind();
    for name in ["npm", "oci"] {
        let Ok(Some(protocol)) = config.protocol(name) else { continue };
        assert!(!protocol.base_path.is_empty() && Segments::parse(&protocol.base_path).is_ok(), "{text}");
        npm::fuzzing::options(&protocol);
        oci::fuzzing::options(&protocol);
    }
}
