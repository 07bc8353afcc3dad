//! The site, and names to URNs. VRM's filters are fuzzy: everything is compared again here, exactly.

use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{
        Capability, DatastoreReference, GetSiteRequest, NetworkReference, Placement, ResolvePlacementRequest, Site,
        Template, Unresolved,
    },
};
use serde_json::Value;

use crate::{
    session::Session,
    vrm::{path_of, wire},
};

pub(super) async fn site(session: &Session, _: GetSiteRequest) -> Result<Site, MachineError> {
    let site: wire::Named = session.vrm.offer(&session.site_path, &[]).await?;
    let version: Value =
        session.vrm.offer(&format!("{}/siteversion", session.site_path), &[]).await.unwrap_or_default();
    let version = version["version"].as_str().unwrap_or_default().to_owned();
    let capabilities = capabilities(&version).into_iter().map(Into::into).collect();
    Ok(Site {
        id: session.site.clone(),
        urn: site.urn,
        name: site.name,
        status: site.status.unwrap_or_default(),
        version,
        capabilities,
    })
}

/// What a release can do; one that does not tell its version counts as new.
fn capabilities(version: &str) -> Vec<Capability> {
    let number = version.trim_start_matches(|character: char| !character.is_ascii_digit()).split('.').next();
    let is_old = number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number < 8);
    let on_stopped = (!is_old).then_some(Capability::MediaOnStopped);
    on_stopped.into_iter().chain([Capability::MediaDetachRunning]).collect()
}

pub(super) async fn resolve(session: &Session, request: ResolvePlacementRequest) -> Result<Placement, MachineError> {
    let mut placement = Placement::default();
    let mut home = String::new();
    let template = request.template.unwrap_or_default();
    match template_of(session, &template.name, &template.urn).await? {
        Ok(vm) => {
            home = vm.cluster_urn.clone().unwrap_or_default();
            placement.template = Some(describe(vm));
        }
        Err(unresolved) => placement.unresolved.push(unresolved),
    }
    placement.compute_cluster_urn = match request.compute_cluster {
        None => home,
        Some(reference) if !reference.urn.is_empty() => reference.urn,
        Some(reference) => {
            let clusters: Value =
                session.vrm.offer(&format!("{}/clusters", session.site_path), &[("name", &reference.name)]).await?;
            let found = exactly("compute cluster", &reference.name, named(&clusters["clusters"]));
            take(found, &mut placement.unresolved)
        }
    };
    placement.folder_urn = match request.folder {
        None => String::new(),
        Some(reference) if !reference.urn.is_empty() => reference.urn,
        Some(reference) => take(folder(session, &reference.name).await?, &mut placement.unresolved),
    };
    for network in &request.networks {
        let found = port_group(session, network).await?;
        let urn = take(found, &mut placement.unresolved);
        placement.port_group_urns.push(urn);
    }
    if !request.datastores.is_empty() {
        let query: &[(&str, &str)] = &[("scope", &placement.compute_cluster_urn)];
        let query = if placement.compute_cluster_urn.is_empty() { &[] } else { query };
        let path = format!("{}/datastores", session.site_path);
        let mut known: Vec<wire::Datastore> = session.vrm.offers(&path, query, "datastores").await?;
        for wanted in &request.datastores {
            let urn = take(datastore(wanted, &known), &mut placement.unresolved);
            let warning = known.iter().find(|store| store.urn == urn).and_then(almost_full);
            placement.warnings.extend(warning.filter(|warning| !placement.warnings.contains(warning)));
            reserve(&mut known, &urn, wanted.needed_gib);
            placement.datastore_urns.push(urn);
        }
    }
    Ok(placement)
}

type Found = Result<String, Unresolved>;

fn take(found: Found, unresolved: &mut Vec<Unresolved>) -> String {
    found.unwrap_or_else(|missing| {
        if !unresolved.iter().any(|known| known.kind == missing.kind && known.name == missing.name) {
            unresolved.push(missing);
        }
        String::new()
    })
}

fn missing(kind: &str, name: &str, reason: Reason, message: impl Into<String>) -> Unresolved {
    Unresolved { kind: kind.to_owned(), name: name.to_owned(), reason: reason.into(), message: message.into() }
}

fn named(list: &Value) -> Vec<wire::Named> {
    serde_json::from_value(list.clone()).unwrap_or_default()
}

/// The one item of exactly this name.
fn exactly(kind: &str, name: &str, found: Vec<wire::Named>) -> Found {
    let mut fitting = found.into_iter().filter(|item| item.name == name);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.urn),
        (Some(one), Some(other)) => {
            let message = format!("{kind} {name}: {} and {} have this name", one.urn, other.urn);
            Err(missing(kind, name, Reason::Ambiguous, message))
        }
        _ => Err(missing(kind, name, Reason::NotFound, format!("{kind} {name} does not exist at the site"))),
    }
}

async fn template_of(session: &Session, name: &str, urn: &str) -> Result<Result<wire::Vm, Unresolved>, MachineError> {
    let kind = "VM template";
    let urn = if urn.is_empty() {
        let path = format!("{}/vms", session.site_path);
        let found: Vec<wire::Named> =
            session.vrm.offers(&path, &[("isTemplate", "true"), ("name", name)], "vms").await?;
        match exactly(kind, name, found) {
            Ok(urn) => urn,
            Err(unresolved) => return Ok(Err(unresolved)),
        }
    } else {
        urn.to_owned()
    };
    match session.vrm.offer::<wire::Vm>(&path_of(&urn)?, &[]).await {
        Ok(vm) if vm.is_template == Some(true) => Ok(Ok(vm)),
        Ok(_) => Ok(Err(missing(kind, name, Reason::Invalid, format!("{name} is a virtual machine, not a template")))),
        Err(error) if error.reason == Reason::NotFound => {
            Ok(Err(missing(kind, name, Reason::NotFound, format!("{kind} {name} does not exist at the site"))))
        }
        Err(error) => Err(error),
    }
}

fn describe(vm: wire::Vm) -> Template {
    let disks = vm.vm_config.disks.unwrap_or_default();
    let system = disks.iter().find(|disk| disk.sequence_num == 1).or(disks.first());
    Template {
        urn: vm.urn,
        name: vm.name,
        cpus: vm.vm_config.cpu.quantity,
        memory_mib: vm.vm_config.memory.quantity_mb,
        system_disk_gib: system.map(|disk| disk.quantity_gb).unwrap_or_default(),
        system_datastore_urn: system.and_then(|disk| disk.datastore_urn.clone()).unwrap_or_default(),
        os_type: vm.os_options.and_then(|options| options.os_type).unwrap_or_default(),
        architecture: architecture(vm.arch.as_deref().unwrap_or_default()).to_owned(),
    }
}

/// Kubernetes' word for the site's.
fn architecture(word: &str) -> &'static str {
    match word.to_lowercase().as_str() {
        "x86" | "x86_64" => "amd64",
        "arm" | "arm64" | "aarch64" => "arm64",
        _ => "",
    }
}

/// A VM folder; `a/b` descends.
async fn folder(session: &Session, name: &str) -> Result<Found, MachineError> {
    let mut parent = format!("urn:sites:{}", session.site);
    for part in name.split('/') {
        let path = format!("{}/folder", session.site_path);
        let query = [("parentObjUrn", parent.as_str()), ("type", "1")];
        let found: Vec<wire::Named> = session.vrm.offers(&path, &query, "folders").await?;
        match exactly("folder", part, found) {
            Ok(urn) => parent = urn,
            Err(unresolved) if part == name => return Ok(Err(unresolved)),
            Err(unresolved) => {
                let message = format!("folder {name}: {}", unresolved.message);
                return Ok(Err(Unresolved { name: name.to_owned(), message, ..unresolved }));
            }
        }
    }
    Ok(Ok(parent))
}

async fn port_group(session: &Session, wanted: &NetworkReference) -> Result<Found, MachineError> {
    if !wanted.port_group_urn.is_empty() {
        return Ok(Ok(wanted.port_group_urn.clone()));
    }
    let switches: Value =
        session.vrm.offer(&format!("{}/dvswitchs", session.site_path), &[("name", &wanted.switch_name)]).await?;
    let switch = match exactly("switch", &wanted.switch_name, named(&switches["dvSwitchs"])) {
        Ok(urn) => urn,
        Err(unresolved) => return Ok(Err(unresolved)),
    };
    let path = format!("{}/portgroups", path_of(&switch)?);
    let groups: Vec<wire::Named> =
        session.vrm.offers(&path, &[("portGroupName", &wanted.port_group_name)], "portGroups").await?;
    Ok(exactly("port group", &wanted.port_group_name, groups))
}

/// Used part of a datastore above which its site counts it as short of space, in percent.
const ALMOST_FULL: f64 = 70.0;

/// A datastore that may refuse soon, though it has space for this.
fn almost_full(store: &wire::Datastore) -> Option<String> {
    let used = store.used_percent().filter(|used| *used > ALMOST_FULL)?;
    let name = &store.name;
    Some(format!(
        "datastore {name} is {used:.0} % full: VMs may not be made there soon; a datastore cluster spreads them"
    ))
}

/// Takes the space of one disk off, so that the next one of the same machine does not count on it.
fn reserve(known: &mut [wire::Datastore], urn: &str, gib: u64) {
    if let Some(store) = known.iter_mut().find(|store| store.urn == urn) {
        #[allow(clippy::cast_precision_loss)] // Sizes of disks are far below 2^52 GiB.
        let left = store.free() - gib as f64;
        (store.actual_free_size_gb, store.free_size_gb) = (Some(left), Some(left));
    }
}

/// A datastore by name, or the member of a cluster with the most free space.
fn datastore(wanted: &DatastoreReference, known: &[wire::Datastore]) -> Found {
    #[allow(clippy::cast_precision_loss)] // Sizes of disks are far below 2^52 GiB.
    let needed = wanted.needed_gib as f64;
    if !wanted.urn.is_empty() {
        return Ok(wanted.urn.clone());
    }
    let (kind, name) =
        if wanted.name.is_empty() { ("datastore cluster", &wanted.cluster_name) } else { ("datastore", &wanted.name) };
    let fits = |store: &&wire::Datastore| {
        if wanted.name.is_empty() { store.datastore_cluster_name.as_ref() == Some(name) } else { store.name == *name }
    };
    let all: Vec<_> = known.iter().filter(fits).collect();
    if all.is_empty() {
        let message = format!("{kind} {name} does not exist, or the target compute cluster does not see it");
        return Err(missing(kind, name, Reason::NotFound, message));
    }
    let usable = all.iter().filter(|store| store.status == "NORMAL");
    let best = usable.max_by(|a, b| a.free().total_cmp(&b.free()).then_with(|| b.urn.cmp(&a.urn)));
    match best {
        Some(store) if store.free() >= needed => Ok(store.urn.clone()),
        Some(store) => {
            let message = format!("{kind} {name}: {:.0} GiB free, {needed:.0} GiB needed", store.free());
            Err(missing(kind, name, Reason::Capacity, message))
        }
        None => {
            let message = format!("{kind} {name}: its state is {}, not NORMAL", all[0].status);
            Err(missing(kind, name, Reason::Busy, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str, cluster: &str, free: f64, status: &str) -> wire::Datastore {
        wire::Datastore {
            urn: format!("urn:{name}"),
            name: name.into(),
            status: status.into(),
            actual_free_size_gb: Some(free),
            datastore_cluster_name: Some(cluster.into()),
            ..wire::Datastore::default()
        }
    }

    #[test]
    fn a_cluster_member_with_space_is_chosen_and_the_same_again() {
        let known =
            [store("a", "dsc", 10.0, "NORMAL"), store("b", "dsc", 90.0, "ABNORMAL"), store("c", "dsc", 50.0, "NORMAL")];
        let wanted =
            |needed_gib| DatastoreReference { cluster_name: "dsc".into(), needed_gib, ..DatastoreReference::default() };
        assert_eq!(datastore(&wanted(40), &known).unwrap(), "urn:c");
        assert_eq!(datastore(&wanted(60), &known).unwrap_err().reason(), Reason::Capacity);
        let other = DatastoreReference { name: "x".into(), ..DatastoreReference::default() };
        assert_eq!(datastore(&other, &known).unwrap_err().reason(), Reason::NotFound);
    }

    #[test]
    fn a_datastore_that_is_almost_full_is_named() {
        let used = |percent: f64| wire::Datastore {
            actual_capacity_gb: Some(1000.0),
            ..store("ds-1", "", 1000.0 - percent * 10.0, "NORMAL")
        };
        assert_eq!(almost_full(&used(70.0)), None);
        assert!(almost_full(&used(84.0)).unwrap().starts_with("datastore ds-1 is 84 % full"));
        assert_eq!(almost_full(&store("ds-1", "", 1.0, "NORMAL")), None, "the site does not tell how large it is");
    }

    #[test]
    fn disks_of_one_machine_do_not_count_on_the_same_space() {
        let mut known = [store("a", "dsc", 100.0, "NORMAL"), store("b", "dsc", 90.0, "NORMAL")];
        let wanted = DatastoreReference { cluster_name: "dsc".into(), needed_gib: 80, ..DatastoreReference::default() };
        let mut chosen = || {
            let urn = datastore(&wanted, &known);
            reserve(&mut known, urn.as_deref().unwrap_or_default(), wanted.needed_gib);
            urn.map_err(|missing| missing.reason())
        };
        assert_eq!([chosen(), chosen(), chosen()], [Ok("urn:a".into()), Ok("urn:b".into()), Err(Reason::Capacity)]);
    }

    #[test]
    fn old_releases_put_media_into_running_machines_only() {
        for (version, expected) in [("8.8.1", true), ("", true), ("V6.5.1", false), ("6.3.0", false)] {
            assert_eq!(capabilities(version).contains(&Capability::MediaOnStopped), expected, "{version}");
        }
    }

    #[test]
    fn only_the_exact_name_counts() {
        let item = |urn: &str, name: &str| wire::Named { urn: urn.into(), name: name.into(), ..wire::Named::default() };
        let found = vec![item("1", "Node"), item("2", "node"), item("3", "node-2")];
        assert_eq!(exactly("VM template", "node", found).unwrap(), "2");
        let twice = exactly("VM template", "n", vec![item("1", "n"), item("2", "n")]).unwrap_err();
        assert_eq!(twice.reason(), Reason::Ambiguous);
    }
}
