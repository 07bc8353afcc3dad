//! The clients' limits and what they make of an overloaded server's answer, over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Config};
use manager::{Category, ReconcileError, client};

async fn refusing(code: StatusCode, wait: &'static str) -> ReconcileError {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let answer = move || async move { (code, [("retry-after", wait)], "Too many requests, please try again later.\n") };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = axum::serve(listener, Router::new().fallback(get(answer)));
    tokio::spawn(async move { server.await });
    let config = Config::new(format!("http://{address}").parse().unwrap());
    let clients = client::clients(config, "test/1", None).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(clients.call, "ns");
    api.get("a").await.unwrap_err().into()
}

#[tokio::test]
async fn the_wait_that_a_server_asks_for_by_header_is_kept() {
    let error = refusing(StatusCode::TOO_MANY_REQUESTS, "7").await;
    assert_eq!(error.category, Category::Throttled(Duration::from_secs(7)));
    assert!(error.to_string().contains("Too many requests"), "{error}");
    let error = refusing(StatusCode::SERVICE_UNAVAILABLE, "3").await;
    assert_eq!(error.category, Category::Throttled(Duration::from_secs(3)));
    let error = refusing(StatusCode::INTERNAL_SERVER_ERROR, "3").await;
    assert_eq!(error.category, Category::Transient);
}
