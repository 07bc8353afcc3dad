//! Images of kube-proxy and CoreDNS, which kubeadm installs once and nobody else upgrades.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    core::v1::{ConfigMap, Container, PodTemplateSpec},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use kubeadm::api::spec::ImageMeta;
use manager::workload::WorkloadClient;
use serde_json::json;

use super::{Error, KUBE_SYSTEM, kubeadm_config};

/// Repositories in which CoreDNS has a folder of its own since 1.8.0.
const UPSTREAM_REPOSITORIES: [&str; 2] = ["registry.k8s.io", "k8s.gcr.io"];

/// What the add-ons shall be.
#[derive(Clone, Debug, Default)]
pub struct AddOns {
    /// Kubernetes version, with its `v`.
    pub version: String,
    /// Repository of all images; theirs where empty.
    pub repository: String,
    /// CoreDNS's image; `None` leaves it as it is.
    pub dns: Option<ImageMeta>,
    /// Whether kube-proxy is left alone.
    pub skip_kube_proxy: bool,
    /// Whether CoreDNS is left alone.
    pub skip_core_dns: bool,
}

/// Brings the add-ons' images to what they shall be. Add-ons that are not installed stay away.
pub async fn keep(client: &WorkloadClient, wanted: &AddOns) -> Result<(), Error> {
    if !wanted.skip_kube_proxy {
        keep_kube_proxy(client, wanted).await?;
    }
    if !wanted.skip_core_dns {
        keep_core_dns(client, wanted).await?;
    }
    Ok(())
}

async fn keep_kube_proxy(client: &WorkloadClient, wanted: &AddOns) -> Result<(), Error> {
    let sets: Api<DaemonSet> = Api::namespaced(client.client().clone(), KUBE_SYSTEM);
    let Some(set) = sets.get_opt("kube-proxy").await? else { return Ok(()) };
    let Some(current) = set.spec.as_ref().and_then(|spec| image_of(&spec.template, "kube-proxy")) else {
        return Ok(());
    };
    let Some(image) = kube_proxy_image(&current, wanted)? else { return Ok(()) };
    // A strategic merge finds the container by its name and leaves the others alone.
    let containers = json!([{"name": "kube-proxy", "image": image}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    sets.patch("kube-proxy", &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    Ok(())
}

async fn keep_core_dns(client: &WorkloadClient, wanted: &AddOns) -> Result<(), Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.client().clone(), KUBE_SYSTEM);
    let Some(deployment) = deployments.get_opt("coredns").await? else { return Ok(()) };
    let Some(current) = deployment.spec.as_ref().and_then(|spec| image_of(&spec.template, "coredns")) else {
        return Err(Error::Content("Deployment kube-system/coredns has no container coredns with an image".to_owned()));
    };
    let Some(image) = core_dns_image(&current, wanted)? else { return Ok(()) };
    let maps: Api<ConfigMap> = Api::namespaced(client.client().clone(), KUBE_SYSTEM);
    let Some(map) = maps.get_opt("coredns").await? else { return Ok(()) };
    if map.data.as_ref().is_none_or(|data| !data.contains_key("Corefile")) {
        return Err(Error::Content("ConfigMap kube-system/coredns has no key Corefile".to_owned()));
    }
    kubeadm_config::write_dns(client, wanted.dns.as_ref()).await?;
    // From 1.11 on no release of CoreDNS took anything away that a Corefile may use: the text stays as it is.
    let containers = json!([{"name": "coredns", "image": image}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    deployments.patch("coredns", &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    Ok(())
}

fn image_of(template: &PodTemplateSpec, name: &str) -> Option<String> {
    let containers: &[Container] = template.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers.iter().find(|container| container.name == name)?.image.clone()
}

/// An image as repository, name and tag.
struct Image<'a> {
    repository: &'a str,
    name: &'a str,
    tag: &'a str,
}

fn parse<'a>(image: &'a str, of: &str) -> Result<Image<'a>, Error> {
    let bad = |reason: &str| Error::Content(format!("the image {image} of {of} {reason}"));
    if image.contains('@') {
        return Err(bad("is pinned by a digest; remove the digest, or set the annotation that skips this add-on"));
    }
    let (path, tag) = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).ok_or_else(|| bad("has no tag"))?;
    let (repository, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok(Image { repository, name, tag })
}

fn join(repository: &str, name: &str, tag: &str) -> String {
    if repository.is_empty() { format!("{name}:{tag}") } else { format!("{repository}/{name}:{tag}") }
}

/// The image kube-proxy shall have; `None` when it has it.
fn kube_proxy_image(current: &str, wanted: &AddOns) -> Result<Option<String>, Error> {
    let Image { repository, name, .. } = parse(current, "kube-proxy")?;
    let repository = if wanted.repository.is_empty() { repository } else { wanted.repository.trim_end_matches('/') };
    let image = join(repository, name, &wanted.version.replace('+', "_"));
    Ok((image != current).then_some(image))
}

/// The image CoreDNS shall have; `None` when it has it.
fn core_dns_image(current: &str, wanted: &AddOns) -> Result<Option<String>, Error> {
    let from = parse(current, "coredns")?;
    let dns = wanted.dns.clone().unwrap_or_default();
    let asked = [&dns.image_repository, &wanted.repository].into_iter().find(|asked| !asked.is_empty());
    let repository = match asked {
        Some(asked) => asked.trim_end_matches('/').to_owned(),
        None => from.repository.to_owned(),
    };
    let tag = if dns.image_tag.is_empty() { from.tag } else { &dns.image_tag };
    let (old, new) = (release(from.tag)?, release(tag)?);
    if new < old {
        let message =
            format!("CoreDNS cannot go back from {} to {tag}: set dns.imageTag to {} or later", from.tag, from.tag);
        return Err(Error::Content(message));
    }
    if new != old && old < (1, 11, 0) {
        let message = format!(
            "CoreDNS {} is older than 1.11, whose Corefile may need changes by hand: upgrade it, or set the annotation \
             controlplane.cluster.x-k8s.io/skip-coredns",
            from.tag
        );
        return Err(Error::Content(message));
    }
    let repository = if UPSTREAM_REPOSITORIES.contains(&repository.as_str()) && new >= (1, 8, 0) {
        format!("{repository}/coredns")
    } else {
        repository
    };
    let image = join(&repository, from.name, tag);
    Ok((image != current).then_some(image))
}

/// Major, minor and patch of a tag such as `v1.12.1` or `1.12.1_vendor.2`.
fn release(tag: &str) -> Result<(u64, u64, u64), Error> {
    let numbers = tag.trim_start_matches('v');
    let numbers = numbers.split(['-', '_', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(str::parse);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok((major, minor, patch)),
        _ => Err(Error::Content(format!("the tag {tag} of CoreDNS's image is not a version such as v1.12.1"))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn add_ons(repository: &str, dns_repository: &str, dns_tag: &str) -> AddOns {
        let dns = ImageMeta { image_repository: dns_repository.to_owned(), image_tag: dns_tag.to_owned() };
        AddOns {
            version: "v1.35.6-acp.1".to_owned(),
            repository: repository.to_owned(),
            dns: Some(dns),
            ..AddOns::default()
        }
    }

    #[rstest]
    #[case("registry.k8s.io/kube-proxy:v1.34.5", "", Some("registry.k8s.io/kube-proxy:v1.35.6-acp.1"))]
    #[case("registry.k8s.io/kube-proxy:v1.35.6-acp.1", "", None)]
    #[case("a:5000/x/kube-proxy:v1", "b:5000/y/", Some("b:5000/y/kube-proxy:v1.35.6-acp.1"))]
    fn kube_proxy_follows_the_version(#[case] current: &str, #[case] repository: &str, #[case] image: Option<&str>) {
        let found = kube_proxy_image(current, &add_ons(repository, "", "")).unwrap();
        assert_eq!(found.as_deref(), image);
    }

    #[rstest]
    #[case("registry.k8s.io/coredns/coredns:v1.11.1", "", "", "", None)]
    #[case(
        "registry.k8s.io/coredns/coredns:v1.11.1",
        "",
        "",
        "v1.12.1",
        Some("registry.k8s.io/coredns/coredns:v1.12.1")
    )]
    #[case("registry.k8s.io/coredns/coredns:v1.11.1", "r.example/k8s", "", "", Some("r.example/k8s/coredns:v1.11.1"))]
    #[case("r.example/coredns:v1.11.1", "registry.k8s.io", "", "", Some("registry.k8s.io/coredns/coredns:v1.11.1"))]
    #[case("r.example/coredns:1.12.3", "x", "d.example/", "1.14.1", Some("d.example/coredns:1.14.1"))]
    fn core_dns_follows_its_tag(
        #[case] current: &str,
        #[case] repository: &str,
        #[case] dns_repository: &str,
        #[case] tag: &str,
        #[case] image: Option<&str>,
    ) {
        let found = core_dns_image(current, &add_ons(repository, dns_repository, tag)).unwrap();
        assert_eq!(found.as_deref(), image);
    }

    #[rstest]
    #[case("coredns@sha256:0", "v1.12.1", "digest")]
    #[case("r/coredns:v1.12.1", "v1.11.0", "cannot go back")]
    #[case("r/coredns:v1.9.3", "v1.12.1", "older than 1.11")]
    #[case("r/coredns:vendor", "v1.12.1", "not a version")]
    fn what_cannot_be_done_is_named(#[case] current: &str, #[case] tag: &str, #[case] said: &str) {
        let error = core_dns_image(current, &add_ons("", "", tag)).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}
