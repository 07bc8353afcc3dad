//! Messages as apimachinery's serializer of Kubernetes 1.36 wrote them.

use serde_json::{Value, json};

use super::{Unreadable, decode};

const SECRET: &str = concat!(
    "6b3873000a0c0a027631120653656372657412d7010a94010a16626f6f7473747261702d746f6b656e2d61626364656612001a0b",
    "6b7562652d73797374656d22002a00320137380042080880e2cfaa0610005a060a01611201626a170a09436f6e6669674d61701a",
    "016f2201752a02763130008a01360a016d12065570646174651a02763122080880e2cfaa06100032084669656c647356313a0f0a",
    "0d7b22663a64617461223a7b7d7d420012090a05656d707479120012120a08746f6b656e2d696412066162636465661a1d626f6f",
    "7473747261702e6b756265726e657465732e696f2f746f6b656e28001a002200"
);
const BINDING: &str = concat!(
    "6b3873000a2b0a1c726261632e617574686f72697a6174696f6e2e6b38732e696f2f7631120b526f6c6542696e64696e6712640a",
    "240a096b75626561646d3a7812001a0b6b7562652d73797374656d22002a00320038004200120e0a0547726f757012001a016722",
    "001a2c0a19726261632e617574686f72697a6174696f6e2e6b38732e696f1204526f6c651a096b75626561646d3a781a002200"
);
const ROLE: &str = concat!(
    "6b3873000a240a1c726261632e617574686f72697a6174696f6e2e6b38732e696f2f76311204526f6c65123b0a240a096b756265",
    "61646d3a7812001a0b6b7562652d73797374656d22002a0032003800420012130a0367657412001a0a636f6e6669676d6170731a",
    "002200"
);
const EVICTION: &str = concat!(
    "6b3873000a150a09706f6c6963792f763112084576696374696f6e12180a120a017012001a016e22002a00320038004200120208",
    "001a002200"
);
const OPTIONS: &str = concat!(
    "6b3873000a130a027631120d44656c6574654f7074696f6e73122108ffffffffffffffffff0112030a0175220a466f726567726f",
    "756e642a03416c6c1a002200"
);
const LEASE: &str = concat!(
    "6b3873000a1f0a16636f6f7264696e6174696f6e2e6b38732e696f2f763112054c6561736512260a110a016c12001a0022002a00",
    "32003800420012110a001028220b0880e2cfaa06108094ef3a1a002200"
);
const NODE: &str = concat!(
    "6b3873000a0a0a02763112044e6f6465123d0a110a016e12001a0022002a0032003800420012080a0012001a0020001a1e1a0032",
    "040a0208003a140a0012001a0022002a0032003a0042004a0052001a002200"
);

fn decoded(text: &str) -> Value {
    decode(&hex::decode(text).unwrap()).unwrap()
}

#[test]
fn secrets_keep_what_their_json_would_have() {
    assert_eq!(
        decoded(SECRET),
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "bootstrap-token-abcdef", "namespace": "kube-system", "resourceVersion": "7",
                "creationTimestamp": "2023-11-14T22:13:20Z", "labels": {"a": "b"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u", "controller": false},
                ],
                "managedFields": [{
                    "manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2023-11-14T22:13:20Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}},
                }],
            },
            "type": "bootstrap.kubernetes.io/token", "immutable": false, "data": {"token-id": "YWJjZGVm", "empty": ""},
        })
    );
}

#[test]
fn roles_and_bindings() {
    let version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": "kubeadm:x", "namespace": "kube-system"});
    assert_eq!(
        decoded(BINDING),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
            "subjects": [{"kind": "Group", "name": "g"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kubeadm:x"},
        })
    );
    assert_eq!(
        decoded(ROLE),
        json!({
            "apiVersion": version, "kind": "Role", "metadata": metadata,
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}],
        })
    );
}

#[test]
fn options_keep_zeros_that_mean_something() {
    assert_eq!(
        decoded(EVICTION),
        json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "n"},
            "deleteOptions": {"gracePeriodSeconds": 0},
        })
    );
    assert_eq!(
        decoded(OPTIONS),
        json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": -1, "preconditions": {"uid": "u"},
            "propagationPolicy": "Foreground", "dryRun": ["All"],
        })
    );
    assert_eq!(
        decoded(LEASE)["spec"],
        json!({"holderIdentity": "", "leaseDurationSeconds": 40, "renewTime": "2023-11-14T22:13:20.123456Z"})
    );
}

#[test]
fn what_is_not_known_or_not_whole_is_refused() {
    assert!(matches!(decode(&hex::decode(NODE).unwrap()), Err(Unreadable::Kind)));
    for body in [&b""[..], b"{}", b"k8s\0\xff"] {
        let Err(Unreadable::Body(error)) = decode(body) else { panic!("{body:?} was read") };
        assert_eq!(error.code(), 400);
    }
    let secret = hex::decode(SECRET).unwrap();
    for length in 4..secret.len() {
        // Whatever the piece, it is read or refused.
        let _ = decode(&secret[..length]);
    }
}
