//! URNs and URIs of the site's objects: `urn:sites:S:vms:i-0000000A` is `/service/sites/S/vms/i-0000000A`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An object of the site. VM ids print as `i-` and eight hexadecimal digits, all others decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Entity {
    /// The site itself.
    Site,
    /// A compute cluster.
    Cluster(u64),
    /// A physical host.
    Host(u64),
    /// A folder; its URN says `folders`, its URI `folder`.
    Folder(u64),
    /// A datastore.
    Datastore(u64),
    /// A datastore cluster.
    DatastoreCluster(u64),
    /// A distributed switch.
    Switch(u64),
    /// A port group of a distributed switch.
    PortGroup(u64, u64),
    /// A virtual machine or VM template.
    Vm(u64),
    /// A volume.
    Volume(u64),
    /// A task.
    Task(u64),
}

impl Entity {
    /// The object's URN on site `site`.
    pub fn urn(self, site: &str) -> String {
        match self {
            Self::Folder(id) => format!("urn:sites:{site}:folders:{id}"),
            other => format!("urn{}", other.path(site).replace('/', ":")),
        }
    }

    /// The object's URI on site `site`.
    pub fn uri(self, site: &str) -> String {
        format!("/service{}", self.path(site))
    }

    fn path(self, site: &str) -> String {
        let tail = match self {
            Self::Site => return format!("/sites/{site}"),
            Self::Cluster(id) => format!("clusters/{id}"),
            Self::Host(id) => format!("hosts/{id}"),
            Self::Folder(id) => format!("folder/{id}"),
            Self::Datastore(id) => format!("datastores/{id}"),
            Self::DatastoreCluster(id) => format!("datastorecluster/{id}"),
            Self::Switch(id) => format!("dvswitchs/{id}"),
            Self::PortGroup(switch, id) => format!("dvswitchs/{switch}/portgroups/{id}"),
            Self::Vm(id) => format!("vms/{}", VmId(id)),
            Self::Volume(id) => format!("volumes/{id}"),
            Self::Task(id) => format!("tasks/{id}"),
        };
        format!("/sites/{site}/{tail}")
    }

    /// Reads a URN of site `site`; anything else, URNs of other sites included, is none.
    pub fn parse(site: &str, urn: &str) -> Option<Self> {
        let rest = urn.strip_prefix("urn:sites:")?.strip_prefix(site)?;
        let Some(rest) = rest.strip_prefix(':') else { return rest.is_empty().then_some(Self::Site) };
        let parts: Vec<&str> = rest.split(':').collect();
        let number = |text: &str| text.parse().ok();
        Some(match parts.as_slice() {
            ["clusters", id] => Self::Cluster(number(id)?),
            ["hosts", id] => Self::Host(number(id)?),
            ["folders", id] => Self::Folder(number(id)?),
            ["datastores", id] => Self::Datastore(number(id)?),
            ["datastorecluster", id] => Self::DatastoreCluster(number(id)?),
            ["dvswitchs", id] => Self::Switch(number(id)?),
            ["dvswitchs", switch, "portgroups", id] => Self::PortGroup(number(switch)?, number(id)?),
            ["vms", id] => Self::Vm(VmId::parse(id)?.0),
            ["volumes", id] => Self::Volume(number(id)?),
            ["tasks", id] => Self::Task(number(id)?),
            _ => return None,
        })
    }
}

/// A VM's short id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmId(pub u64);

impl VmId {
    /// Reads `i-0000000A`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("i-")?;
        if digits.len() != 8 {
            return None;
        }
        u64::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "i-{:08X}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urns_are_read_back_and_folders_differ_between_urn_and_uri() {
        for entity in [
            Entity::Site,
            Entity::Cluster(17),
            Entity::Folder(391),
            Entity::PortGroup(1, 12),
            Entity::Vm(0x4A7),
            Entity::DatastoreCluster(5),
        ] {
            assert_eq!(Entity::parse("5A1C0D3E", &entity.urn("5A1C0D3E")), Some(entity));
            assert_eq!(Entity::parse("00000000", &entity.urn("5A1C0D3E")), None);
        }
        assert_eq!(Entity::Folder(391).urn("S"), "urn:sites:S:folders:391");
        assert_eq!(Entity::Folder(391).uri("S"), "/service/sites/S/folder/391");
        assert_eq!(Entity::Vm(0x4A7).uri("S"), "/service/sites/S/vms/i-000004A7");
    }
}
