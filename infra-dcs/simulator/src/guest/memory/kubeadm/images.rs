//! Names of the images that kubeadm uses, and which of them can be pulled.

use super::{config::types::ClusterConfiguration, version::Version};

/// Repository that kubeadm takes where none is given.
const DEFAULT_REPOSITORY: &str = "registry.k8s.io";
/// Where nobody says otherwise; by minor of the control plane, the newest last.
const ETCD: [(u32, &str); 6] =
    [(31, "3.5.15-0"), (32, "3.5.16-0"), (33, "3.5.21-0"), (34, "3.6.4-0"), (35, "3.6.8-0"), (36, "3.6.8-0")];
/// By minor of kubeadm.
const CORE_DNS: [(u32, &str); 6] =
    [(31, "v1.11.3"), (32, "v1.11.3"), (33, "v1.12.0"), (34, "v1.12.1"), (35, "v1.13.1"), (36, "v1.14.2")];
/// By minor of kubeadm.
const PAUSE: [(u32, &str); 6] =
    [(31, "3.10"), (32, "3.10"), (33, "3.10"), (34, "3.10.1"), (35, "3.10.1"), (36, "3.10.2")];

/// The entry of a minor, or that of the nearest known.
fn of_minor(table: &[(u32, &'static str)], minor: u32) -> &'static str {
    let known = table.iter().rev().find(|(known, _)| *known <= minor).or_else(|| table.first());
    known.map_or("", |(_, tag)| *tag)
}

/// The image of a component of Kubernetes itself.
pub fn kubernetes(cluster: &ClusterConfiguration, component: &str) -> String {
    let tag = cluster.kubernetes_version.replace('+', "_");
    format!("{}/{component}:{tag}", cluster.image_repository)
}

/// etcd's.
pub fn etcd(cluster: &ClusterConfiguration) -> String {
    let local = cluster.etcd.local.as_ref();
    let repository = local.map(|etcd| etcd.image_repository.as_str()).filter(|text| !text.is_empty());
    let tag = local.map(|etcd| etcd.image_tag.as_str()).filter(|text| !text.is_empty());
    let minor = Version::parse(&cluster.kubernetes_version).map_or(0, |version| version.minor);
    format!(
        "{}/etcd:{}",
        repository.unwrap_or(&cluster.image_repository),
        tag.unwrap_or_else(|| of_minor(&ETCD, minor))
    )
}

/// etcd's version, as its API tells it: the image's tag without what packaging added.
pub fn etcd_version(cluster: &ClusterConfiguration) -> String {
    let image = etcd(cluster);
    let tag = image.rsplit(':').next().unwrap_or_default();
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    tag.split('-').next().unwrap_or_default().to_owned()
}

/// CoreDNS'.
pub fn core_dns(cluster: &ClusterConfiguration, kubeadm: &Version) -> String {
    let repository =
        if cluster.dns.image_repository.is_empty() { &cluster.image_repository } else { &cluster.dns.image_repository };
    let tag =
        if cluster.dns.image_tag.is_empty() { of_minor(&CORE_DNS, kubeadm.minor) } else { &cluster.dns.image_tag };
    let folder = if repository == DEFAULT_REPOSITORY { "/coredns" } else { "" };
    format!("{repository}{folder}/coredns:{tag}")
}

/// The pause container's.
pub fn pause(cluster: &ClusterConfiguration, kubeadm: &Version) -> String {
    format!("{}/pause:{}", cluster.image_repository, of_minor(&PAUSE, kubeadm.minor))
}

/// What kubeadm pulls before it makes a control plane machine.
pub fn control_plane(cluster: &ClusterConfiguration, kubeadm: &Version) -> Vec<String> {
    let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let mut all: Vec<String> = components.iter().map(|component| kubernetes(cluster, component)).collect();
    if !cluster.proxy.disabled {
        all.push(kubernetes(cluster, "kube-proxy"));
    }
    if !cluster.dns.disabled {
        all.push(core_dns(cluster, kubeadm));
    }
    all.push(pause(cluster, kubeadm));
    if cluster.etcd.local.is_some() {
        all.push(etcd(cluster));
    }
    all
}

/// What the registries hold that machines reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registries {
    /// Prefixes of image names that are served; empty serves any.
    pub repositories: Vec<String>,
    /// Minors of Kubernetes 1 whose components are served, first and last.
    pub minors: (u32, u32),
}

impl Default for Registries {
    /// Every repository, Kubernetes 1.31 to 1.36.
    fn default() -> Self {
        Self { repositories: Vec::new(), minors: (31, 36) }
    }
}

impl Registries {
    /// Pulls an image. The error is containerd's.
    pub fn pull(&self, image: &str) -> Result<(), String> {
        let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        let component = name.rsplit('/').next().unwrap_or_default();
        let is_served = self.repositories.is_empty()
            || self
                .repositories
                .iter()
                .any(|known| name.strip_prefix(known.as_str()).is_some_and(|rest| rest.starts_with('/')));
        let is_there = match component {
            "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" | "kube-proxy" => Version::parse(tag)
                .is_some_and(|version| version.major == 1 && (self.minors.0..=self.minors.1).contains(&version.minor)),
            _ => !tag.is_empty(),
        };
        if is_served && is_there {
            return Ok(());
        }
        Err(format!(
            "rpc error: code = NotFound desc = failed to pull and unpack image {image:?}: failed to resolve reference \
             {image:?}: {image}: not found"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_kubeadms_names() {
        let cluster = ClusterConfiguration {
            kubernetes_version: "v1.36.3+vendor".into(),
            image_repository: "registry.k8s.io".into(),
            etcd: crate::guest::memory::kubeadm::config::types::Etcd {
                local: Some(Default::default()),
                external: None,
            },
            ..ClusterConfiguration::default()
        };
        let images = control_plane(&cluster, &Version::release(1, 36, 3));
        assert_eq!(
            images,
            [
                "registry.k8s.io/kube-apiserver:v1.36.3_vendor",
                "registry.k8s.io/kube-controller-manager:v1.36.3_vendor",
                "registry.k8s.io/kube-scheduler:v1.36.3_vendor",
                "registry.k8s.io/kube-proxy:v1.36.3_vendor",
                "registry.k8s.io/coredns/coredns:v1.14.2",
                "registry.k8s.io/pause:3.10.2",
                "registry.k8s.io/etcd:3.6.8-0",
            ]
        );
        assert_eq!(etcd_version(&cluster), "3.6.8");
    }

    #[test]
    fn only_what_is_served_can_be_pulled() {
        let any = Registries::default();
        assert_eq!(any.pull("cloud.example/k/kube-apiserver:v1.34.5-3"), Ok(()));
        assert!(
            any.pull("registry.k8s.io/kube-apiserver:v1.99.0").is_err_and(|why| why.ends_with(":v1.99.0: not found"))
        );
        let one = Registries { repositories: vec!["cloud.example/k".into()], ..any };
        assert_eq!(one.pull("cloud.example/k/etcd:3.6.8-0"), Ok(()));
        assert!(one.pull("cloud.example/kube/etcd:3.6.8-0").is_err());
    }
}
