//! A workload cluster made from the published DCS manifests: only their `<…>` values are filled in, and replica
//! counts where a scenario wants others.

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use xtask::paths;

use crate::{ground::Ground, manifests};

/// Namespace in which DCS users keep everything.
pub const NAMESPACE: &str = "cpaas-system";

/// Addresses of one cluster: endpoint, control plane pool, and from [`WORKERS`] on the worker pool.
const BLOCK: u16 = 32;
/// Addresses before the first block are the site's own.
const BLOCKS_FROM: u16 = 256;
/// Where the workers' addresses begin in a block.
const WORKERS: u16 = 10;
/// The site's network is a /16.
pub const LAST_INDEX: u16 = (u16::MAX - BLOCKS_FROM) / BLOCK - 1;

/// Boot configuration that the bootstrap provider writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BootFormat {
    /// Ignition, as in the published manifests
    Ignition,
    /// cloud-init
    CloudConfig,
}

/// How many machines a cluster has.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Replicas {
    /// Number of control plane machines (odd)
    #[arg(long, default_value_t = 3)]
    pub control_plane: u32,
    /// Number of worker machines
    #[arg(long, default_value_t = 2)]
    pub workers: u32,
}

/// What a scenario wants of a cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Name of the cluster; also the prefix of its objects.
    pub name: String,
    /// Namespace of its objects.
    pub namespace: String,
    /// Position on the site: every cluster has addresses of its own. 0 to [`LAST_INDEX`].
    pub index: u16,
    /// Control plane machines, 1 to 3.
    pub control_plane: u32,
    /// Worker machines, 0 to 3: the size of the published pool.
    pub workers: u32,
    /// Kubernetes version, with its `v`.
    pub version: String,
    /// Boot configuration.
    pub boot: BootFormat,
    /// What the environment stands on.
    pub ground: Ground,
}

impl Shape {
    /// Address of the cluster's API server at the site's load balancer.
    pub fn endpoint(&self) -> Ipv4Addr {
        self.address(0)
    }

    /// Addresses of the control plane pool.
    pub fn control_plane_addresses(&self) -> Vec<Ipv4Addr> {
        (1..=3).map(|number| self.address(number)).collect()
    }

    /// Address of a worker, by its number in the pool: 1 to 21.
    pub fn worker_address(&self, number: u8) -> Ipv4Addr {
        self.address(WORKERS + u16::from(number))
    }

    fn address(&self, number: u16) -> Ipv4Addr {
        let [third, fourth] = (BLOCKS_FROM + self.index * BLOCK + number).to_be_bytes();
        self.ground.address(third, fourth)
    }

    /// The load balancer that the operator set up beforehand: its back ends are the whole control plane pool.
    pub fn balancer(&self) -> String {
        let backends: Vec<String> = self.control_plane_addresses().iter().map(Ipv4Addr::to_string).collect();
        format!("{}:6443={}", self.endpoint(), backends.join(","))
    }

    /// All objects of the cluster, in the order of the published pages.
    pub fn objects(&self) -> Result<Vec<Value>> {
        let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})];
        let values = self.values();
        for (file, chosen) in PUBLISHED {
            let path = paths::workspace().join("e2e/manifests/published").join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let page = pages(&text);
            for index in *chosen {
                let document = page.get(*index).with_context(|| format!("{file} has no document {index}"))?;
                let text = fill(document, &values)?;
                objects.extend(manifests::documents(&text).with_context(|| format!("{file}, document {index}"))?);
            }
        }
        for object in &mut objects {
            self.adjust(object);
        }
        if self.workers == 0 {
            objects.retain(|object| !is_for_workers(object));
        }
        Ok(objects)
    }

    fn adjust(&self, object: &mut Value) {
        if object["kind"] != "Namespace" {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        for pointer in ["/spec/template/spec/bootstrap/configRef", "/spec/template/spec/infrastructureRef"] {
            if let Some(reference) = object.pointer_mut(pointer) {
                reference["namespace"] = json!(self.namespace);
            }
        }
        match object["kind"].as_str() {
            Some("KubeadmControlPlane") => {
                object["spec"]["replicas"] = json!(self.control_plane);
                if self.control_plane < 3 {
                    // The published 0 is refused below three machines: the last member of etcd cannot go first.
                    object["spec"]["rolloutStrategy"]["rollingUpdate"]["maxSurge"] = json!(1);
                }
            }
            Some("MachineDeployment") => object["spec"]["replicas"] = json!(self.workers),
            _ => {}
        }
        if self.boot == BootFormat::CloudConfig {
            for pointer in ["/spec/kubeadmConfigSpec", "/spec/template/spec"] {
                if let Some(spec) = object.pointer_mut(pointer)
                    && spec.get("format").is_some()
                {
                    spec["format"] = json!("cloud-config");
                }
            }
        }
    }

    /// Values of the placeholders of the published pages.
    fn values(&self) -> BTreeMap<String, String> {
        let name = &self.name;
        let mut values = BTreeMap::new();
        let mut set = |key: &str, value: String| {
            values.insert(key.to_owned(), value);
        };
        set("cluster-name", name.clone());
        set("auth-secret-name", format!("{name}-credentials"));
        set("plain-text-auth-user", "basalt".into());
        set("plain-text-auth-key", "Basalt@12345".into());
        set("plain-text-endpoint", self.ground.endpoint());
        set("plain-text-user-type", "interconnect".into());
        set("iphostname-pool-name", format!("{name}-cp-pool"));
        set("machine-template-name", format!("{name}-cp-template"));
        set("cp-dcs-machine-template-name", format!("{name}-cp-template"));
        set("load-balancer-ip-or-domain-name", self.endpoint().to_string());
        set("site", "5A1C0D3E".into());
        set("vm-template-name", "basalt-node".into());
        set("folder-name", "kubernetes".into());
        set("dv-switch-name", "dvs-kubernetes".into());
        set("port-group-name", "pg-nodes".into());
        set("additional-dvs", "dvs-kubernetes".into());
        set("additional-port-group", "pg-storage".into());
        set("datastore-cluster-name", "dsc-kubernetes".into());
        set("control-plane-kubernetes-version", self.version.clone());
        set("worker-kubernetes-version", self.version.clone());
        set("dns-image-tag", "1.14.2".into());
        set("etcd-image-tag", "v3.6.14".into());
        set(
            "ssh-authorized-keys",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExam demo".into(),
        );
        set("base64-encoded-secret", STANDARD.encode(rand::random::<[u8; 32]>()));
        set("pods-cidr", format!("10.{}.0.0/16", 120 + self.index % 100));
        set("services-cidr", format!("10.{}.0.0/16", 20 + self.index % 50));
        set("kube-ovn-join-cidr", "100.64.0.0/16".into());
        for (key, value) in [("cpu-cores", "4"), ("worker-cpu", "4"), ("memory-mb", "4096"), ("worker-memory", "4096")]
        {
            set(key, value.into());
        }
        for (host, control_plane) in (1..=3_u8).zip(self.control_plane_addresses()) {
            for (prefix, role, ip) in [("", "cp", control_plane), ("worker-", "worker", self.worker_address(host))] {
                set(&format!("{prefix}ip-{host}"), ip.to_string());
                set(&format!("{prefix}hostname-{host}"), format!("{name}-{role}-{host}"));
                set(&format!("{prefix}machine-name-{host}"), format!("{name}-{role}-{host}"));
                let [first, second, third, fourth] = ip.octets();
                let extra = Ipv4Addr::new(first, second + 1, third, fourth);
                set(&format!("{prefix}additional-ip-{host}"), extra.to_string());
            }
        }
        for prefix in ["", "worker-"] {
            set(&format!("{prefix}cidr-prefix-length"), "16".into());
            set(&format!("{prefix}gateway"), self.ground.address(0, 1).to_string());
            set(&format!("{prefix}dns"), self.ground.address(0, 1).to_string());
            set(&format!("{prefix}additional-cidr-prefix-length"), "16".into());
            set(&format!("{prefix}additional-gateway"), String::new());
            set(&format!("{prefix}additional-dns"), String::new());
        }
        values
    }
}

/// Documents of each published page that make a cluster. The pages also show variants: encoded and plain Secrets,
/// a pool with persistent disks, an abbreviated control plane, a list of files to paste.
const PUBLISHED: &[(&str, &[usize])] =
    &[("infrastructure.yaml", &[1, 2, 5]), ("create-cluster.yaml", &[1, 2, 3]), ("workers.yaml", &[0, 1, 2, 3])];

fn is_for_workers(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    ["-worker-pool", "-worker-template", "-worker-kct", "-md-0"].iter().any(|suffix| name.ends_with(suffix))
}

/// The documents of a page, as text.
fn pages(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// Replaces every `<name>`; fails on one that has no value.
fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (before, from) = rest.split_at(start);
        filled.push_str(before);
        let name = from[1..].split('>').next().unwrap_or_default();
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if is_name && from.len() > name.len() + 1 {
            let Some(value) = values.get(name) else { bail!("the manifests ask for <{name}>, which has no value") };
            filled.push_str(value);
            rest = &from[name.len() + 2..];
        } else {
            filled.push('<');
            rest = &from[1..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(boot: BootFormat) -> Shape {
        Shape {
            name: "demo".into(),
            namespace: NAMESPACE.into(),
            index: 0,
            control_plane: 3,
            workers: 2,
            version: "v1.36.3".into(),
            boot,
            ground: Ground::ISOLATED,
        }
    }

    #[test]
    fn published_pages_make_a_whole_cluster() {
        let objects = shape(BootFormat::Ignition).objects().unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "Secret",
                "DCSIpHostnamePool",
                "DCSMachineTemplate",
                "DCSCluster",
                "Cluster",
                "KubeadmControlPlane",
                "DCSIpHostnamePool",
                "DCSMachineTemplate",
                "KubeadmConfigTemplate",
                "MachineDeployment",
            ]
        );
        assert!(!manifests::list(&objects).contains("... ("), "an abbreviated example was taken");
    }

    #[test]
    fn every_cluster_has_addresses_of_its_own() {
        let mut all = std::collections::BTreeSet::new();
        for index in 0..=LAST_INDEX {
            let shape = Shape { index, ..shape(BootFormat::Ignition) };
            all.insert(shape.endpoint());
            all.extend(shape.control_plane_addresses());
            all.extend((1..=21).map(|number| shape.worker_address(number)));
        }
        assert_eq!(all.len(), (usize::from(LAST_INDEX) + 1) * 25);
        assert!(all.contains(&Ipv4Addr::new(10, 77, 1, 0)), "the first endpoint");
        assert!(!all.contains(&Ipv4Addr::BROADCAST));
    }

    #[test]
    fn cloud_config_changes_nothing_but_the_format() {
        let ignition = shape(BootFormat::Ignition).objects().unwrap();
        let cloud = shape(BootFormat::CloudConfig).objects().unwrap();
        let count = |objects: &[Value], text: &str| manifests::list(objects).matches(text).count();
        assert_eq!(count(&ignition, r#""format":"ignition""#), 2);
        assert_eq!(count(&cloud, r#""format":"cloud-config""#), 2);
    }

    #[test]
    fn a_placeholder_without_value_is_named() {
        let error = fill("name: <no-such-thing>", &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("<no-such-thing>"));
    }
}
