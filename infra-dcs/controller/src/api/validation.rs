//! What the schema cannot say. Every error names its field and the cure.

pub mod neighbours;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::Ipv4Net;
use kubeadm::api::{
    v1beta2::TemplateMeta,
    validation::{is_subdomain, validate_metadata},
};
use manager::webhook::FieldError;

use super::{
    DCSCluster, DCSClusterSpec, DCSClusterTemplate, DCSIpHostnamePool, DCSMachine, DCSMachineSpec, DCSMachineTemplate,
    cluster::LoadBalancerType,
    machine::{DiskSpec, Location, VmConfig},
    pool::{PersistentDisk, PoolEntry},
};
use crate::{claims, disks::record};

/// Warnings for the user, or what is wrong.
pub type Verdict = Result<Vec<String>, Vec<FieldError>>;

/// Mount points that the platform expects on disks of their own, and whether only control planes need them.
const EXPECTED_DISKS: [&str; 2] = ["/var/lib/kubelet", "/var/lib/containerd"];
/// What a name must be that becomes part of others.
const DNS_LABEL: &str = "must be 1 to 63 lower-case letters, digits and hyphens, and not begin or end with a hyphen";
/// Last VIRTIO sequence number.
const LAST_SEQUENCE: i64 = 25;

#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    fn verdict(self, warnings: Vec<String>) -> Verdict {
        if self.0.is_empty() { Ok(warnings) } else { Err(self.0) }
    }
}

/// Judges a `DCSCluster`.
pub fn cluster(old: Option<&DCSCluster>, new: &DCSCluster) -> Verdict {
    let mut errors = Errors::default();
    let (spec, balancer) = (&new.spec, &new.spec.control_plane_load_balancer);
    let name = new.metadata.name.as_deref().unwrap_or_default();
    if old.is_none() && !is_dns_label(name) {
        errors.add("metadata.name", format!("{name:?} {DNS_LABEL}"));
    }
    cluster_spec(spec, "spec", &mut errors);
    if balancer.type_ == LoadBalancerType::Internal && balancer.host.parse::<Ipv4Addr>().is_err() {
        errors.add("spec.controlPlaneLoadBalancer.host", "must be an IPv4 address when type is internal");
    } else if balancer.host.parse::<IpAddr>().is_err() && !is_subdomain(&balancer.host) {
        let message = format!("{:?} must be an address or a DNS name, without a scheme or port", balancer.host);
        errors.add("spec.controlPlaneLoadBalancer.host", message);
    }
    if let Some(endpoint) = &spec.control_plane_endpoint
        && (endpoint.host != balancer.host || endpoint.port != balancer.port)
    {
        errors.add(
            "spec.controlPlaneEndpoint",
            format!("must be the same as controlPlaneLoadBalancer, {}:{}", balancer.host, balancer.port),
        );
    }
    if let Some(old) = old {
        fixed_when_provisioned(old, new, &mut errors);
    }
    errors.verdict(Vec::new())
}

/// What holds of clusters and of what they are made from.
fn cluster_spec(spec: &DCSClusterSpec, path: &str, errors: &mut Errors) {
    let balancer = &spec.control_plane_load_balancer;
    if spec.credential_secret_ref.name.is_empty() {
        errors.add(format!("{path}.credentialSecretRef.name"), "must name the Secret with the site's credentials");
    }
    if spec.network_type != "kube-ovn" {
        let message = format!("{:?} is not supported; use \"kube-ovn\"", spec.network_type);
        errors.add(format!("{path}.networkType"), message);
    }
    if balancer.type_ == LoadBalancerType::Internal && !balancer.vrid.is_some_and(|vrid| (1..=255).contains(&vrid)) {
        errors.add(format!("{path}.controlPlaneLoadBalancer.vrid"), "must be 1 to 255 when type is internal");
    }
}

/// Judges a `DCSClusterTemplate`. Addresses are not judged: patches of a class put them in. `old` is left out where a
/// change is only tried.
pub fn cluster_template(old: Option<&DCSClusterTemplate>, new: &DCSClusterTemplate) -> Verdict {
    let mut errors = Errors::default();
    cluster_spec(&new.spec.template.spec, "spec.template.spec", &mut errors);
    template_metadata(new.spec.template.metadata.as_ref(), &mut errors);
    if old.is_some_and(|old| old.spec.template.spec != new.spec.template.spec) {
        errors.add("spec.template.spec", "cannot be changed; make another template and let the class name it");
    }
    errors.verdict(Vec::new())
}

fn template_metadata(metadata: Option<&super::template::TemplateMeta>, errors: &mut Errors) {
    let Some(metadata) = metadata else { return };
    let metadata = TemplateMeta {
        labels: metadata.labels.clone().unwrap_or_default(),
        annotations: metadata.annotations.clone().unwrap_or_default(),
    };
    for found in validate_metadata(&metadata, "spec.template.metadata") {
        errors.add(found.field, found.message);
    }
}

/// Other machines know the endpoint and the site once the infrastructure is there.
fn fixed_when_provisioned(old: &DCSCluster, new: &DCSCluster, errors: &mut Errors) {
    let status = old.status.clone().unwrap_or_default();
    if status.ready != Some(true) {
        return;
    }
    let (before, after) = (&old.spec, &new.spec);
    for (field, same) in [
        ("spec.controlPlaneLoadBalancer", before.control_plane_load_balancer == after.control_plane_load_balancer),
        (
            "spec.controlPlaneEndpoint",
            before.control_plane_endpoint.is_none() || before.control_plane_endpoint == after.control_plane_endpoint,
        ),
        (
            "spec.encryptionProviderConfigRef",
            before.encryption_provider_config_ref == after.encryption_provider_config_ref,
        ),
        ("spec.networkType", before.network_type == after.network_type),
        ("spec.site", before.site.is_none() || before.site == after.site),
    ] {
        if !same {
            errors.add(field, "cannot be changed once the infrastructure is ready; make a new cluster instead");
        }
    }
}

/// Judges a `DCSMachine`.
pub fn machine(old: Option<&DCSMachine>, new: &DCSMachine) -> Verdict {
    let mut errors = Errors::default();
    let warnings = machine_spec(&new.spec, "spec", &mut errors);
    if let Some(old) = old {
        let (before, after) = (&old.spec, &new.spec);
        for (field, same) in [
            ("spec.vmTemplateName", before.vm_template_name == after.vm_template_name),
            ("spec.ipHostPoolRef", before.ip_host_pool_ref == after.ip_host_pool_ref),
            ("spec.vmConfig", before.vm_config == after.vm_config),
            ("spec.location", before.location == after.location),
            ("spec.resource", before.resource == after.resource),
            ("spec.providerID", before.provider_id.is_none() || before.provider_id == after.provider_id),
        ] {
            if !same {
                errors.add(field, "cannot be changed on a machine; change the template and roll out instead");
            }
        }
    }
    errors.verdict(warnings)
}

/// Judges a `DCSMachineTemplate`. It may be edited in place: one documented migration of disks does so.
pub fn template(new: &DCSMachineTemplate) -> Verdict {
    let mut errors = Errors::default();
    let spec = &new.spec.template.spec;
    for (field, value) in [("providerID", &spec.provider_id), ("vmUrn", &spec.vm_urn)] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            errors.add(format!("spec.template.spec.{field}"), "must be empty in a template; the provider writes it");
        }
    }
    template_metadata(new.spec.template.metadata.as_ref(), &mut errors);
    let warnings = machine_spec(spec, "spec.template.spec", &mut errors);
    errors.verdict(warnings)
}

fn machine_spec(spec: &DCSMachineSpec, path: &str, errors: &mut Errors) -> Vec<String> {
    if spec.vm_template_name.is_empty() {
        errors.add(format!("{path}.vmTemplateName"), "must name a VM template of the site");
    }
    if spec.ip_host_pool_ref.name.is_empty() {
        errors.add(format!("{path}.ipHostPoolRef.name"), "must name a DCSIpHostnamePool");
    }
    for (field, place) in [("location", &spec.location), ("resource", &spec.resource)] {
        if let Some(place) = place {
            place_is_valid(place, &format!("{path}.{field}"), errors);
        }
    }
    if spec.resource.as_ref().is_some_and(|resource| resource.type_ == "folder") {
        errors.add(format!("{path}.resource.type"), "must be \"cluster\"; a folder belongs into location");
    }
    if let Some(config) = &spec.vm_config {
        vm_config(config, &format!("{path}.vmConfig"), errors)
    } else {
        errors.add(format!("{path}.vmConfig"), "must give CPU, memory and disks");
        Vec::new()
    }
}

fn place_is_valid(place: &Location, path: &str, errors: &mut Errors) {
    if !matches!(place.type_.as_str(), "folder" | "cluster") {
        errors.add(format!("{path}.type"), format!("{:?} is unknown; use \"folder\" or \"cluster\"", place.type_));
    }
    if is_empty(place.name.as_ref()) && is_empty(place.urn.as_ref()) {
        errors.add(path, "must give a name or a urn");
    }
}

fn vm_config(config: &VmConfig, path: &str, errors: &mut Errors) -> Vec<String> {
    for (field, quantity) in [
        ("dcsMachineCpuSpec", config.dcs_machine_cpu_spec.quantity),
        ("dcsMachineMemorySpec", config.dcs_machine_memory_spec.quantity),
    ] {
        if quantity < 1 {
            errors.add(format!("{path}.{field}.quantity"), "must be at least 1");
        }
    }
    exclusive(
        path,
        ("portGroupName", config.port_group_name.as_ref()),
        ("portGroupUrn", config.port_group_urn.as_ref()),
        errors,
    );
    exclusive(
        path,
        ("cdRomDatastoreName", config.cd_rom_datastore_name.as_ref()),
        ("cdRomDatastoreClusterName", config.cd_rom_datastore_cluster_name.as_ref()),
        errors,
    );
    disks(&config.dcs_machine_disk_spec, path, errors)
}

fn disks(disks: &[DiskSpec], path: &str, errors: &mut Errors) -> Vec<String> {
    let field = format!("{path}.dcsMachineDiskSpec");
    if disks.is_empty() {
        return vec![format!("{field}: no disk is given; the VM gets the template's system disk only")];
    }
    let systems = disks.iter().filter(|disk| disk.system_volume == Some(true)).count();
    if systems != 1 {
        errors.add(field.clone(), format!("exactly one disk must have systemVolume: true; {systems} have"));
    }
    let mut paths = BTreeSet::new();
    for (index, disk) in disks.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let system = disk.system_volume == Some(true);
        if disk.quantity < 0 || (disk.quantity == 0 && !system) {
            errors.add(format!("{at}.quantity"), "must be at least 1 GB; 0 is for the system disk only");
        }
        exclusive(
            &at,
            ("datastoreName", disk.datastore_name.as_ref()),
            ("datastoreClusterName", disk.datastore_cluster_name.as_ref()),
            errors,
        );
        let urns = [&disk.datastore_name, &disk.datastore_cluster_name, &disk.datastore_urn];
        if urns.into_iter().all(|place| is_empty(place.as_ref())) {
            errors.add(at.clone(), "must give datastoreName, datastoreClusterName or datastoreUrn");
        }
        if let Some(mounted) = &disk.path {
            mount_point(mounted, &format!("{at}.path"), errors);
            if !paths.insert(mounted) {
                errors.add(format!("{at}.path"), format!("{mounted} is the mount point of another disk"));
            }
        }
        if system && disk.path.is_some() {
            errors.add(format!("{at}.path"), "the system disk has no mount point of its own");
        }
        format_is_valid(disk.format.as_ref(), &format!("{at}.format"), errors);
    }
    EXPECTED_DISKS
        .iter()
        .filter(|expected| !paths.contains(&(**expected).to_owned()))
        .map(|expected| format!("{field}: no disk for {expected}; it will lie on the system disk"))
        .collect()
}

/// The rendered script and fstab are built from these texts.
fn mount_point(path: &str, field: &str, errors: &mut Errors) {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    if !path.starts_with('/') || path.len() < 2 || !path.chars().all(plain) || path.split('/').any(|part| part == "..")
    {
        errors.add(field, "must be an absolute path of letters, digits, '.', '_', '-' and '/'");
    }
}

fn format_is_valid(format: Option<&String>, field: &str, errors: &mut Errors) {
    if let Some(format) = format
        && (format.is_empty() || !format.chars().all(|character| character.is_ascii_alphanumeric()))
    {
        errors.add(field, "must be the name of a file system, such as xfs or ext4");
    }
}

fn exclusive(path: &str, one: (&str, Option<&String>), other: (&str, Option<&String>), errors: &mut Errors) {
    if !is_empty(one.1) && !is_empty(other.1) {
        errors.add(format!("{path}.{}", other.0), format!("excludes {}; give one of them", one.0));
    }
}

fn is_empty(text: Option<&String>) -> bool {
    text.is_none_or(String::is_empty)
}

/// Judges a `DCSIpHostnamePool`.
pub fn pool(old: Option<&DCSIpHostnamePool>, new: &DCSIpHostnamePool) -> Verdict {
    let mut errors = Errors::default();
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, entry) in new.spec.pool.iter().enumerate() {
        let path = format!("spec.pool[{index}]");
        pool_entry(entry, &path, &mut errors);
        if !seen.insert(entry.ip()) {
            errors.add(format!("{path}.ip"), format!("{} is in the pool twice", entry.ip()));
        }
        if entry.addition_nic.iter().any(|nic| nic.gateway.as_ref().is_some_and(|text| !text.is_empty()))
            && entry.gateway.is_some()
        {
            warnings
                .push(format!("{path}.additionNic: a gateway there may take the default route from the primary NIC"));
        }
    }
    if let Some(old) = old {
        warnings.extend(pool_update(old, new, &mut errors));
    }
    errors.verdict(warnings)
}

/// Judges the deletion of a pool: entries that machines hold keep it.
pub fn pool_deletion(old: &DCSIpHostnamePool) -> Verdict {
    let held = claims::of_pool(old);
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let holders: Vec<_> = held.iter().map(|(ip, claim)| format!("{ip} ({})", claim.machine)).collect();
    Ok(vec![format!("the pool goes once these entries are released: {}", holders.join(", "))])
}

fn pool_entry(entry: &PoolEntry, path: &str, errors: &mut Errors) {
    let subnet = address(entry.ip.as_ref(), entry.mask.as_ref(), entry.gateway.as_ref(), path, true, errors);
    ipv6(entry.ipv6.as_ref(), path, errors);
    dns(entry.dns.as_ref(), path, errors);
    for (field, name) in [("hostname", &entry.hostname), ("machineName", &entry.machine_name)] {
        if let Some(name) = name
            && !is_dns_label(name)
        {
            errors.add(format!("{path}.{field}"), format!("{name:?} {DNS_LABEL}"));
        }
    }
    exclusive(
        path,
        ("portGroupName", entry.port_group_name.as_ref()),
        ("portGroupUrn", entry.port_group_urn.as_ref()),
        errors,
    );
    for (index, nic) in entry.addition_nic.iter().enumerate() {
        let at = format!("{path}.additionNic[{index}]");
        let other = address(nic.ip.as_ref(), nic.mask.as_ref(), nic.gateway.as_ref(), &at, false, errors);
        ipv6(nic.ipv6.as_ref(), &at, errors);
        dns(nic.dns.as_ref(), &at, errors);
        if let (Some(primary), Some(other)) = (subnet, other)
            && primary.trunc() == other.trunc()
        {
            errors
                .add(format!("{at}.ip"), "lies in the subnet of the primary NIC; the node would have two routes to it");
        }
    }
    let mut slots = BTreeSet::new();
    for (index, disk) in entry.persistent_disk.iter().enumerate() {
        let at = format!("{path}.persistentDisk[{index}]");
        persistent_disk(disk, &at, errors);
        if !slots.insert(disk.slot) {
            errors.add(format!("{at}.slot"), format!("{} is used twice", disk.slot));
        }
    }
}

fn persistent_disk(disk: &PersistentDisk, path: &str, errors: &mut Errors) {
    // System disk at 1, then at least none of the template's, then one empty number.
    if !(0..=LAST_SEQUENCE - 2).contains(&disk.slot) {
        errors.add(format!("{path}.slot"), format!("must be 0 to {}", LAST_SEQUENCE - 2));
    }
    if is_empty(disk.datastore_cluster_name.as_ref()) == is_empty(disk.datastore_name.as_ref()) {
        errors.add(path, "exactly one of datastoreClusterName or datastoreName is required");
    }
    if let Some(mounted) = &disk.path {
        mount_point(mounted, &format!("{path}.path"), errors);
    }
    format_is_valid(disk.format.as_ref(), &format!("{path}.format"), errors);
}

/// Checks an address with its prefix and gateway; returns them together when they are right.
fn address(
    ip: Option<&String>,
    mask: Option<&String>,
    gateway: Option<&String>,
    path: &str,
    required: bool,
    errors: &mut Errors,
) -> Option<Ipv4Net> {
    if ip.is_none() && !required {
        return None;
    }
    let text = ip.map(String::as_str).unwrap_or_default();
    let Ok(ip) = text.parse::<Ipv4Addr>() else {
        errors.add(format!("{path}.ip"), format!("{text:?} must be an IPv4 address"));
        return None;
    };
    let text = mask.map(String::as_str).unwrap_or_default();
    let Some(prefix) = text.parse::<u8>().ok().filter(|prefix| (1..=32).contains(prefix)) else {
        errors.add(format!("{path}.mask"), format!("{text:?} must be the length of the prefix, such as \"24\""));
        return None;
    };
    let subnet = Ipv4Net::new(ip, prefix).ok()?;
    // An empty text is what a filled-in form leaves behind: nothing was said.
    if let Some(gateway) = gateway.filter(|text| !text.is_empty()) {
        match gateway.parse::<Ipv4Addr>() {
            Ok(gateway) if subnet.contains(&gateway) => {}
            Ok(gateway) => {
                errors.add(format!("{path}.gateway"), format!("{gateway} is not in the subnet {}", subnet.trunc()));
            }
            Err(_) => errors.add(format!("{path}.gateway"), format!("{gateway:?} must be an IPv4 address")),
        }
    }
    Some(subnet)
}

fn ipv6(address: Option<&String>, path: &str, errors: &mut Errors) {
    if let Some(text) = address {
        let bare = text.split('/').next().unwrap_or_default();
        if bare.parse::<Ipv6Addr>().is_err() {
            errors.add(format!("{path}.ipv6"), format!("{text:?} must be an IPv6 address"));
        }
    }
}

fn dns(servers: Option<&String>, path: &str, errors: &mut Errors) {
    for server in servers.iter().flat_map(|servers| servers.split(';')).map(str::trim).filter(|text| !text.is_empty()) {
        if server.parse::<IpAddr>().is_err() {
            errors.add(format!("{path}.dns"), format!("{server:?} must be an address; separate servers by ';'"));
        }
    }
}

fn is_dns_label(name: &str) -> bool {
    let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    (1..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// Returns warnings.
fn pool_update(old: &DCSIpHostnamePool, new: &DCSIpHostnamePool, errors: &mut Errors) -> Vec<String> {
    let mut warnings = Vec::new();
    let held = claims::of_pool(old);
    let recorded = record::of_pool(old).unwrap_or_default();
    let after: BTreeMap<&str, (usize, &PoolEntry)> =
        new.spec.pool.iter().enumerate().map(|(index, entry)| (entry.ip(), (index, entry))).collect();
    for before in &old.spec.pool {
        let Some((index, entry)) = after.get(before.ip()) else {
            if let Some(claim) = held.get(before.ip()) {
                errors.add(
                    "spec.pool",
                    format!("entry {} is held by {}; delete that machine first", before.ip(), claim.machine),
                );
            }
            continue;
        };
        for disk in &before.persistent_disk {
            let path = format!("spec.pool[{index}].persistentDisk");
            let Some(kept) = entry.persistent_disk.iter().find(|kept| kept.slot == disk.slot) else {
                errors.add(path, format!("slot {} cannot be removed: its data would be orphaned", disk.slot));
                continue;
            };
            let made = recorded.get(&record::Key::new(before.ip(), disk.slot)).filter(|made| made.volume.is_some());
            // Back to what it is, a wrong declaration may always be put.
            if let Some(made) = made
                && kept.quantity_gb != disk.quantity_gb
                && u64::try_from(kept.quantity_gb) != Ok(made.size)
            {
                let message =
                    format!("slot {}: its volume has {} GiB; expand it at the site first", disk.slot, made.size);
                errors.add(format!("{path}.quantityGB"), message);
            }
            let store = |disk: &PersistentDisk| (disk.datastore_name.clone(), disk.datastore_cluster_name.clone());
            if let Some(made) = made
                && store(kept) != store(disk)
            {
                warnings.push(format!(
                    "{path}: slot {}: its volume stays on {}; a replacement is given it only where the declared \
                     datastore is the one that it lies on",
                    disk.slot, made.datastore
                ));
            }
            if (&kept.format, &kept.options, &kept.pci_type) != (&disk.format, &disk.options, &disk.pci_type) {
                errors.add(path, format!("format, options and pciType of slot {} cannot be changed", disk.slot));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
