//! A read-only image registry (OCI distribution, pull part) over the container images of the guest image.
//!
//! It stands for every registry there is: of a repository only the last element counts, so that
//! `registry.k8s.io/coredns/coredns` and `mirror.example/vendor/coredns` are one image.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::json;
use tokio_util::io::ReaderStream;

use crate::guest::image::store::{self, StoredImage};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The registry's content.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    images: HashMap<String, Vec<StoredImage>>,
}

/// What a path below `/v2/` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Manifest { repository: &'a str, reference: &'a str },
    Blob { digest: &'a str },
}

impl Registry {
    /// Opens an image store.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut images: HashMap<String, Vec<StoredImage>> = HashMap::new();
        for image in store::index(dir)? {
            images.entry(image.name.clone()).or_default().push(image);
        }
        Ok(Self { dir: dir.to_owned(), images })
    }

    /// The registry's HTTP interface.
    pub fn router(self) -> Router {
        Router::new().fallback(any(answer)).with_state(Arc::new(self))
    }

    /// Digest of the manifest that a reference (tag or digest) names.
    fn manifest(&self, repository: &str, reference: &str) -> Result<String, String> {
        let name = repository.rsplit('/').next().unwrap_or(repository);
        let images = self.images.get(name).ok_or_else(|| {
            let mut known: Vec<_> = self.images.keys().map(String::as_str).collect();
            known.sort_unstable();
            format!("there is no image `{name}` here; there are {}", known.join(", "))
        })?;
        let found = images
            .iter()
            .find(|image| if reference.contains(':') { image.manifest == reference } else { image.serves(reference) });
        found.map(|image| image.manifest.clone()).ok_or_else(|| {
            let versions: Vec<_> = images.iter().filter_map(|image| image.version.as_deref()).collect();
            format!("image `{name}` is here as {}, not as `{reference}`", versions.join(", "))
        })
    }
}

fn parse(path: &str) -> Option<Asked<'_>> {
    let path = path.strip_prefix("/v2/")?;
    if let Some((_, digest)) = path.rsplit_once("/blobs/") {
        return Some(Asked::Blob { digest });
    }
    let (repository, reference) = path.rsplit_once("/manifests/")?;
    Some(Asked::Manifest { repository, reference })
}

/// The file name of a `sha256:<hex>` digest; anything else is no digest, and never a path.
fn blob_name(digest: &str) -> Option<&str> {
    digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only");
    }
    let with_body = request.method() == Method::GET;
    let path = request.uri().path();
    if matches!(path, "/v2" | "/v2/") {
        return StatusCode::OK.into_response();
    }
    match parse(path) {
        Some(Asked::Manifest { repository, reference }) => match registry.manifest(repository, reference) {
            Ok(digest) => registry.blob(&digest, store::MANIFEST, with_body).await,
            Err(reason) => refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &reason),
        },
        Some(Asked::Blob { digest }) => registry.blob(digest, "application/octet-stream", with_body).await,
        None => refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "only manifests and blobs are served"),
    }
}

impl Registry {
    async fn blob(&self, digest: &str, media_type: &'static str, with_body: bool) -> Response {
        let unknown = || refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", digest);
        let Some(name) = blob_name(digest) else { return unknown() };
        let Ok(file) = tokio::fs::File::open(self.dir.join("blobs/sha256").join(name)).await else { return unknown() };
        let Ok(metadata) = file.metadata().await else { return unknown() };
        let body =
            if with_body { Body::from_stream(ReaderStream::with_capacity(file, 256 * 1024)) } else { Body::empty() };
        let headers = [
            (header::CONTENT_TYPE, media_type.to_owned()),
            (header::CONTENT_LENGTH, metadata.len().to_string()),
            (DIGEST, digest.to_owned()),
        ];
        (headers, body).into_response()
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({"errors": [{"code": code, "message": message}]}))).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn registry() -> Registry {
        let image = |name: &str, version: Option<&str>, manifest: &str| StoredImage {
            name: name.into(),
            version: version.map(Into::into),
            manifest: manifest.into(),
        };
        let images = [image("kube-proxy", Some("v1.36.3"), "sha256:aa"), image("etcd", None, "sha256:bb")];
        Registry { dir: PathBuf::new(), images: images.map(|image| (image.name.clone(), vec![image])).into() }
    }

    #[test]
    fn paths_are_told_apart() {
        let manifest = Asked::Manifest { repository: "vendor/etcd", reference: "3.6" };
        assert_eq!(parse("/v2/vendor/etcd/manifests/3.6"), Some(manifest));
        assert_eq!(parse("/v2/a/b/blobs/sha256:00"), Some(Asked::Blob { digest: "sha256:00" }));
        assert_eq!(parse("/v2/_catalog"), None);
        assert_eq!(parse("/etcd"), None);
    }

    #[test]
    fn any_repository_serves_an_image_and_only_its_version() {
        let registry = registry();
        for repository in ["kube-proxy", "vendor/kube-proxy", "a/b/kube-proxy"] {
            assert_eq!(registry.manifest(repository, "v1.36.3-5").as_deref(), Ok("sha256:aa"));
        }
        assert_eq!(registry.manifest("x/etcd", "v3.5.21-251117").as_deref(), Ok("sha256:bb"));
        assert_eq!(registry.manifest("x/etcd", "sha256:bb").as_deref(), Ok("sha256:bb"));
        assert!(registry.manifest("x/etcd", "sha256:aa").is_err());
        assert!(registry.manifest("kube-proxy", "v1.35.0").is_err_and(|reason| reason.contains("v1.36.3")));
        assert!(registry.manifest("x/nginx", "1").is_err_and(|reason| reason.contains("etcd, kube-proxy")));
    }

    #[tokio::test]
    async fn manifests_and_blobs_are_served_and_nothing_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let name = "a".repeat(64);
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(dir.path().join("blobs/sha256").join(&name), "{}").unwrap();
        let digest = format!("sha256:{name}");
        let index = json!([{"name": "etcd", "version": null, "manifest": digest}]);
        std::fs::write(dir.path().join("images.json"), index.to_string()).unwrap();
        let router = Registry::open(dir.path()).unwrap().router();
        let ask = async |method: Method, path: String| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
            let header = |name: HeaderName| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let (digest, kind) = (header(DIGEST), header(header::CONTENT_TYPE));
            let status = answer.status();
            let body = axum::body::to_bytes(answer.into_body(), 1024).await.unwrap();
            (status, digest, kind, body)
        };
        assert_eq!(ask(Method::GET, "/v2/".into()).await.0, StatusCode::OK);
        let (status, told, kind, body) = ask(Method::HEAD, "/v2/vendor/etcd/manifests/3.6?ns=x".into()).await;
        assert_eq!((status, told.as_deref(), kind.as_deref()), (StatusCode::OK, Some(&*digest), Some(store::MANIFEST)));
        assert!(body.is_empty());
        assert_eq!(ask(Method::GET, format!("/v2/vendor/etcd/blobs/{digest}")).await.3, "{}");
        assert_eq!(
            ask(Method::GET, format!("/v2/etcd/blobs/sha256:{}", "b".repeat(64))).await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(ask(Method::GET, "/v2/vendor/nginx/manifests/1".into()).await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(Method::POST, "/v2/vendor/etcd/blobs/uploads/".into()).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn a_digest_is_never_a_path() {
        assert!(blob_name("sha256:../../../../etc/passwd").is_none());
        assert!(blob_name(&format!("sha256:{}", "0".repeat(64))).is_some());
    }
}
