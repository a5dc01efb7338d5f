//! npm.

use async_trait::async_trait;

use super::prelude::*;

/// Its name.
pub const NAME: ProtocolName = ProtocolName::new("npm");
/// npm and pnpm ask the origin, not the registry, to exchange an OpenID Connect token.
pub const ALIASES: &[&str] = &["/-/npm/v1/oidc"];

/// Makes one.
pub fn build(_settings: Settings) -> Box<dyn Protocol> {
    Box::new(Npm)
}

struct Npm;

#[async_trait]
impl Protocol for Npm {
    async fn handle(&self, _cx: &Cx, _path: &Segments, _request: Request) -> Result<Response> {
        Err(Error::not_found("not found"))
    }

    fn render_error(&self, error: &Error) -> Response {
        Response::new(error.status())
    }
}
