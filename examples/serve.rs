//! The listener without Node, for developing protocols: `cargo run --example serve --no-default-features -- --data DIR --port 0`.
//!
//! Takes `--data DIR` or `--config FILE` (JSON, as `IRegistryConfig`), `--host`, `--port`, `--cert FILE --key FILE`. Prints
//! `listening on http://127.0.0.1:PORT`; SIGTERM and Ctrl-C drain and end it. `RUST_LOG=access=info` shows each request.
//!
//! While no auth provider is built in, the token `admin` may do everything, `reader` may read, and each user's password is `password`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::sync::Arc;

use async_trait::async_trait;
use smartregistry_native::auth::{Asker, AuthProvider, AuthToken, Credentials, TokenOptions};
use smartregistry_native::config::Config;
use smartregistry_native::core::error::{Error, Result};
use smartregistry_native::core::secret::Secret;
use smartregistry_native::http::{ListenOptions, Pem, TlsOptions, listen};
use smartregistry_native::registry::{Extensions, Registry};

#[tokio::main]
async fn main() -> std::result::Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    serve().await.map_err(|error| format!("{}: {}", error.message(), error.causes()))
}

async fn serve() -> Result<()> {
    let flag = |name: &str| std::env::args().skip_while(|arg| arg != name).nth(1);
    let mut config = match flag("--config") {
        Some(file) => {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Error::invalid(format!("cannot read {file}: {error}")))?;
            Config::from_json(&text)?
        }
        None => Config::from_json(
            r#"{"storage":{"type":"memory"},
                "auth":{"jwtSecret":"development","tokenStore":"storage"},
                "oci":{"enabled":true,"basePath":"/v2"},"npm":{"enabled":true,"basePath":"/npm"}}"#,
        )?,
    };
    if let Some(data) = flag("--data") {
        config.storage.kind = None;
        config.storage.path = Some(data);
    }
    let extensions = Extensions { auth_provider: Some(Arc::new(Development)), ..Extensions::default() };
    let registry = Arc::new(Registry::new(&config, extensions)?);
    registry.init().await?;
    let tls = flag("--cert").zip(flag("--key"));
    let options = ListenOptions {
        host: flag("--host").unwrap_or_else(|| "127.0.0.1".to_owned()),
        port: flag("--port").and_then(|port| port.parse().ok()).unwrap_or(5000),
        tls: tls.map(|(cert, key)| TlsOptions { cert: Pem::File(cert.into()), key: Pem::File(key.into()) }),
        ..ListenOptions::default()
    };
    let server = listen(registry, options).await?;
    println!("listening on {}://{}", server.scheme(), server.addr());
    stopped().await;
    server.close().await;
    Ok(())
}

async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Everybody is who they say they are.
struct Development;

#[async_trait]
impl AuthProvider for Development {
    async fn authenticate(&self, credentials: &Credentials, _: Asker) -> Result<Option<String>> {
        Ok((credentials.password == Secret::new("password")).then(|| credentials.username.clone()))
    }

    async fn validate_token(&self, token: &Secret, _protocol: Option<&str>) -> Result<Option<AuthToken>> {
        let (user, readonly) = match token.expose() {
            "reader" => ("reader", true),
            "admin" => ("admin", false),
            _ => return Ok(None),
        };
        Ok(Some(AuthToken {
            kind: None,
            user_id: user.to_owned(),
            scopes: vec!["*:*:*:*".to_owned()],
            readonly,
            expires_at: None,
            metadata: None,
        }))
    }

    async fn create_token(&self, _user: &str, _protocol: &str, options: &TokenOptions) -> Result<Secret> {
        Ok(Secret::new(if options.readonly { "reader" } else { "admin" }))
    }

    async fn revoke_token(&self, _token: &Secret) -> Result<()> {
        Ok(())
    }

    async fn authorize(&self, token: Option<&AuthToken>, _resource: &str, action: &str) -> Result<bool> {
        Ok(matches!(action, "read" | "pull") || token.is_some_and(|token| !token.readonly))
    }
}
