//! Which clusters there are, where they are, and what the site needs for them. Pure.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xtask::fleet::Options;

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
}

impl Plan {
    /// The fleet that the options ask for.
    pub fn new(options: &Options, version: &str, ground: Ground) -> Self {
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
        Self { shapes: (0..options.clusters).map(shape).collect(), control_plane, workers }
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
            let used: Vec<String> =
                pool.iter().zip(0..self.control_plane).map(|(address, _)| address.to_string()).collect();
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
                    let entries = object["spec"]["pool"].as_array_mut().context("a pool has no entries")?;
                    entries.truncate(usize::try_from(shape.control_plane)?);
                }
                _ => {}
            }
        }
        Ok(objects)
    }

    /// The site's default inventory with hosts and storage for the fleet.
    pub fn inventory(&self, default: &str) -> Result<String> {
        let mut site: Value = serde_json::from_str(default).context("the simulator's inventory is no JSON")?;
        // Scaling adds a worker to each cluster.
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
            foreign_secrets: 0,
        };
        Plan::new(&options, "v1.36.3", Ground::ISOLATED)
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
    fn a_control_plane_of_one_has_one_address() {
        let plan = plan(2, fleet::Shape::OneAndOne);
        assert_eq!(plan.balancers()[1], "10.77.1.32:6443=10.77.1.33");
        let objects = Plan::objects(&plan.shapes[1]).unwrap();
        let of = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
        let pools = of("DCSIpHostnamePool");
        let sizes: Vec<usize> = pools.iter().map(|pool| pool["spec"]["pool"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, [1, 3], "control plane, workers");
        assert_eq!(of("DCSCluster")[0]["spec"]["controlPlaneHA"]["enabled"], false);
        assert!(of("Namespace").is_empty());
    }

    #[test]
    fn the_site_grows_with_the_fleet() {
        let default = json!({
            "clusters": [{"name": "c", "hosts": [{"name": "CNA-01", "ip": "10.20.0.21"}, {"name": "CNA-02", "ip": "10.20.0.22"}]}],
            "datastores": [{"name": "d", "capacityGb": 20_480}],
        });
        let wide: Value =
            serde_json::from_str(&plan(500, fleet::Shape::OneAndOne).inventory(&default.to_string()).unwrap()).unwrap();
        let hosts = wide["clusters"][0]["hosts"].as_array().unwrap();
        assert_eq!(hosts.len(), 15);
        let addresses: std::collections::BTreeSet<&str> = hosts.iter().filter_map(|host| host["ip"].as_str()).collect();
        assert_eq!(addresses.len(), 15);
        assert_eq!(wide["datastores"][0]["capacityGb"], 10_000_000);
    }
}
