//! TLS: which protocol is spoken, and a certificate that is replaced under a running listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName};
use smartregistry_native::config::Config;
use smartregistry_native::core::request::Request;
use smartregistry_native::http::{HttpLimits, ListenOptions, Pem, TlsOptions, listen};
use smartregistry_native::registry::{Extensions, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::lab::{Lab, until};

struct Pair {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
}

fn write(folder: &Path, pair: &Pair) -> TlsOptions {
    std::fs::write(folder.join("cert.pem"), &pair.cert).unwrap();
    std::fs::write(folder.join("key.pem"), &pair.key).unwrap();
    TlsOptions { cert: Pem::File(folder.join("cert.pem")), key: Pem::File(folder.join("key.pem")) }
}

/// Shakes hands with a server that has exactly this certificate; the negotiated protocol and the answer to one request.
async fn talk(lab: &Lab, expected: &Pair, alpn: &[&[u8]]) -> std::io::Result<(Option<Vec<u8>>, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(expected.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(lab.addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let spoken = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let mut text = Vec::new();
    if spoken.as_deref() != Some(b"h2") {
        let request =
            format!("GET {}/origin HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", lab.base);
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut text).await?;
    }
    Ok((spoken, String::from_utf8(text).unwrap()))
}

#[tokio::test]
async fn alpn_chooses_and_links_are_https() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair();
    let lab =
        Lab::with(HttpLimits::default(), Some(write(folder.path(), &pair)), serde_json::json!({})).await;
    let (spoken, text) = talk(&lab, &pair, &[b"http/1.1"]).await.unwrap();
    assert_eq!(spoken.as_deref(), Some(b"http/1.1".as_slice()));
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"https://localhost\""), "{text}");
    assert_eq!(talk(&lab, &pair, &[b"h2", b"http/1.1"]).await.unwrap().0.as_deref(), Some(b"h2".as_slice()));
    assert_eq!(talk(&lab, &pair, &[]).await.unwrap().0, None);
    assert_eq!(lab.server.scheme(), "https");
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, newest) = (pair(), pair(), pair());
    let limits = HttpLimits { tls_reload_ms: 20, ..HttpLimits::default() };
    let lab = Lab::with(limits, Some(write(folder.path(), &old)), serde_json::json!({})).await;
    talk(&lab, &old, &[]).await.unwrap();
    // Halfway through a renewal the two files don't fit.
    std::fs::write(folder.path().join("cert.pem"), &new.cert).unwrap();
    assert!(lab.server.reload_tls().await.is_err());
    talk(&lab, &old, &[]).await.unwrap();
    write(folder.path(), &new);
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    while talk(&lab, &new, &[]).await.is_err() {
        assert!(std::time::Instant::now() < patience, "the new certificate is not taken up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(talk(&lab, &old, &[]).await.is_err());
    write(folder.path(), &newest);
    lab.server.reload_tls().await.unwrap();
    talk(&lab, &newest, &[]).await.unwrap();
}

/// A bucket's server whose certificate nobody has signed that the platform knows. It is no bucket: what counts is whether it is talked to.
#[tokio::test]
async fn the_s3_store_trusts_whom_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (good, other) = (pair(), pair());
    let lab =
        Lab::with(HttpLimits::default(), Some(write(folder.path(), &good)), serde_json::json!({})).await;
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let (cert, other) = (folder.path().join("cert.pem"), file("other.pem", &other.cert));
    let both = file("both.pem", &format!("{}{}", std::fs::read_to_string(&other).unwrap(), good.cert));
    let (bad, none) = (file("bad.pem", "nonsense"), folder.path().join("none.pem"));
    let failure = async |more: serde_json::Value| {
        let mut storage = serde_json::json!({
            "endpoint": format!("https://localhost:{}", lab.addr.port()), "bucketName": "bucket", "accessKey": "a", "accessSecret": "s",
        });
        storage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = Config::from_json(&serde_json::json!({ "storage": storage }).to_string()).unwrap();
        let error = Registry::new(&config, Extensions::default()).unwrap().init().await.unwrap_err();
        format!("{error} {}", error.causes())
    };
    let stranger = |text: &str| text.contains("UnknownIssuer") || text.contains("BadSignature");
    for more in [
        serde_json::json!({}),
        serde_json::json!({ "caFile": other }),
        serde_json::json!({ "hostCaFile": bad }),
        serde_json::json!({ "hostCaFile": none }),
    ] {
        let text = failure(more.clone()).await;
        assert!(stranger(&text), "{more}: {text}");
    }
    for more in [
        serde_json::json!({ "caFile": cert }),
        serde_json::json!({ "caFile": both }),
        serde_json::json!({ "hostCaFile": cert }),
        serde_json::json!({ "caFile": other, "hostCaFile": cert }),
    ] {
        let text = failure(more.clone()).await;
        assert!(!stranger(&text), "{more}: {text}");
    }
    for path in [bad, none] {
        let text = failure(serde_json::json!({ "caFile": path })).await;
        assert!(text.contains("option `storage.caFile`"), "{text}");
    }
}

/// An upstream that is asked for a package which it does not have.
#[tokio::test]
async fn an_upstream_trusts_whom_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (good, other) = (pair(), pair());
    let lab =
        Lab::with(HttpLimits::default(), Some(write(folder.path(), &good)), serde_json::json!({})).await;
    std::fs::write(folder.path().join("other.pem"), &other.cert).unwrap();
    let [cert, other, none] = ["cert.pem", "other.pem", "none.pem"].map(|name| folder.path().join(name));
    let ask = async |ca_file: Option<&Path>, host: Option<&Path>| {
        let config = serde_json::json!({
            "storage": { "type": "memory", "hostCaFile": host },
            "auth": { "jwtSecret": "test" },
            "npm": { "enabled": true, "basePath": "/npm" },
            "upstreams": { "npm": {
                "upstreams": [{ "id": "a", "url": format!("https://localhost:{}/npm", lab.addr.port()), "caFile": ca_file }],
                "resilience": { "maxRetries": 0 },
            } },
        });
        let config = Config::from_json(&config.to_string()).unwrap();
        let registry = Registry::new(&config, Extensions::default()).unwrap();
        registry.init().await.unwrap();
        let answer = registry.handle(Request::new(Method::GET, "/npm/widget")).await;
        let text = answer.body.into_bytes("answer", 1 << 20).await.unwrap();
        (answer.status.as_u16(), String::from_utf8(text.to_vec()).unwrap())
    };
    for (own, host) in [(None, None), (Some(&other), None), (None, Some(&none))] {
        let (status, text) = ask(own.map(PathBuf::as_path), host.map(PathBuf::as_path)).await;
        assert!(status == 503 && text.contains("can't be reached"), "{own:?} {host:?}: {status} {text}");
    }
    for (own, host) in [(Some(&cert), None), (None, Some(&cert)), (Some(&other), Some(&cert))] {
        let (status, text) = ask(own.map(PathBuf::as_path), host.map(PathBuf::as_path)).await;
        assert_eq!(status, 404, "{own:?} {host:?}: {text}");
    }
    let (status, text) = ask(Some(&none), None).await;
    assert!(status == 503 && text.contains("option `caFile`"), "{status} {text}");
}

#[tokio::test]
async fn unusable_files_are_named_and_silence_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let pair = pair();
    let good = write(folder.path(), &pair);
    let limits = HttpLimits { header_timeout_ms: 200, ..HttpLimits::default() };
    let lab = Lab::with(limits, Some(good.clone()), serde_json::json!({})).await;
    let mut silent = lab.connect().await;
    assert!(silent.is_closed().await, "a handshake that never begins is not awaited forever");
    let cases = [
        (Pem::File(folder.path().join("none.pem")), good.key.clone(), "tls.cert"),
        (Pem::Text(b"nonsense".to_vec()), good.key.clone(), "tls.cert"),
        (good.cert.clone(), Pem::Text(pair.cert.clone().into_bytes()), "tls.key"),
    ];
    for (cert, key, option) in cases {
        let options = ListenOptions { tls: Some(TlsOptions { cert, key }), ..ListenOptions::default() };
        let error = listen(Arc::clone(&lab.registry), options).await.err().unwrap();
        assert!(error.message().contains(option), "{error}");
        assert!(!error.message().contains("PRIVATE"), "{error}");
    }
    until("nothing is left", || lab.registry.metrics().render().contains("requests_in_flight 0")).await;
}
