//! An API server whose etcd has no quorum.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{ListParams, PostParams},
};

use super::{Bed, Echo, refused};
use crate::guest::memory::{
    etcd::{EtcdCluster, Keys, LocalMember, Model, Rules},
    testing::Hand,
};

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

struct NoKeys;

impl Keys for NoKeys {
    fn revision(&self) -> u64 {
        1
    }
}

#[tokio::test]
async fn the_member_beside_it_is_what_counts() {
    let hand = Hand::at_present();
    let (rules, limit) = (Rules::default(), Duration::from_millis(50));
    let etcd = EtcdCluster::new(Model::new(rules), limit, hand.time(), Arc::new(NoKeys));
    let url = |number: u8, port: u16| format!("https://10.0.0.{number}:{port}");
    let first = etcd.bootstrap("a", &url(1, 2380), &url(1, 2379)).unwrap();
    let local = LocalMember { cluster: Arc::clone(&etcd), id: first };
    let bed = Bed::with(Arc::new(Echo), Some(Arc::new(local))).await;
    let namespaces: Api<Namespace> = Api::all(bed.admin());
    assert!(namespaces.get("default").await.is_ok());
    let second = etcd.member_add(first, &[url(2, 2380)], false).await.unwrap().0.id;
    let timed_out = (500, "etcdserver: request timed out".to_owned());
    assert_eq!(refused(namespaces.get("default").await), timed_out, "the second voter has not started");
    assert_eq!(text(&bed, "/healthz").await.0, 500);
    let initial = [("a".to_owned(), url(1, 2380)), ("b".to_owned(), url(2, 2380))];
    assert_eq!(etcd.join("b", &url(2, 2379), &initial), Ok(second));
    assert!(namespaces.get("default").await.is_ok());
    etcd.set_db_size(second, 3 << 30);
    let maps: Api<ConfigMap> = Api::namespaced(bed.admin(), "default");
    let full = (500, "etcdserver: mvcc: database space exceeded".to_owned());
    assert_eq!(refused(maps.create(&PostParams::default(), &ConfigMap::default()).await), full);
    etcd.stop(first);
    let (code, message) = refused(namespaces.get("default").await);
    assert!(code == 500 && message.contains("connection refused"), "{message}");
}
