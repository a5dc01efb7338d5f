//! Publishing, in the body of every client.

use super::*;

#[tokio::test]
async fn what_was_published_can_be_installed() {
    let registry = TestRegistry::new().await;
    for name in ["widget", "@acme/widget"] {
        let package = publish(&registry, name, "1.0.0").await;
        let document = packument(&registry, &name.replace('/', "%2f")).await;
        assert_eq!(document["dist-tags"]["latest"], "1.0.0");
        let url = document["versions"]["1.0.0"]["dist"]["tarball"].as_str().unwrap();
        assert_eq!(url, format!("http://registry.example.com{}", package.tarball_path()));
        let tarball = registry.send(TestRequest::get(&package.tarball_path())).await;
        assert_eq!(tarball.bytes(), &package.tgz());
    }
    assert_eq!(
        registry.keys(false).await,
        [
            "npm/packages/@acme/widget/acme-widget-1.0.0.tgz",
            "npm/packages/@acme/widget/index.json",
            "npm/packages/widget/index.json",
            "npm/packages/widget/widget-1.0.0.tgz",
        ]
    );
}
