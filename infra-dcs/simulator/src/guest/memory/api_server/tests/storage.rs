//! An API server whose etcd has no quorum.

use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{ListParams, PostParams},
};

use super::{Bed, refused};

async fn text(bed: &Bed, path: &str) -> (u16, String) {
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    match bed.admin().request_text(request).await {
        Ok(text) => (200, text),
        Err(kube::Error::Api(status)) => (status.code, status.message),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_etcd_would_have_to_answer_is_refused_with_its_words() {
    let bed = Bed::new().await;
    bed.storage.is_off.store(true, Ordering::Relaxed);
    let namespaces: Api<Namespace> = Api::all(bed.admin());
    let timed_out = (500, "etcdserver: request timed out".to_owned());
    assert_eq!(refused(namespaces.get("default").await), timed_out);
    assert_eq!(refused(namespaces.list(&ListParams::default()).await), timed_out);
    let maps: Api<ConfigMap> = Api::namespaced(bed.admin(), "default");
    assert_eq!(refused(maps.create(&PostParams::default(), &ConfigMap::default()).await), timed_out);
    let cached = namespaces.list(&ListParams::default().match_any()).await.unwrap();
    assert_eq!(cached.items.len(), 4, "the watch cache needs no etcd");
    assert!(bed.admin().apiserver_version().await.is_ok());

    let (code, report) = text(&bed, "/readyz").await;
    assert_eq!(code, 500);
    assert!(report.contains("[-]etcd failed: reason withheld\nreadyz check failed"), "{report}");
    assert_eq!(text(&bed, "/livez?exclude=etcd").await, (200, "ok".into()));
    bed.storage.is_off.store(false, Ordering::Relaxed);
    assert_eq!(text(&bed, "/readyz").await, (200, "ok".into()));
    let verbose = "[+]ping ok\n[+]log ok\n[+]etcd ok\nhealthz check passed\n";
    assert_eq!(text(&bed, "/healthz?verbose").await, (200, verbose.into()));
    assert_eq!(text(&bed, "/healthz/etcd").await, (200, "ok".into()));
    assert!(namespaces.get("default").await.is_ok());
}
