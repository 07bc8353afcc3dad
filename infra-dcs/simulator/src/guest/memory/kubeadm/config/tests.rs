#![allow(clippy::unwrap_used)]
use super::*;

const INIT: &str = r#"
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  kubeletExtraArgs:
  - name: provider-id
    value: dcs://m
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
controlPlaneEndpoint: 127.7.0.1:6443
kubernetesVersion: v1.36.3
networking:
  podSubnet: 10.244.0.0/16
apiServer:
  certSANs: [API.example.org]
  extraArgs:
  - name: v
    value: "2"
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
anything: passes
"#;

fn read(text: &str, kubeadm: &str) -> Result<Init, ConfigError> {
    read_as(text, kubeadm, true)
}

fn read_as(text: &str, kubeadm: &str, is_strict: bool) -> Result<Init, ConfigError> {
    let version = Version::parse(kubeadm).unwrap();
    let defaults = Defaults {
        version: &version,
        hostname: "Machine-1",
        address: Some([127, 7, 0, 9].into()),
        fresh_token: "abcdef.0123456789abcdef",
        is_strict,
    };
    read_init(text, &defaults)
}

fn refused(text: &str, kubeadm: &str) -> String {
    read(text, kubeadm).err().unwrap().0
}

#[test]
fn an_init_is_completed_as_kubeadm_does() {
    let init = read(INIT, "v1.36.3").unwrap();
    assert_eq!(init.node.node_registration.name, "machine-1");
    assert_eq!(
        init.node.node_registration.taints.as_ref().unwrap()[0].flag(),
        "node-role.kubernetes.io/control-plane:NoSchedule"
    );
    assert_eq!(init.node.local_api_endpoint.to_string(), "127.7.0.9:6443");
    assert_eq!(init.cluster.api_server.cert_sans, ["api.example.org"]);
    assert_eq!(init.cluster.networking.service_subnet, "10.96.0.0/12");
    assert_eq!(init.cluster.etcd.local.as_ref().unwrap().data_dir, "/var/lib/etcd");
    assert_eq!(init.kubelet.unwrap()["anything"], "passes");
    assert!(init.warnings.is_empty(), "{:?}", init.warnings);
}

#[test]
fn what_is_stored_can_be_read_again() {
    let init = read(INIT, "v1.36.3").unwrap();
    for kubeadm in ["1.36.3", "1.30.9"] {
        let version = Version::parse(kubeadm).unwrap();
        let text = stored_cluster(&init.cluster, &version).unwrap();
        assert!(text.contains("certificateValidityPeriod: 8760h0m0s") == (kubeadm == "1.36.3"), "{text}");
        let version = Version::parse("1.36.0").unwrap();
        let defaults = Defaults { version: &version, hostname: "b", address: None, fresh_token: "", is_strict: true };
        assert_eq!(read_stored_cluster(&text, &defaults).unwrap(), init.cluster);
    }
}

#[test]
fn the_older_version_says_the_same() {
    let old = INIT
        .replace("v1beta4", "v1beta3")
        .replace("  - name: provider-id\n    value: dcs://m", "    provider-id: dcs://m")
        .replace("  - name: v\n    value: \"2\"", "    v: \"2\"");
    let (old, new) = (read(&old, "v1.36.3").unwrap(), read(INIT, "v1.36.3").unwrap());
    assert!(old.cluster == new.cluster && old.node == new.node);
    assert!(old.warnings[0].contains("deprecated API spec"), "{:?}", old.warnings);
}

#[test]
fn unknown_fields_are_named_with_their_path() {
    let text = INIT.replace("    value: \"2\"", "    value: \"2\"\n    twice: x\nfoo: 1");
    assert_eq!(
        refused(&text, "v1.36.3"),
        "error unmarshaling configuration schema.GroupVersionKind{Group:\"kubeadm.k8s.io\", Version:\"v1beta4\", \
         Kind:\"ClusterConfiguration\"}: strict decoding error: unknown field \"apiServer.extraArgs[0].twice\", unknown \
         field \"foo\""
    );
    let newer = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nencryptionAlgorithm: RSA-2048\n";
    assert!(refused(newer, "v1.36.3").ends_with("strict decoding error: unknown field \"encryptionAlgorithm\""));
}

#[test]
fn unknown_fields_are_warned_of_and_left_out() {
    let text = INIT.replace("    value: \"2\"", "    value: \"2\"\n    twice: x\nfoo: 1");
    let init = read_as(&text, "v1.36.3", false).unwrap();
    assert!(init.cluster == read(INIT, "v1.36.3").unwrap().cluster);
    assert_eq!(init.warnings, [refused(&text, "v1.36.3")]);
    // A field of another version is as unknown as one of none; a wrong type stays an error.
    let newer = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nencryptionAlgorithm: ECDSA-P256\n";
    assert_eq!(read_as(newer, "v1.36.3", false).unwrap().cluster.encryption_algorithm, "RSA-2048");
    assert!(read_as(&INIT.replace("\"2\"", "2"), "v1.36.3", false).is_err());
}

#[test]
fn what_kubeadm_refuses_is_refused_in_its_words() {
    for (from, to, kubeadm, why) in [
        ("", "", "v1.30.4", "no kind \"InitConfiguration\" is registered for version \"kubeadm.k8s.io/v1beta4\""),
        (
            "v1.36.3",
            "v1.33.0",
            "v1.36.3",
            "this version of kubeadm only supports deploying clusters with the control plane version >= 1.35.0. Current version: v1.33.0",
        ),
        ("v1.36.3", "one", "v1.36.3", "couldn't parse Kubernetes version"),
        (
            "10.244.0.0/16",
            "10.244.0.0/30",
            "v1.36.3",
            "networking.podSubnet: Invalid value: \"10.244.0.0/30\": subnet with 4 address(es) is too small, the minimum is 14",
        ),
        (
            "10.244.0.0/16",
            "10.0.0.0/4",
            "v1.36.3",
            "pod subnet mask (4) and node-mask (24) difference is greater than 16",
        ),
        ("127.7.0.1:6443", "a b", "v1.36.3", "controlPlaneEndpoint: Invalid value: \"a b\": endpoint is not valid"),
        ("InitConfiguration", "ClusterConfiguration", "v1.36.3", "kind \"ClusterConfiguration\" is specified twice"),
        ("kind: InitConfiguration", "kind: \"\"", "v1.36.3", "kind and apiVersion is mandatory"),
        ("v1beta4", "v1beta2", "v1.36.3", "uses an old API spec"),
        ("value: \"2\"", "value: 2", "v1.36.3", "invalid type: integer `2`, expected a string"),
    ] {
        let found = refused(&INIT.replacen(from, to, usize::from(!from.is_empty())), kubeadm);
        assert!(found.contains(why), "{found}\n{why}");
    }
}

#[test]
fn a_join_needs_a_pin_and_a_token() {
    let version = Version::parse("v1.36.3").unwrap();
    let address = Some([127, 0, 0, 9].into());
    let defaults = Defaults { version: &version, hostname: "w", address, fresh_token: "", is_strict: true };
    let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ndiscovery:\n  bootstrapToken:\n    \
                apiServerEndpoint: 127.0.0.9:6443\n    token: abcdef.0123456789abcdeF\n";
    let why = read_join(text, &defaults).err().unwrap().0;
    assert!(why.contains("caCertHashes") && why.contains("the bootstrap token is invalid"), "{why}");
    assert!(!why.contains("0123456789abcde"), "tokens are secrets: {why}");
    let good = text.replace("abcdeF", "abcdef") + "    caCertHashes: ['sha256:00']\n";
    let join = read_join(&good, &defaults).unwrap().node;
    assert_eq!(join.ca_cert_path, "/etc/kubernetes/pki/ca.crt");
    assert_eq!(join.discovery.tls_bootstrap_token, "abcdef.0123456789abcdef");
    assert_eq!(join.node_registration.taints, None);
}
