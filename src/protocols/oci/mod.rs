//! OCI Distribution.

use async_trait::async_trait;

use super::prelude::*;

/// Its name.
pub const NAME: ProtocolName = ProtocolName::new("oci");
/// Docker, podman, containerd and helm can use no other path.
pub const ALIASES: &[&str] = &["/v2"];

/// Makes one.
pub fn build(_settings: Settings) -> Box<dyn Protocol> {
    Box::new(Oci)
}

struct Oci;

#[async_trait]
impl Protocol for Oci {
    async fn handle(&self, _cx: &Cx, _path: &Segments, _request: Request) -> Result<Response> {
        Err(Error::not_found("not found"))
    }

    fn render_error(&self, error: &Error) -> Response {
        Response::new(error.status())
    }
}
