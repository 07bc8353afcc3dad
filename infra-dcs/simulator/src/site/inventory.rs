//! The site file: what a simulated site consists of before the first call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    ComputeCluster, Datastore, DatastoreCluster, Folder, Host, Nic, PortGroup, Site, Switch, Vm, VmStatus, Volume,
    policy::{Latency, Policy},
    sessions::{User, UserFile},
};

/// A site as its file describes it (JSON). `basalt-dcs-simulator inventory` prints the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteFile {
    /// Site id, eight hexadecimal digits.
    pub id: String,
    /// Site name.
    pub name: String,
    /// Management address that the site tells.
    pub ip: String,
    /// Seed of everything random: ids, jitter, faults.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Who may log in.
    pub users: Vec<UserFile>,
    /// Switches of the site.
    #[serde(default)]
    pub policy: Policy,
    /// How long tasks take.
    #[serde(default)]
    pub latency: Latency,
    /// Compute clusters with their hosts.
    pub clusters: Vec<ClusterFile>,
    /// VM folders, as paths: `team/kubernetes`.
    #[serde(default)]
    pub folders: Vec<String>,
    /// Datastores.
    pub datastores: Vec<DatastoreFile>,
    /// Distributed switches with their port groups.
    pub switches: Vec<SwitchFile>,
    /// VM templates.
    #[serde(default)]
    pub templates: Vec<TemplateFile>,
}

fn seed() -> u64 {
    1
}

/// A compute cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterFile {
    /// Unique name.
    pub name: String,
    /// Whether DRS is on.
    #[serde(default = "yes")]
    pub drs: bool,
    /// Hosts.
    pub hosts: Vec<HostFile>,
}

/// A physical host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostFile {
    /// Name.
    pub name: String,
    /// Management address.
    pub ip: String,
    /// CPU cores.
    #[serde(default = "cores")]
    pub cores: u32,
    /// Memory in MiB.
    #[serde(default = "memory")]
    pub memory_mb: u64,
}

fn cores() -> u32 {
    96
}

fn memory() -> u64 {
    524_288
}

/// A datastore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatastoreFile {
    /// Name.
    pub name: String,
    /// Datastore cluster it belongs to.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Capacity in GB.
    pub capacity_gb: u64,
    /// Used before the first call, in GB.
    #[serde(default)]
    pub used_gb: u64,
    /// VRM's storage type.
    #[serde(default = "storage_type")]
    pub storage_type: String,
    /// Whether thin volumes are possible.
    #[serde(default = "yes")]
    pub thin: bool,
    /// Whether files can be uploaded.
    #[serde(default = "yes")]
    pub uploads: bool,
    /// Names of the hosts that see it; absent: all.
    #[serde(default)]
    pub hosts: Option<Vec<String>>,
}

fn storage_type() -> String {
    "LUNPOME".to_owned()
}

fn yes() -> bool {
    true
}

/// A distributed switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SwitchFile {
    /// Name.
    pub name: String,
    /// Port groups.
    pub port_groups: Vec<PortGroupFile>,
}

/// A port group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortGroupFile {
    /// Name, unique in its switch.
    pub name: String,
    /// VLAN id; 0 is untagged.
    #[serde(default)]
    pub vlan: u16,
}

/// A VM template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateFile {
    /// Name: also the name of the image that guests boot.
    pub name: String,
    /// Compute cluster where it lies; absent: the first.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Datastore of its disks.
    pub datastore: String,
    /// Sizes of its disks in GB, the system disk first.
    pub disks_gb: Vec<u64>,
    /// Networks of its NICs as `switch/port group`.
    pub nics: Vec<String>,
    /// Virtual CPUs.
    #[serde(default = "template_cpus")]
    pub cpus: u32,
    /// Memory in MiB.
    #[serde(default = "template_memory")]
    pub memory_mb: u64,
}

fn template_cpus() -> u32 {
    2
}

fn template_memory() -> u64 {
    4_096
}

impl Default for SiteFile {
    /// A site that fits the published manifests: three hosts, one compute cluster with DRS, a datastore cluster, a
    /// switch with two port groups, a folder, a VM template.
    fn default() -> Self {
        let host = |number: u8| HostFile {
            name: format!("CNA-0{number}"),
            ip: format!("10.20.0.2{number}"),
            cores: cores(),
            memory_mb: memory(),
        };
        let datastore = |number: u8, cluster: Option<&str>| DatastoreFile {
            name: format!("ds-san-{number}"),
            cluster: cluster.map(str::to_owned),
            capacity_gb: 20_480,
            used_gb: 1_000 * u64::from(number),
            storage_type: storage_type(),
            thin: true,
            uploads: true,
            hosts: None,
        };
        Self {
            id: "5A1C0D3E".to_owned(),
            name: "site".to_owned(),
            ip: "10.20.0.10".to_owned(),
            seed: seed(),
            users: vec![UserFile::interconnect("basalt", "Basalt@12345")],
            policy: Policy::default(),
            latency: Latency::default(),
            clusters: vec![ClusterFile {
                name: "compute-kubernetes".to_owned(),
                drs: true,
                hosts: vec![host(1), host(2), host(3)],
            }],
            folders: vec!["kubernetes".to_owned()],
            datastores: vec![
                datastore(1, Some("dsc-kubernetes")),
                datastore(2, Some("dsc-kubernetes")),
                datastore(3, None),
            ],
            switches: vec![SwitchFile {
                name: "dvs-kubernetes".to_owned(),
                port_groups: vec![
                    PortGroupFile { name: "pg-nodes".to_owned(), vlan: 100 },
                    PortGroupFile { name: "pg-storage".to_owned(), vlan: 200 },
                ],
            }],
            templates: vec![TemplateFile {
                name: "basalt-node".to_owned(),
                cluster: None,
                datastore: "ds-san-1".to_owned(),
                disks_gb: vec![40],
                nics: vec!["dvs-kubernetes/pg-nodes".to_owned()],
                cpus: template_cpus(),
                memory_mb: template_memory(),
            }],
        }
    }
}

/// What is wrong with a site file, or with something added to a site.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// A reference to nothing.
    #[error("{field}: there is no {kind} named {name:?}; name one that the site file lists")]
    Missing {
        /// Field of the site file.
        field: String,
        /// Kind of the thing meant.
        kind: &'static str,
        /// Name given.
        name: String,
    },
    /// A value that cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// Field of the site file.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

fn invalid(field: &str, reason: &str) -> InventoryError {
    InventoryError::Invalid { field: field.to_owned(), reason: reason.to_owned() }
}

impl Site {
    /// Builds the site that a file describes.
    pub fn build(file: &SiteFile, now: u64) -> Result<Self, InventoryError> {
        if file.id.len() != 8 || !file.id.chars().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(invalid("id", "must be eight hexadecimal digits, like 5A1C0D3E"));
        }
        if file.clusters.is_empty() {
            return Err(invalid("clusters", "must name at least one compute cluster"));
        }
        if file.users.is_empty() {
            return Err(invalid("users", "must name at least one user, or nobody could log in"));
        }
        let mut site = Self::empty(file.id.clone(), file.seed);
        site.name.clone_from(&file.name);
        site.ip.clone_from(&file.ip);
        site.policy = file.policy.clone();
        site.latency = file.latency.clone();
        site.users = file.users.iter().map(|user| (user.name.clone(), User::new(user))).collect();
        for cluster in &file.clusters {
            site.add_cluster(cluster);
        }
        for path in &file.folders {
            site.add_folder_path(path);
        }
        for datastore in &file.datastores {
            site.add_datastore(datastore)?;
        }
        for switch in &file.switches {
            for group in &switch.port_groups {
                site.add_port_group(&switch.name, group);
            }
        }
        for template in &file.templates {
            site.add_template(template, now)?;
        }
        Ok(site)
    }

    fn add_cluster(&mut self, file: &ClusterFile) {
        let id = self.id_after(16);
        self.clusters
            .insert(id, ComputeCluster { id, name: file.name.clone(), drs: file.drs, rules: vec![], next_rule: 1 });
        for host in &file.hosts {
            let host_id = self.id_after(100);
            self.hosts.insert(
                host_id,
                Host {
                    id: host_id,
                    name: host.name.clone(),
                    ip: host.ip.clone(),
                    cluster: id,
                    cores: host.cores,
                    memory_mb: host.memory_mb,
                    status: "normal".to_owned(),
                    maintaining: false,
                },
            );
        }
    }

    /// The folder at `path`, made with its parents where missing.
    pub fn add_folder_path(&mut self, path: &str) -> u64 {
        let mut parent = None;
        let mut last = 0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = self.folders.values().find(|folder| folder.parent == parent && folder.name == name);
            last = if let Some(folder) = found {
                folder.id
            } else {
                let id = self.id_after(390);
                self.folders.insert(id, Folder { id, name: name.to_owned(), parent });
                id
            };
            parent = Some(last);
        }
        last
    }

    /// Adds a datastore, and its datastore cluster where missing.
    pub fn add_datastore(&mut self, file: &DatastoreFile) -> Result<u64, InventoryError> {
        if file.used_gb > file.capacity_gb {
            return Err(invalid("datastores.usedGb", "must not exceed capacityGb"));
        }
        if self.datastores.values().any(|datastore| datastore.name == file.name) {
            return Err(invalid("datastores.name", "must be unique"));
        }
        let hosts = match &file.hosts {
            None => self.hosts.keys().copied().collect(),
            Some(names) => names
                .iter()
                .map(|name| {
                    let host = self.hosts.values().find(|host| host.name == *name);
                    host.map(|host| host.id).ok_or_else(|| InventoryError::Missing {
                        field: format!("datastores[{}].hosts", file.name),
                        kind: "host",
                        name: name.clone(),
                    })
                })
                .collect::<Result<_, _>>()?,
        };
        let cluster = file.cluster.as_ref().map(|name| {
            let found =
                self.datastore_clusters.values().find(|cluster| cluster.name == *name).map(|cluster| cluster.id);
            found.unwrap_or_else(|| {
                let id = self.id_after(4);
                self.datastore_clusters.insert(id, DatastoreCluster { id, name: name.clone() });
                id
            })
        });
        let id = self.id_after(7);
        self.datastores.insert(
            id,
            Datastore {
                id,
                name: file.name.clone(),
                cluster,
                capacity_gb: file.capacity_gb,
                base_used_gb: file.used_gb,
                storage_type: file.storage_type.clone(),
                thin: file.thin,
                uploads: file.uploads,
                status: "NORMAL".to_owned(),
                hosts,
            },
        );
        Ok(id)
    }

    /// Adds a port group, and its switch where missing. A name that the switch has already is that port group.
    pub fn add_port_group(&mut self, switch: &str, file: &PortGroupFile) -> u64 {
        let found = self.switches.values().find(|known| known.name == switch).map(|known| known.id);
        let switch_id = found.unwrap_or_else(|| {
            let id = self.id_after(0);
            self.switches.insert(id, Switch { id, name: switch.to_owned() });
            id
        });
        let same = self.port_groups.values().find(|group| group.switch == switch_id && group.name == file.name);
        if let Some(group) = same {
            return group.id;
        }
        let id = self.id_after(11);
        self.port_groups.insert(id, PortGroup { id, switch: switch_id, name: file.name.clone(), vlan: file.vlan });
        id
    }

    /// Adds a VM template.
    pub fn add_template(&mut self, file: &TemplateFile, now: u64) -> Result<u64, InventoryError> {
        let missing = |field: &str, kind, name: &str| InventoryError::Missing {
            field: format!("templates[{}].{field}", file.name),
            kind,
            name: name.to_owned(),
        };
        if file.disks_gb.is_empty() || file.disks_gb.contains(&0) {
            return Err(invalid("templates.disksGb", "must name the system disk, and no disk of 0 GB"));
        }
        let cluster = match &file.cluster {
            None => self.clusters.keys().next().copied(),
            Some(name) => self.clusters.values().find(|cluster| cluster.name == *name).map(|cluster| cluster.id),
        }
        .ok_or_else(|| missing("cluster", "compute cluster", file.cluster.as_deref().unwrap_or_default()))?;
        let datastore = self
            .datastores
            .values()
            .find(|datastore| datastore.name == file.datastore)
            .map(|datastore| datastore.id)
            .ok_or_else(|| missing("datastore", "datastore", &file.datastore))?;
        let mut nics = Vec::new();
        for (index, network) in file.nics.iter().enumerate() {
            let (switch, group) = network
                .split_once('/')
                .ok_or_else(|| invalid("templates.nics", "must be written as `switch/port group`"))?;
            let port_group = self
                .port_groups
                .values()
                .find(|known| known.name == group && self.switches[&known.switch].name == switch)
                .map(|known| known.id)
                .ok_or_else(|| missing("nics", "port group", network))?;
            nics.push(Nic {
                id: self.id_after(5_000),
                name: format!("Network Adapter {index}"),
                sequence: u32::try_from(index).unwrap_or(u32::MAX),
                port_group,
                mac: self.new_mac(),
                addresses: vec![],
            });
        }
        let id = self.new_vm_id();
        let vm = Vm {
            is_template: true,
            status: VmStatus::Stopped,
            cpus: file.cpus,
            memory_mb: file.memory_mb,
            nics,
            image: file.name.clone(),
            uuid: self.new_uuid(),
            ..Vm::new(id, file.name.clone(), cluster, now)
        };
        self.vms.insert(id, vm);
        for (sequence, size_gb) in (1_u32..).zip(&file.disks_gb) {
            let volume = self.id_after(900);
            let uuid = self.new_uuid();
            let mut disk = Volume::new(volume, uuid, format!("{}-{sequence:04}", file.name), *size_gb, datastore);
            disk.thin = self.datastores[&datastore].thin;
            disk.attach(id, sequence, super::Bus::Virtio);
            self.volumes.insert(disk);
        }
        Ok(id)
    }

    /// Names of the compute clusters and what else the start-up log tells.
    pub fn summary(&self) -> BTreeMap<&'static str, Vec<String>> {
        let templates = self.vms.values().filter(|vm| vm.is_template).map(|vm| vm.name.clone()).collect();
        BTreeMap::from([
            ("clusters", self.clusters.values().map(|cluster| cluster.name.clone()).collect()),
            ("datastores", self.datastores.values().map(|datastore| datastore.name.clone()).collect()),
            ("portGroups", self.port_groups.values().map(|group| group.name.clone()).collect()),
            ("templates", templates),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_site_builds_and_survives_its_own_file() {
        let file = SiteFile::default();
        let text = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<SiteFile>(&text).unwrap(), file);
        let site = Site::build(&file, 0).unwrap();
        assert_eq!((site.hosts.len(), site.datastores.len(), site.port_groups.len()), (3, 3, 2));
        assert_eq!(site.vms.values().filter(|vm| vm.is_template).count(), 1);
    }

    #[test]
    fn a_reference_to_nothing_names_the_field() {
        let mut file = SiteFile::default();
        file.templates[0].datastore = "nowhere".to_owned();
        let error = Site::build(&file, 0).unwrap_err().to_string();
        assert!(error.contains("templates[basalt-node].datastore") && error.contains("nowhere"), "{error}");
    }
}
