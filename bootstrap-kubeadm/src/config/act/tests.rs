use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use kubeadm::{
    api::{spec::EncryptionAlgorithm, v1beta2::KubeadmConfigStatus},
    pki::{self, Pair, Purpose},
    token::Token,
};
use manager::{Identity, cli::ManagerArgs};
use rstest::rstest;

use super::{
    super::{
        decide::{decide, tests::facts},
        stub::{Failure, Stub},
    },
    *,
};

const CONFIG: &str = "/apis/bootstrap.cluster.x-k8s.io/v1beta2/namespaces/ns/kubeadmconfigs/m";
const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
const DATA: &str = "/api/v1/namespaces/ns/secrets/m";
const LOCK: &str = "/api/v1/namespaces/ns/configmaps/c-lock";
const MACHINES: &str = "/apis/cluster.x-k8s.io/v1beta2/namespaces/ns/machines";
const TOKENS: &str = "/workload/api/v1/namespaces/kube-system/secrets";
const TTL: Duration = Duration::from_secs(900);

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    manager: ManagerArgs,
}

/// A management cluster, a workload cluster, and an actor; the config is read back from the server for each pass.
struct World {
    stub: Stub,
    actor: Actor,
    change: Value,
    ca: Pair,
}

impl World {
    /// `change` changes the usual facts: a control plane machine `m` of cluster `c`.
    async fn new(change: Value) -> Self {
        let stub = Stub::default();
        let url = stub.serve().await;
        let ca = pki::generate(Purpose::ClusterCa, EncryptionAlgorithm::EcdsaP256, None, Timestamp::now()).unwrap();
        let kubeconfig =
            kubeadm::kubeconfig::generate("c", &url, &ca, EncryptionAlgorithm::EcdsaP256, Timestamp::now()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &kubeconfig).unwrap();
        let flags = Flags::parse_from(["test", "--kubeconfig", file.path().to_str().unwrap()]);
        let identity = Identity { name: "test", provider: "test", version: "0", lease: "test", field_manager: "test" };
        let manager = Manager::new(flags.manager, identity).await.unwrap();
        let actor = Actor::new(&manager, Settings { token_ttl: TTL });
        let world = Self { stub, actor, change, ca };
        let facts = facts(world.change.clone());
        world.stub.put(CONFIG, serde_json::to_value(facts.config.as_ref()).unwrap());
        world.stub.put(&format!("{MACHINES}/m"), json!({"metadata": {"name": "m", "namespace": "ns"}}));
        world.put_secret("c-kubeconfig", &[("value", &kubeconfig.replace(&url, &format!("{url}/workload")))]);
        world
    }

    /// Cluster and machine as they are when a worker joins.
    async fn of_worker(change: Value) -> Self {
        let mut all = json!({
            "cluster": {"status": {"initialization": {"controlPlaneInitialized": true}}},
            "machine": {"metadata": {"labels": null}},
        });
        json_patch::merge(&mut all, &change);
        let world = Self::new(all).await;
        world.put_secret("c-ca", &[("tls.crt", &world.ca.certificate)]);
        world
    }

    fn put_secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect();
        self.stub.put(
            &format!("{SECRETS}/{name}"),
            json!({"metadata": {"name": name, "namespace": "ns"}, "type": "Opaque", "data": data}),
        );
    }

    fn facts(&self) -> Facts {
        let mut facts = facts(self.change.clone());
        let config: kubeadm::api::v1beta2::KubeadmConfig =
            serde_json::from_value(self.stub.get(CONFIG).unwrap()).unwrap();
        facts.config = config.into();
        facts
    }

    /// A pass, as the reconciler makes it.
    async fn pass(&self) -> (Result<Outcome, ReconcileError>, KubeadmConfigStatus) {
        let mut facts = self.facts();
        let mut step = decide(&facts);
        if step.rests_on_data_secret() {
            match self.actor.look_at_data_secret(&facts).await {
                Ok(secret) => facts.data_secret = secret,
                Err(error) => return (Err(error), KubeadmConfigStatus::default()),
            }
            step = decide(&facts);
        }
        let mut report = Report::of(&facts);
        let outcome = self.actor.act(&facts, step, &mut report).await;
        let status = report.settle(&facts, outcome.is_ok(), Timestamp::now());
        let written = self.actor.write_status(&facts, &report, outcome.is_ok()).await;
        (outcome.and_then(|outcome| written.map(|()| outcome)), status)
    }

    /// Passes until the boot data is there.
    async fn passes(&self) {
        for _ in 0..6 {
            let _ = self.pass().await;
            if self.facts().config.is_data_secret_created() {
                return;
            }
        }
        panic!("no boot data after six passes: {:?}", self.pass().await);
    }

    fn boot_data(&self) -> String {
        text(&self.stub.get(DATA).unwrap()["data"]["value"])
    }

    fn recorded_token(&self) -> Token {
        let config = self.stub.get(CONFIG).unwrap();
        let token = config.pointer("/spec/joinConfiguration/discovery/bootstrapToken/token").unwrap();
        Token::parse(token.as_str().unwrap()).unwrap()
    }

    fn put_token(&self, token: &Token, age: i64) {
        let made = Timestamp::now() - SignedDuration::from_secs(age);
        let secret = token.secret(TTL, made);
        self.stub.put(&format!("{TOKENS}/{}", token.secret_name()), serde_json::to_value(secret).unwrap());
    }

    fn writes(&self) -> Vec<String> {
        self.stub.requests().into_iter().filter(|request| !request.starts_with("GET")).collect()
    }
}

fn bytes(text: &str) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap()
}

fn text(value: &Value) -> String {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(value.clone()).unwrap();
    String::from_utf8(bytes.0).unwrap()
}

fn said<'a>(status: &'a KubeadmConfigStatus, type_: &str) -> (&'a str, &'a str) {
    let condition = cluster_api::conditions::get(&status.conditions, type_).unwrap();
    (condition.status.as_str(), condition.message.as_str())
}

fn fast_keys() -> Value {
    json!({"config": {"spec": {"clusterConfiguration": {"encryptionAlgorithm": "ECDSA-P256"}}}})
}

#[tokio::test]
async fn the_first_machine_makes_the_cluster_then_costs_one_read_and_none_once_it_runs() {
    let mut world = World::new(fast_keys()).await;
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Settled);
    assert_eq!((said(&status, "Ready"), status.data_secret_name.as_str()), (("True", ""), "m"));
    let lock = world.stub.get(LOCK).unwrap();
    assert_eq!(lock["data"]["lock-information"], "{\"machineName\":\"m\"}");
    for name in ["c-ca", "c-etcd", "c-proxy", "c-sa"] {
        let secret = world.stub.get(&format!("{SECRETS}/{name}")).unwrap();
        assert!(world.boot_data().contains(text(&secret["data"]["tls.crt"]).lines().nth(1).unwrap()), "{name}");
    }
    let config = world.stub.get(CONFIG).unwrap();
    assert_eq!(config["spec"]["clusterConfiguration"]["controlPlaneEndpoint"], "10.0.0.1:6443");
    world.stub.requests();
    world.pass().await.0.unwrap();
    assert_eq!(world.stub.requests(), [format!("GET {DATA}")]);
    let runs = json!({"machine": {"status": {"initialization": {"infrastructureProvisioned": true}}}});
    json_patch::merge(&mut world.change, &runs);
    world.pass().await.0.unwrap();
    assert_eq!(world.stub.requests(), Vec::<String>::new());
}

/// Wherever a process dies while it makes a cluster, the next one ends with one cluster.
#[rstest]
#[tokio::test]
async fn making_the_cluster_survives_a_crash_at_every_write(
    #[values(Failure::Refused, Failure::Lost)] failure: Failure,
) {
    for write in 0.. {
        let world = World::new(fast_keys()).await;
        world.stub.fail_at(write, failure);
        let _ = world.pass().await;
        if !world.stub.mend() {
            assert!(write >= 8, "lock, four certificates, endpoint, data, status");
            return;
        }
        world.passes().await;
        for name in ["c-ca", "c-etcd", "c-proxy", "c-sa"] {
            let secret = world.stub.get(&format!("{SECRETS}/{name}")).unwrap();
            let certificate = text(&secret["data"]["tls.crt"]);
            assert!(world.boot_data().contains(certificate.lines().nth(1).unwrap()), "{failure:?} {write}: {name}");
        }
    }
}

/// Wherever a process dies while a machine gets its token, the machine gets a token that exists and is recorded.
#[rstest]
#[tokio::test]
async fn a_join_survives_a_crash_at_every_write(#[values(Failure::Refused, Failure::Lost)] failure: Failure) {
    for write in 0.. {
        let world = World::of_worker(json!({})).await;
        world.stub.fail_at(write, failure);
        for _ in 0..3 {
            let _ = world.pass().await;
        }
        if !world.stub.mend() {
            assert!(write >= 4, "token, record, data, status");
            return;
        }
        // The workload cluster is left alone for a moment after it failed.
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.passes().await;
        let token = world.recorded_token();
        assert!(world.boot_data().contains(&token.expose()), "{failure:?} {write}");
        assert!(world.stub.get(&format!("{TOKENS}/{}", token.secret_name())).is_some(), "{failure:?} {write}");
    }
}

#[tokio::test]
async fn one_token_is_made_and_recorded_before_it_is_handed_out() {
    let world = World::of_worker(json!({})).await;
    let (outcome, _) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Requeue(WAIT_FOR_RECORD));
    assert!(world.stub.get(DATA).is_none());
    let token = world.recorded_token();
    world.stub.put(LOCK, json!({"metadata": {"name": "c-lock"}}));
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Requeue(TTL / 3));
    assert_eq!(said(&status, "Ready"), ("True", ""));
    assert_eq!(world.recorded_token(), token);
    assert_eq!(world.stub.paths(TOKENS).len(), 1);
    assert!(world.stub.get(LOCK).is_none(), "the cluster is made, so the lock is free");
    let config = world.stub.get(CONFIG).unwrap();
    assert_eq!(config.pointer("/spec/joinConfiguration/controlPlane"), None);
}

#[tokio::test]
async fn a_join_of_the_control_plane_is_recorded_as_one() {
    let world =
        World::of_worker(json!({"machine": {"metadata": {"labels": {"cluster.x-k8s.io/control-plane": ""}}}})).await;
    for name in ["c-ca", "c-etcd", "c-proxy", "c-sa"] {
        world.put_secret(name, &[("tls.crt", &world.ca.certificate), ("tls.key", "K")]);
    }
    world.passes().await;
    let config = world.stub.get(CONFIG).unwrap();
    assert_eq!(config.pointer("/spec/joinConfiguration/controlPlane"), Some(&json!({})));
    assert!(world.boot_data().contains("/etc/kubernetes/pki/etcd/ca.key"));
}

#[tokio::test]
async fn a_machine_waits_for_the_holder_of_the_lock_until_that_is_gone() {
    let world = World::new(fast_keys()).await;
    world.stub.put(LOCK, serde_json::to_value(lock::held_by(&world.facts().cluster, "other")).unwrap());
    world.stub.put(&format!("{MACHINES}/other"), json!({"metadata": {"name": "other", "namespace": "ns"}}));
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Requeue(WAIT_FOR_INIT));
    let waits = ("False", "Waiting for Machine other to initialize the control plane");
    assert_eq!(said(&status, "DataSecretAvailable"), waits);
    assert!(world.stub.get(LOCK).is_some() && world.stub.get(DATA).is_none());
    world.stub.remove(&format!("{MACHINES}/other"));
    world.pass().await.0.unwrap();
    assert!(world.stub.get(LOCK).is_none(), "a stale lock is removed, and taken only by the next pass");
    world.pass().await.0.unwrap();
    assert!(world.stub.get(DATA).is_some());
}

/// A pass that was slow to come to the lock finds it free again: who made the cluster needs it no more.
#[tokio::test]
async fn a_free_lock_is_given_back_where_the_cluster_is_made_by_now() {
    let world = World::new(fast_keys()).await;
    let initialized = json!({"initialization": {"controlPlaneInitialized": true}});
    let cluster = json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {}, "status": initialized});
    world.stub.put("/apis/cluster.x-k8s.io/v1beta2/namespaces/ns/clusters/c", cluster);
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Requeue(WAIT_FOR_RECORD));
    assert_eq!(said(&status, "DataSecretAvailable").0, "False");
    assert!(world.stub.get(LOCK).is_none() && world.stub.get(DATA).is_none());
}

/// The machine that made them was given up before it made the cluster, and what its configuration owns goes with it.
#[tokio::test]
async fn certificates_of_a_machine_that_goes_change_hands() {
    let world = World::new(fast_keys()).await;
    world.passes().await;
    let authority = format!("{SECRETS}/c-ca");
    let mut secret = world.stub.get(&authority).unwrap();
    let ours = secret["metadata"]["ownerReferences"].clone();
    secret["metadata"]["ownerReferences"][0]["name"] = json!("before");
    secret["metadata"]["ownerReferences"][0]["uid"] = json!("uid-before");
    world.stub.put(&authority, secret.clone());
    let etcd = format!("{SECRETS}/c-etcd");
    let mut brought = world.stub.get(&etcd).unwrap();
    brought["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "u", "uid": "u"}]);
    world.stub.put(&etcd, brought.clone());
    let facts = world.facts();
    let made = || {
        let now = Timestamp::now();
        certificates::find_or_make(&facts, &world.actor.secrets, &world.actor.writer, world.actor.offload, now)
    };
    made().await.unwrap();
    assert_eq!(world.stub.get(&authority).unwrap()["metadata"]["ownerReferences"], ours);
    assert_eq!(world.stub.get(&etcd).unwrap()["metadata"]["ownerReferences"], brought["metadata"]["ownerReferences"]);
    // However lately it was read.
    world.stub.remove(&authority);
    made().await.unwrap();
    let anew = world.stub.get(&authority).unwrap();
    assert_ne!(anew["data"]["tls.crt"], secret["data"]["tls.crt"]);
}

#[tokio::test]
async fn a_lock_that_nobody_can_read_is_for_a_person() {
    let world = World::new(fast_keys()).await;
    world.stub.put(LOCK, json!({"metadata": {"name": "c-lock"}, "data": {"lock-information": "?"}}));
    let (_, status) = world.pass().await;
    assert!(said(&status, "DataSecretAvailable").1.starts_with("ConfigMap c-lock does not say"));
    assert!(world.stub.get(LOCK).is_some());
}

#[tokio::test]
async fn a_missing_secret_is_named_and_noticed_once_it_is_there() {
    let file = json!({"path": "/a", "contentFrom": {"secret": {"name": "files", "key": "k"}}});
    for (world, takes) in [
        (World::new(json!({"config": {"spec": {"files": [file]}}})).await, LOCK),
        (World::of_worker(json!({"config": {"spec": {"files": [file]}}})).await, TOKENS),
    ] {
        let (outcome, status) = world.pass().await;
        assert_eq!(outcome.unwrap(), Outcome::Requeue(WAIT_FOR_INPUT));
        let missing = ("False", "files[0].contentFrom: Secret files does not exist");
        assert_eq!(said(&status, "DataSecretAvailable"), missing);
        assert!(world.stub.paths(takes).is_empty(), "neither lock nor token for what cannot be made");
        world.put_secret("files", &[("other", "x")]);
        assert_eq!(
            said(&world.pass().await.1, "DataSecretAvailable").1,
            "files[0].contentFrom: Secret files has no key k"
        );
        world.put_secret("files", &[("k", "it is here")]);
        world.passes().await;
        assert!(world.boot_data().contains("it is here"));
    }
}

#[tokio::test]
async fn what_only_a_change_of_the_object_mends_is_final_and_takes_nothing() {
    let bad = json!({"machine": {"spec": {"version": "latest"}}});
    for (world, takes) in [(World::new(bad.clone()).await, LOCK), (World::of_worker(bad).await, TOKENS)] {
        let (outcome, status) = world.pass().await;
        assert_eq!(outcome.unwrap_err().category, Category::Terminal);
        assert!(said(&status, "DataSecretAvailable").1.starts_with("Machine spec.version: "));
        assert_eq!(status.observed_generation, None);
        assert!(world.stub.paths(takes).is_empty());
    }
}

#[tokio::test]
async fn missing_and_incomplete_certificates_are_named() {
    let managed = json!({"cluster": {"spec": {"controlPlaneRef": {"apiGroup": "g", "kind": "K", "name": "k"}}}});
    let world = World::new(managed).await;
    let (_, status) = world.pass().await;
    assert_eq!(said(&status, "CertificatesAvailable"), ("Unknown", "Secret c-ca does not exist"));
    assert!(world.stub.get(LOCK).is_none(), "a control plane object makes them, and until then nobody takes the lock");
    world.put_secret("c-ca", &[("tls.crt", "C"), ("tls.key", "K")]);
    world.put_secret("c-etcd", &[("tls.key", "K")]);
    assert_eq!(said(&world.pass().await.1, "CertificatesAvailable").1, "Secret c-etcd has no tls.crt");
    for name in ["c-etcd", "c-proxy", "c-sa"] {
        world.put_secret(name, &[("tls.crt", "C"), ("tls.key", "K")]);
    }
    world.passes().await;
}

#[tokio::test]
async fn a_broken_ca_is_named_and_may_be_mended() {
    let world = World::of_worker(json!({})).await;
    world.put_secret("c-ca", &[("tls.crt", "no PEM")]);
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap_err().category, Category::Waiting(WAIT_FOR_INPUT));
    assert!(said(&status, "DataSecretAvailable").1.starts_with("Secret c-ca, tls.crt: "));
    assert!(world.stub.paths(TOKENS).is_empty());
}

#[tokio::test]
async fn a_secret_of_someone_else_is_left_alone_and_named() {
    let world = World::new(fast_keys()).await;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x", "controller": true}]);
    world.stub.put(DATA, json!({"metadata": {"name": "m", "ownerReferences": owner}, "data": {"value": "eA=="}}));
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap_err().category, Category::Waiting(WAIT_FOR_INPUT));
    let told = ("False", "Secret m exists and belongs to ConfigMap x; delete or rename it");
    assert_eq!(said(&status, "DataSecretAvailable"), told);
    assert_eq!(world.boot_data(), "x");
    world.stub.remove(DATA);
    world.passes().await;
}

#[tokio::test]
async fn data_that_is_lost_before_its_machine_boots_is_made_again() {
    let world = World::of_worker(json!({})).await;
    world.passes().await;
    let (before, token) = (world.boot_data(), world.recorded_token());
    world.stub.remove(DATA);
    world.pass().await.0.unwrap();
    assert_eq!((world.boot_data(), world.recorded_token()), (before, token));
}

#[tokio::test]
async fn a_moved_config_gets_its_status_and_its_secret_gets_its_owner_back() {
    let world = World::new(json!({"machine": {"spec": {"bootstrap": {"dataSecretName": "m"}}}})).await;
    world
        .stub
        .put(DATA, json!({"metadata": {"name": "m", "namespace": "ns", "uid": "u-data"}, "data": {"value": "eA=="}}));
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Settled);
    assert_eq!((said(&status, "Ready"), status.data_secret_name.as_str()), (("True", ""), "m"));
    let secret = world.stub.get(DATA).unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "u-config");
    assert_eq!(secret["data"]["value"], "eA==");
}

#[rstest]
#[case::fresh(100, false)]
#[case::a_sixth_is_gone(160, true)]
#[case::expired(2000, true)]
#[tokio::test]
async fn a_token_is_extended_in_time(#[case] age: i64, #[case] extended: bool) {
    let world = World::of_worker(json!({})).await;
    world.passes().await;
    let token = world.recorded_token();
    world.put_token(&token, age);
    world.writes();
    let (outcome, status) = world.pass().await;
    assert_eq!(outcome.unwrap(), Outcome::Requeue(TTL / 3));
    assert_eq!(said(&status, "Ready"), ("True", ""));
    let path = format!("{TOKENS}/{}", token.secret_name());
    let expected = if extended { vec![format!("PUT {path}")] } else { vec![] };
    assert_eq!(world.writes(), expected);
    let end: Timestamp = text(&world.stub.get(&path).unwrap()["data"]["expiration"]).parse().unwrap();
    assert_eq!(end > Timestamp::now() + SignedDuration::from_secs(890), extended);
}

#[tokio::test]
async fn a_token_that_is_gone_is_said_and_never_made_again_for_a_machine() {
    let world = World::of_worker(json!({})).await;
    world.passes().await;
    let token = world.recorded_token();
    world.stub.remove(&format!("{TOKENS}/{}", token.secret_name()));
    let (outcome, status) = world.pass().await;
    assert!(matches!(outcome.unwrap_err().category, Category::Waiting(_)));
    assert!(said(&status, "DataSecretAvailable").1.ends_with("replace the machine"));
    assert!(world.stub.paths(TOKENS).is_empty() && world.recorded_token() == token);
    // It is put back: all is well again.
    world.put_token(&token, 0);
    assert_eq!(said(&world.pass().await.1, "Ready"), ("True", ""));
}

#[tokio::test]
async fn an_unreadable_expiration_is_named() {
    let world = World::of_worker(json!({})).await;
    world.passes().await;
    let path = format!("{TOKENS}/{}", world.recorded_token().secret_name());
    let mut secret = world.stub.get(&path).unwrap();
    secret["data"]["expiration"] = bytes("soon");
    world.stub.put(&path, secret);
    let (_, status) = world.pass().await;
    assert!(said(&status, "DataSecretAvailable").1.contains("expiration is no time"));
}

#[tokio::test]
async fn a_workload_cluster_that_cannot_be_asked_is_waited_for() {
    let world = World::of_worker(json!({})).await;
    world.stub.remove(&format!("{SECRETS}/c-kubeconfig"));
    let (outcome, status) = world.pass().await;
    assert!(matches!(outcome.unwrap_err().category, Category::Waiting(_)));
    let waits = ("False", "Waiting for the workload cluster: Secret c-kubeconfig does not exist yet");
    assert_eq!(said(&status, "DataSecretAvailable"), waits);
}

#[tokio::test]
async fn a_template_asks_the_control_plane_for_its_version() {
    let file = json!({"path": "/a", "content": "at {{ .controlPlane.version }}", "contentFormat": "Template"});
    let reference = json!({"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "k"});
    let world = World::of_worker(
        json!({"config": {"spec": {"files": [file]}}, "cluster": {"spec": {"controlPlaneRef": reference}}}),
    )
    .await;
    let version = json!({"groupVersion": "controlplane.cluster.x-k8s.io/v1beta2", "version": "v1beta2"});
    world.stub.put_document(
        "/apis",
        json!({"kind": "APIGroupList", "groups": [
        {"name": "controlplane.cluster.x-k8s.io", "versions": [version], "preferredVersion": version}]}),
    );
    world.stub.put_document("/apis/controlplane.cluster.x-k8s.io/v1beta2", json!({"kind": "APIResourceList",
        "groupVersion": "controlplane.cluster.x-k8s.io/v1beta2", "resources": [{"name": "kubeadmcontrolplanes",
        "singularName": "", "namespaced": true, "kind": "KubeadmControlPlane", "verbs": ["get", "list", "watch", "create"]}]}));
    let (_, status) = world.pass().await;
    let missing = "files[0].contentFormat: KubeadmControlPlane k does not exist";
    assert_eq!(said(&status, "DataSecretAvailable").1, missing);
    world.stub.put(
        "/apis/controlplane.cluster.x-k8s.io/v1beta2/namespaces/ns/kubeadmcontrolplanes/k",
        json!({"apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane", "metadata": {"name": "k"}, "spec": {"version": "v1.34.5-3"}}),
    );
    world.passes().await;
    assert!(world.boot_data().contains("at v1.34.5-3"));
}

#[tokio::test]
async fn a_paused_config_only_says_so() {
    let world = World::new(json!({"cluster": {"spec": {"paused": true}}})).await;
    world.pass().await.0.unwrap();
    assert_eq!(world.writes(), [format!("PATCH {CONFIG}/status")]);
    let config = world.facts().config;
    assert!(cluster_api::conditions::is_true(config.conditions(), "Paused"));
}

/// A worker pool whose boot data exists.
async fn pool(nodes: usize) -> World {
    let nodes: Vec<_> = (0..nodes).map(|node| json!({"name": format!("n{node}")})).collect();
    let pool = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"clusterName": "c",
        "template": {"spec": {"clusterName": "c", "version": "v1.36.3"}}}, "status": {"nodeRefs": nodes}});
    let world = World::of_worker(json!({"pool": pool})).await;
    world.passes().await;
    world
}

#[rstest]
#[case::waits_for_its_machines(0, 500, false)]
#[case::young(1, 400, false)]
#[case::half_of_its_life_is_gone(1, 500, true)]
#[tokio::test]
async fn the_token_of_a_pool_is_replaced_when(#[case] nodes: usize, #[case] age: i64, #[case] replaced: bool) {
    let world = pool(nodes).await;
    let (before, token) = (world.boot_data(), world.recorded_token());
    world.put_token(&token, age);
    world.pass().await.0.unwrap();
    assert_eq!(world.pass().await.0.unwrap(), Outcome::Requeue(TTL / 3));
    assert_eq!(world.recorded_token() != token, replaced);
    assert_eq!(world.boot_data() != before, replaced);
    assert!(world.boot_data().contains(&world.recorded_token().expose()));
    let old = world.stub.get(&format!("{TOKENS}/{}", token.secret_name()));
    assert!(old.is_some(), "machines that boot right now still join by it");
}

#[tokio::test]
async fn a_pool_gets_a_new_token_for_one_that_is_gone_even_after_a_crash() {
    for failure in [Failure::Refused, Failure::Lost] {
        for write in 0.. {
            let world = pool(0).await;
            let token = world.recorded_token();
            world.stub.remove(&format!("{TOKENS}/{}", token.secret_name()));
            world.stub.fail_at(write, failure);
            for _ in 0..2 {
                let _ = world.pass().await;
            }
            let failed = world.stub.mend();
            for _ in 0..3 {
                let _ = world.pass().await;
            }
            let fresh = world.recorded_token();
            assert!(fresh != token && world.boot_data().contains(&fresh.expose()), "{failure:?} {write}");
            assert!(world.stub.get(&format!("{TOKENS}/{}", fresh.secret_name())).is_some());
            if !failed {
                break;
            }
        }
    }
}
