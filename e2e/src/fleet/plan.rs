//! Which clusters there are, where they are, and what the site needs for them. Pure.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xtask::fleet::Options;

use super::census::Role;
use crate::{
    cluster::{BootFormat, NAMESPACE, Shape},
    ground::Ground,
};

/// Machines of the published size for which a host of the default site has memory, with some to spare.
const MACHINES_A_HOST: usize = 100;
/// Open files of the simulator for a cluster: the load balancer's listener, and three for each of the few connections
/// that providers keep (accepted and passed on by the load balancer, accepted by the machine).
const FILES_A_CLUSTER: u64 = 16;
/// The same for a control plane machine: its listener, a health check from both sides, other machines' connections.
const FILES_A_CONTROL_PLANE: u64 = 6;
/// What the simulator needs besides.
const FILES: u64 = 500;

/// A fleet.
pub struct Plan {
    /// Its clusters, all alike.
    pub shapes: Vec<Shape>,
    /// Control plane machines of each.
    pub control_plane: u32,
    /// Workers of each.
    pub workers: u32,
    /// The version that they are upgraded to.
    pub next_version: String,
}

/// The site's VM template of the first version.
const IMAGE: &str = "basalt-node";

impl Plan {
    /// The fleet that the options ask for.
    pub fn new(options: &Options, version: &str, ground: Ground) -> Result<Self> {
        let (control_plane, workers) = (options.shape.control_plane(), options.shape.workers());
        let shape = |index: u16| Shape {
            // Of one length, so that no name begins like another.
            name: format!("fleet-{index:04}"),
            namespace: NAMESPACE.to_owned(),
            index,
            control_plane,
            workers,
            version: version.to_owned(),
            boot: BootFormat::Ignition,
            ground,
        };
        let next_version = patch_after(version).with_context(|| format!("{version:?} is no version"))?;
        Ok(Self { shapes: (0..options.clusters).map(shape).collect(), control_plane, workers, next_version })
    }

    /// Names of the clusters.
    pub fn names(&self) -> Vec<String> {
        self.shapes.iter().map(|shape| shape.name.clone()).collect()
    }

    /// Machines of a cluster with so many workers.
    pub fn machines(&self, workers: u32) -> usize {
        usize::try_from(self.control_plane + workers).unwrap_or(usize::MAX)
    }

    /// The load balancers of the site. Their back ends are the machines that there will be and no others.
    pub fn balancers(&self) -> Vec<String> {
        let balancer = |shape: &Shape| {
            let pool = shape.control_plane_addresses();
            let used: Vec<String> = pool.iter().take(entries(shape)).map(ToString::to_string).collect();
            format!("{}:6443={}", shape.endpoint(), used.join(","))
        };
        self.shapes.iter().map(balancer).collect()
    }

    /// Objects of a cluster as its user creates them, in order; the namespace is there.
    pub fn objects(shape: &Shape) -> Result<Vec<Value>> {
        let mut objects = shape.objects()?;
        objects.retain(|object| object["kind"] != "Namespace");
        for object in &mut objects {
            match object["kind"].as_str() {
                // A compute cluster takes twenty rules.
                Some("DCSCluster") => object["spec"]["controlPlaneHA"] = json!({"enabled": false}),
                Some("DCSIpHostnamePool") if object["metadata"]["name"] == format!("{}-cp-pool", shape.name) => {
                    let pool = object["spec"]["pool"].as_array_mut().context("a pool has no entries")?;
                    pool.truncate(entries(shape));
                }
                _ => {}
            }
        }
        Ok(objects)
    }

    /// The template from which machines of a role get another version: as their first, with the site's image of that
    /// version.
    pub fn template_of(shape: &Shape, role: Role, version: &str) -> Result<Value> {
        let part = if role == Role::ControlPlane { "cp" } else { "worker" };
        let name = format!("{}-{part}-template", shape.name);
        let is_first = |object: &Value| object["kind"] == "DCSMachineTemplate" && object["metadata"]["name"] == name;
        let mut template = Self::objects(shape)?.into_iter().find(is_first).with_context(|| format!("no {name}"))?;
        template["metadata"]["name"] = json!(format!("{name}-{version}"));
        template["spec"]["template"]["spec"]["vmTemplateName"] = json!(format!("{IMAGE}-{version}"));
        Ok(template)
    }

    /// The site's default inventory with hosts, storage and images for the fleet.
    pub fn inventory(&self, default: &str) -> Result<String> {
        let mut site: Value = serde_json::from_str(default).context("the simulator's inventory is no JSON")?;
        let images = site["templates"].as_array_mut().context("the simulator's inventory has no templates")?;
        let mut next = images.iter().find(|image| image["name"] == IMAGE).cloned().context("its first is missing")?;
        next["name"] = json!(format!("{IMAGE}-{}", self.next_version));
        images.push(next);
        // Scaling adds a worker to each cluster, an upgrade a control plane machine.
        let machines = self.shapes.len() * self.machines(self.workers + 1);
        let hosts = site.pointer_mut("/clusters/0/hosts").and_then(Value::as_array_mut);
        let hosts = hosts.context("the simulator's inventory has no hosts")?;
        let first = hosts.first().cloned().context("the simulator's inventory has no host")?;
        for number in hosts.len() + 1..=machines.div_ceil(MACHINES_A_HOST) {
            let mut host = first.clone();
            host["name"] = json!(format!("CNA-{number:02}"));
            host["ip"] = json!(format!("10.20.1.{number}"));
            hosts.push(host);
        }
        for store in site["datastores"].as_array_mut().into_iter().flatten() {
            store["capacityGb"] = json!(10_000_000);
        }
        Ok(site.to_string())
    }

    /// Open files that the simulator may need.
    pub fn open_files(&self) -> u64 {
        let each = FILES_A_CLUSTER + FILES_A_CONTROL_PLANE * u64::from(self.control_plane);
        FILES + each * u64::try_from(self.shapes.len()).unwrap_or(u64::MAX)
    }
}

/// Addresses of a control plane: where the last machine cannot go first, one is for its successor.
fn entries(shape: &Shape) -> usize {
    let entries = if shape.control_plane < 3 { shape.control_plane + 1 } else { shape.control_plane };
    usize::try_from(entries).unwrap_or(usize::MAX)
}

/// The version after `v<major>.<minor>.<patch>`.
fn patch_after(version: &str) -> Option<String> {
    let (minor, patch) = version.rsplit_once('.')?;
    Some(format!("{minor}.{}", patch.parse::<u32>().ok()? + 1))
}

#[cfg(test)]
mod tests {
    use xtask::fleet::{self, Managers};

    use super::*;

    fn plan(clusters: u16, shape: fleet::Shape) -> Plan {
        let options = Options {
            clusters,
            shape,
            managers: Managers::Basalt,
            beside_upstream: false,
            idle: 0,
            short: false,
            foreign_secrets: 0,
        };
        Plan::new(&options, "v1.36.3", Ground::ISOLATED).unwrap()
    }

    #[test]
    fn a_thousand_clusters_fit_on_the_network() {
        let plan = plan(1000, fleet::Shape::ThreeAndTwo);
        let balancers: std::collections::BTreeSet<String> = plan.balancers().into_iter().collect();
        assert_eq!(balancers.len(), 1000);
        assert!(balancers.contains("10.77.1.0:6443=10.77.1.1,10.77.1.2,10.77.1.3"));
        assert!(u16::try_from(plan.shapes.len()).unwrap() <= crate::cluster::LAST_INDEX);
    }

    #[test]
    fn a_control_plane_of_one_has_an_address_for_its_successor() {
        let plan = plan(2, fleet::Shape::OneAndOne);
        assert_eq!(plan.balancers()[1], "10.77.1.32:6443=10.77.1.33,10.77.1.34");
        let objects = Plan::objects(&plan.shapes[1]).unwrap();
        let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
        let pools = of("DCSIpHostnamePool");
        let sizes: Vec<usize> = pools.iter().map(|pool| pool["spec"]["pool"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, [2, 3], "control plane, workers");
        assert_eq!(of("DCSCluster")[0]["spec"]["controlPlaneHA"]["enabled"], false);
        assert!(of("Namespace").is_empty());
    }

    #[test]
    fn the_site_grows_with_the_fleet() {
        let default = json!({
            "clusters": [{"name": "c", "hosts": [{"name": "CNA-01", "ip": "10.20.0.21"}, {"name": "CNA-02", "ip": "10.20.0.22"}]}],
            "datastores": [{"name": "d", "capacityGb": 20_480}],
            "templates": [{"name": "basalt-node", "cpus": 2}],
        });
        let wide: Value =
            serde_json::from_str(&plan(500, fleet::Shape::OneAndOne).inventory(&default.to_string()).unwrap()).unwrap();
        let hosts = wide["clusters"][0]["hosts"].as_array().unwrap();
        assert_eq!(hosts.len(), 15);
        let addresses: std::collections::BTreeSet<&str> = hosts.iter().filter_map(|host| host["ip"].as_str()).collect();
        assert_eq!(addresses.len(), 15);
        assert_eq!(wide["datastores"][0]["capacityGb"], 10_000_000);
        assert_eq!(wide["templates"][1], json!({"name": "basalt-node-v1.36.4", "cpus": 2}));
    }

    #[test]
    fn an_upgrade_has_a_template_of_its_own() {
        let plan = plan(1, fleet::Shape::OneAndOne);
        for (role, name) in
            [(Role::ControlPlane, "fleet-0000-cp-template"), (Role::Worker, "fleet-0000-worker-template")]
        {
            let template = Plan::template_of(&plan.shapes[0], role, &plan.next_version).unwrap();
            assert_eq!(template["metadata"]["name"], format!("{name}-v1.36.4"));
            assert_eq!(template["spec"]["template"]["spec"]["vmTemplateName"], "basalt-node-v1.36.4");
        }
    }
}
