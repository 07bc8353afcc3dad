//! Objects over the wire: what kube's client does, and how watches end.

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsConnector;

use super::{Bed, refused};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "x"}}, "data": {"a": "1"}})).unwrap()
}

#[tokio::test]
async fn objects_are_made_listed_patched_and_deleted() {
    let bed = Bed::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(bed.admin(), "default");
    maps.create(&PostParams::default(), &config_map("m")).await.unwrap();
    assert_eq!(refused(maps.create(&PostParams::default(), &config_map("m")).await).0, 409);
    assert_eq!(maps.list(&ListParams::default().labels("app=x")).await.unwrap().items.len(), 1);
    assert_eq!(maps.list(&ListParams::default().fields("metadata.name=other")).await.unwrap().items.len(), 0);
    let merged = maps.patch("m", &PatchParams::default(), &Patch::Merge(json!({"data": {"b": "2"}}))).await.unwrap();
    assert_eq!(merged.data.unwrap().len(), 2);
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "9"}});
    let conflict = maps.patch("m", &PatchParams::apply("us"), &Patch::Apply(&applied)).await;
    assert_eq!(refused(conflict).0, 409);
    let forced = maps.patch("m", &PatchParams::apply("us").force(), &Patch::Apply(&applied)).await.unwrap();
    assert_eq!(forced.data.unwrap()["a"], "9");
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    assert_eq!(refused(maps.get("m").await).0, 404);
}

#[tokio::test]
async fn a_watch_tells_and_ends_with_the_server() {
    let bed = Bed::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(bed.admin(), "default");
    let watch = maps.watch(&WatchParams::default(), "0").await.unwrap();
    tokio::pin!(watch);
    maps.create(&PostParams::default(), &config_map("m")).await.unwrap();
    // The certificates of the cluster come first.
    loop {
        match watch.try_next().await.unwrap() {
            Some(WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some("m") => break,
            Some(_) => {}
            None => panic!("the watch has ended"),
        }
    }
    bed.model.send_bookmarks();
    assert!(matches!(watch.try_next().await.unwrap(), Some(WatchEvent::Bookmark(_))));
    let Bed { api, .. } = bed;
    let (ended, ()) = tokio::join!(watch.try_next(), api.stop());
    assert!(matches!(ended, Ok(None)), "{ended:?}");
}

#[tokio::test]
async fn a_power_cut_breaks_connections() {
    let bed = Bed::new().await;
    let address = bed.api.address();
    let tls = bed.authority.client_tls(None, &["http/1.1"]);
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = TlsConnector::from(tls).connect("kubernetes".try_into().unwrap(), stream).await.unwrap();
    drop(bed);
    // Nothing is said any more, not even goodbye.
    assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
    // The listener goes with the task that has it.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn both_versions_of_http_are_offered() {
    let bed = Bed::new().await;
    for protocol in ["h2", "http/1.1"] {
        let tls = bed.authority.client_tls(None, &[protocol]);
        let stream = TcpStream::connect(bed.api.address()).await.unwrap();
        let stream = TlsConnector::from(tls).connect("kubernetes".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    }
}

#[tokio::test]
async fn go_clients_write_protobuf() {
    let bed = Bed::new().await;
    bed.create_pod("p", "a");
    let post = async |path: &str, body: &str| {
        let request = http::Request::post(path)
            .header("content-type", "application/vnd.kubernetes.protobuf")
            .header("accept", "application/vnd.kubernetes.protobuf,application/json")
            .body(hex::decode(body).unwrap())
            .unwrap();
        bed.admin().request::<serde_json::Value>(request).await
    };
    // An eviction without grace, and a node, as apimachinery's serializer writes them.
    let eviction = "6b3873000a150a09706f6c6963792f763112084576696374696f6e12180a120a017012001a016e22002a003200380042001\
                    20208001a002200";
    post("/api/v1/namespaces/kube-system/pods/p/eviction", eviction).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(bed.admin(), "kube-system");
    assert_eq!(refused(pods.get("p").await).0, 404);
    let node = "6b3873000a0a0a02763112044e6f646512050a030a016e1a002200";
    let (code, message) = refused(post("/api/v1/nodes", node).await);
    assert_eq!(code, 415);
    assert!(message.ends_with("application/json, application/yaml, application/vnd.kubernetes.protobuf"), "{message}");
}

#[tokio::test]
async fn bodies_are_bounded() {
    let bed = Bed::new().await;
    let mut large = config_map("large");
    large.data = Some([("a".to_owned(), "x".repeat(4 << 20))].into());
    let maps: Api<ConfigMap> = Api::namespaced(bed.admin(), "default");
    let (code, message) = refused(maps.create(&PostParams::default(), &large).await);
    assert_eq!((code, message.as_str()), (413, "Request entity too large: limit is 3145728"));
}
