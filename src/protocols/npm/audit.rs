//! `npm audit`: this registry knows of no advisories, and says so in the shape that each client expects. An error instead would break
//! every install, since installing audits.

use serde_json::json;

use super::body;
use crate::protocols::prelude::*;

/// Largest list of packages, decoded.
const LIMIT: u64 = 10 << 20;

/// `POST /-/npm/v1/security/advisories/bulk`: npm 7 and later, pnpm 11, berry, bun, deno.
pub(crate) async fn bulk(mut request: Request) -> Result<Response> {
    check(&mut request).await?;
    Ok(Response::json(StatusCode::OK, &json!({})))
}

/// `POST /-/npm/v1/security/audits[/quick]`: npm 6, pnpm 10, yarn classic.
pub(crate) async fn quick(mut request: Request) -> Result<Response> {
    check(&mut request).await?;
    let answer = json!({
        "actions": [], "advisories": {}, "muted": [],
        "metadata": {
            "vulnerabilities": { "info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0 },
            "dependencies": 0, "devDependencies": 0, "optionalDependencies": 0, "totalDependencies": 0,
        },
    });
    Ok(Response::json(StatusCode::OK, &answer))
}

/// The list is read within its limit and must be JSON, so that a broken client hears of it.
async fn check(request: &mut Request) -> Result<()> {
    let bytes = body::bytes(request, "the list of packages", LIMIT).await?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
        .map(|_| ())
        .map_err(|error| Error::invalid(format!("the list of packages is no JSON: {error}")))
}
