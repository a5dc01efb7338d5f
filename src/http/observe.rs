//! `/-/health`, `/-/ready` and `/-/metrics`: exact paths that belong to the listener, whatever is mounted at `/`.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};

use crate::core::body::Body;
use crate::core::response::Response;
use crate::registry::Registry;

/// The answer, if the path is one of ours.
pub(super) async fn answer(registry: &Arc<Registry>, method: &Method, path: &str) -> Option<Response> {
    // Nearly every request ends here: nothing else begins like this but npm mounted at the root.
    let name = path.strip_prefix("/-/")?;
    if !matches!(name, "health" | "ready" | "metrics") {
        return None;
    }
    let mut response = match name {
        _ if !matches!(*method, Method::GET | Method::HEAD) => {
            Response::new(StatusCode::METHOD_NOT_ALLOWED).static_header(header::ALLOW, "GET, HEAD")
        }
        "health" => Response::with_body(StatusCode::OK, "application/json", r#"{"status":"ok"}"#),
        "ready" => {
            let readiness = registry.readiness().await;
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Response::json(status, &readiness)
        }
        _ => Response::with_body(
            StatusCode::OK,
            crate::metrics::CONTENT_TYPE,
            registry.metrics().render().into_bytes(),
        ),
    };
    response.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(length) = response.body.length() {
        response.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if *method == Method::HEAD {
        response.body = Body::Empty;
    }
    Some(response)
}
