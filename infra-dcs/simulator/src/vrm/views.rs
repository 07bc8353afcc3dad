//! How the site's objects look on the wire.

use serde_json::{Value, json};

use crate::site::{
    Attachment, ComputeCluster, Datastore, DatastoreCluster, Entity, Folder, Host, Nic, Site, Tools, Vm, VmStatus,
    Volume,
    tasks::{Task, TaskStatus},
};

/// `YYYY-MM-DD hh:mm:ss`, UTC.
pub fn local_time(milliseconds: u64) -> String {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(milliseconds).unwrap_or(i64::MAX)).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A compute cluster in a list.
pub fn cluster(site: &Site, cluster: &ComputeCluster) -> Value {
    let entity = Entity::Cluster(cluster.id);
    let hosts = || site.hosts.values().filter(|host| host.cluster == cluster.id);
    let mhz: u64 = hosts().map(|host| u64::from(host.cores) * 2600).sum();
    let used_mhz: u64 = hosts().map(|host| u64::from(site.cpus_used(host.id)) * 2600).sum();
    let memory: u64 = hosts().map(|host| host.memory_mb).sum();
    let used_memory: u64 = hosts().map(|host| site.memory_used(host.id)).sum();
    json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "name": cluster.name, "parentObjUrn": site.urn(Entity::Site),
        "parentObjName": site.name, "description": null, "tag": null, "arch": "x86",
        "cpuResource": {"totalSizeMHz": mhz, "allocatedSizeMHz": used_mhz},
        "memResource": {"totalSizeMB": memory, "allocatedSizeMB": used_memory}, "params": {},
    })
}

/// A compute cluster with its settings and rules.
pub fn cluster_detail(site: &Site, of: &ComputeCluster) -> Value {
    let rules: Vec<Value> = of
        .rules
        .iter()
        .map(|rule| {
            let member = |id: &u64| {
                json!({
                    "urn": site.urn(Entity::Vm(*id)), "name": site.vms.get(id).map(|vm| &vm.name),
                })
            };
            json!({
                "ruleIndex": rule.index, "ruleName": rule.name, "ruleType": rule.kind,
                "vms": rule.vms.iter().map(member).collect::<Vec<_>>(),
                "createTime": rule.created.to_string(), "updateTime": rule.updated.to_string(),
            })
        })
        .collect();
    let mut view = cluster(site, of);
    view["isMemOvercommit"] = false.into();
    view["isEnableHa"] = true.into();
    view["isEnableDrs"] = of.drs.into();
    view["resStrategy"] = "loadBalance".into();
    view["maxCpuQuantity"] = 64.into();
    view["drsSetting"] = json!({"drsLevel": 3, "factor": 3, "powerLevel": 0, "drsRules": rules});
    view
}

/// A host.
pub fn host(site: &Site, host: &Host) -> Value {
    let entity = Entity::Host(host.id);
    let used = site.cpus_used(host.id);
    let with_media: Vec<String> = site
        .vms
        .values()
        .filter(|vm| vm.host == Some(host.id) && vm.status == VmStatus::Running && vm.medium.is_some())
        .map(|vm| site.urn(Entity::Vm(vm.id)))
        .collect();
    json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "name": host.name, "ip": host.ip, "status": host.status,
        "isMaintaining": host.maintaining, "clusterUrn": site.urn(Entity::Cluster(host.cluster)),
        "clusterName": site.clusters.get(&host.cluster).map(|cluster| &cluster.name),
        "cpuQuantity": 2, "cpuMHz": 2600, "memQuantityMB": host.memory_mb, "attachedISOVMs": with_media,
        "cpuUsedCores": used, "cpuTotalCores": host.cores, "memUsedSizeMB": site.memory_used(host.id),
        "cpuMuxRatio": f64::from(used) / f64::from(host.cores.max(1)),
    })
}

/// A folder.
pub fn folder(site: &Site, folder: &Folder) -> Value {
    let entity = Entity::Folder(folder.id);
    let parent = folder.parent.map_or(Entity::Site, Entity::Folder);
    json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "name": folder.name, "parentObjUrn": site.urn(parent), "type": 1,
    })
}

/// A datastore.
pub fn datastore(site: &Site, of: &Datastore) -> Value {
    let entity = Entity::Datastore(of.id);
    let hosts: Vec<String> = of.hosts.iter().map(|host| site.urn(Entity::Host(*host))).collect();
    let free = site.free_gb(of.id);
    let mut view = json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "name": of.name, "status": of.status,
        "storageType": of.storage_type, "capacityGB": of.capacity_gb, "usedSizeGB": site.used_gb(of.id),
        "freeSizeGB": free, "actualCapacityGB": of.capacity_gb, "actualFreeSizeGB": free, "isThin": of.thin,
        "thinRate": 100, "clusterSize": 1024, "hosts": hosts, "version": "V5", "params": {},
    });
    if let Some(cluster) = of.cluster.and_then(|id| site.datastore_clusters.get(&id)) {
        let entity = Entity::DatastoreCluster(cluster.id);
        view["datastoreClusterName"] = cluster.name.clone().into();
        view["datastoreClusterUrn"] = site.urn(entity).into();
        view["datastoreClusterUri"] = entity.uri(&site.id).into();
    }
    view
}

/// A datastore cluster.
pub fn datastore_cluster(site: &Site, cluster: &DatastoreCluster) -> Value {
    let entity = Entity::DatastoreCluster(cluster.id);
    let members: Vec<&Datastore> = site.datastores.values().filter(|store| store.cluster == Some(cluster.id)).collect();
    let total: u64 = members.iter().map(|store| store.capacity_gb).sum();
    let free: u64 = members.iter().map(|store| site.free_gb(store.id)).sum();
    let disks = site.volumes.values().filter(|volume| members.iter().any(|store| store.id == volume.datastore)).count();
    json!({
        "dsClusterId": cluster.id, "urn": site.urn(entity), "uri": entity.uri(&site.id), "dsClusterName": cluster.name,
        "datastoreNum": members.len(), "diskNum": disks, "dsTotalSize": total, "dsUsedSize": total.saturating_sub(free), "dsFreeSize": free,
    })
}

/// A volume as its own call shows it.
pub fn volume(site: &Site, of: &Volume) -> Value {
    let entity = Entity::Volume(of.id);
    let store = site.datastores.get(&of.datastore);
    json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "uuid": of.uuid, "name": of.name, "quantityGB": of.size_gb,
        "status": of.status.word(), "datastoreUrn": site.urn(Entity::Datastore(of.datastore)),
        "datastoreName": store.map(|store| &store.name), "isThin": of.thin, "type": "normal",
        "indepDisk": of.independent, "persistentDisk": of.persistent, "volType": u8::from(of.thin), "volumeUseType": 0,
        "storageType": store.map(|store| &store.storage_type),
        "pciType": of.attachment.map_or("VIRTIO", |at| at.bus.word()), "customProperties": of.custom_properties,
    })
}

/// A volume in a list, which also tells whether it is bound.
pub fn volume_in_list(site: &Site, of: &Volume) -> Value {
    let mut view = volume(site, of);
    view["bindToVm"] = if of.attachment.is_some() { 3.into() } else { 2.into() };
    view
}

/// The word of the state of the tools.
pub fn tools_word(tools: Tools) -> &'static str {
    match tools {
        Tools::NotRunning => "notRunning",
        Tools::Starting => "starting",
        Tools::Running => "running",
    }
}

/// A VM in a list. `detail` 0 is minimal, 1 the default, 2 all.
pub fn vm(site: &Site, of: &Vm, detail: u64) -> Value {
    let entity = Entity::Vm(of.id);
    if detail == 0 {
        return json!({
            "urn": site.urn(entity), "uri": entity.uri(&site.id), "uuid": of.uuid, "name": of.name, "status": of.status.word(),
        });
    }
    let full = vm_detail(site, of, false);
    if detail >= 2 {
        return full;
    }
    let nics: Vec<Value> = full["vmConfig"]["nics"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|nic| json!({"mac": nic["mac"], "sequenceNum": nic["sequenceNum"], "ip": nic["ip"], "ips6": nic["ips6"]}))
        .collect();
    let mut view = full;
    if let Some(fields) = view.as_object_mut() {
        for absent in ["additionalStatus", "params", "customProperties", "osOptions", "vncAcessInfo"] {
            fields.remove(absent);
        }
        fields.insert("vmConfig".to_owned(), json!({"nics": nics}));
    }
    view
}

/// A VM as its own call shows it. `attaching` lists the disks that are still being attached, with their state.
pub fn vm_detail(site: &Site, of: &Vm, attaching: bool) -> Value {
    let entity = Entity::Vm(of.id);
    let cluster = site.clusters.get(&of.cluster);
    let host = of.host.and_then(|host| site.hosts.get(&host)).filter(|_| of.status != VmStatus::Creating);
    let cluster_urn = site.urn(Entity::Cluster(of.cluster));
    let disks = site.disks_of(of.id);
    let mut datastores: Vec<String> =
        disks.iter().map(|(volume, _)| site.urn(Entity::Datastore(volume.datastore))).collect();
    datastores.sort();
    datastores.dedup();
    let shown: Vec<Value> = disks
        .iter()
        // A VM being created shows no disks yet: a sign by which stuck deployments are known.
        .filter(|(_, at)| (at.done || attaching) && of.status != VmStatus::Creating)
        .map(|(volume, at)| disk(site, volume, at, attaching))
        .collect();
    let creating = if of.status == VmStatus::Creating { vec!["cloning"] } else { vec![] };
    let medium = of.medium.as_ref();
    let drive = match medium {
        None => "empty",
        Some(medium) if medium.done => "fill",
        Some(_) => "injecting",
    };
    let mut view = json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "uuid": of.uuid, "name": of.name, "arch": "x86",
        "description": of.description, "group": of.group,
        "location": if of.bound_to_host { of.host.map(|host| site.urn(Entity::Host(host))) } else { Some(cluster_urn.clone()) },
        "locationName": cluster.map(|cluster| &cluster.name),
        "hostUrn": host.map(|host| site.urn(Entity::Host(host.id))), "hostName": host.map(|host| &host.name),
        "clusterUrn": cluster_urn, "clusterName": cluster.map(|cluster| &cluster.name),
        "dataStoreUrns": datastores, "status": of.status.word(), "additionalStatus": creating,
        "pvDriverStatus": tools_word(of.tools), "toolInstallStatus": "empty", "cdRomStatus": drive,
        "toolsVersion": if of.tools == Tools::Running { Some("3.0") } else { None },
        "isTemplate": of.is_template, "isLinkClone": false, "isBindingHost": of.bound_to_host,
        "createTime": local_time(of.created), "vmType": 0, "drStatus": 0, "rpoStatus": 0, "initSyncStatus": 0, "idle": 0,
        "hugePage": null, "vmCategory": 1, "customProperties": of.custom_properties,
        "folderName": of.folder.and_then(|folder| site.folders.get(&folder)).map(|folder| &folder.name),
        "vncAcessInfo": {"hostIp": host.map(|host| &host.ip), "vncPort": 5900, "vncPassword": null},
    });
    view["osOptions"] = json!({"osType": "Linux", "osVersion": 10088, "guestOSName": "", "hostname": of.guest_hostname, "password": null});
    view["vmConfig"] = json!({
        "cpu": {"quantity": of.cpus, "coresPerSocket": 1, "reservation": 0, "weight": of.cpus * 1000, "limit": 0, "cpuHotPlug": 1},
        "memory": {"quantityMB": of.memory_mb, "reservation": 0, "weight": of.memory_mb * 10, "limit": 0, "memHotPlug": 1},
        "disks": shown,
        "nics": of.nics.iter().map(|known| nic(site, of, known)).collect::<Vec<_>>(),
        "usb": null, "gpu": [],
        "properties": {
            "bootOption": "disk", "bootFirmware": "BIOS", "isEnableHa": true, "vmFaultProcess": "notprocess",
            "recoverByHost": true, "clockMode": "freeClock", "isEnableMemVol": false, "isAutoUpgrade": true,
            "attachType": false, "secureVmType": null,
        },
    });
    view["params"] = json!({
        "externalUuid": of.external_uuid, "vmSubStatus": "0", "cdromSequenceNum": "1003",
        "parentObjUrn": site.urn(of.folder.map_or(Entity::Site, Entity::Folder)), "gpu": "[]",
    });
    view
}

fn disk(site: &Site, of: &Volume, at: &Attachment, attaching: bool) -> Value {
    let store = site.datastores.get(&of.datastore);
    let mut view = json!({
        "sequenceNum": at.sequence, "pciType": at.bus.word(), "volumeUrn": site.urn(Entity::Volume(of.id)),
        "volumeUuid": of.uuid, "diskName": of.name, "quantityGB": of.size_gb,
        "datastoreUrn": site.urn(Entity::Datastore(of.datastore)), "datastoreName": store.map(|store| &store.name),
        "isThin": of.thin, "indepDisk": of.independent, "persistentDisk": of.persistent, "type": "normal",
        "volType": u8::from(of.thin), "storageType": store.map(|store| &store.storage_type), "isDataCopy": null,
        "maxReadBytes": 0, "maxWriteBytes": 0, "maxReadRequest": 0, "maxWriteRequest": 0,
    });
    if attaching {
        view["volumeAttachStatus"] = if at.done { "attached".into() } else { "attaching".into() };
    }
    view
}

fn nic(site: &Site, vm: &Vm, of: &Nic) -> Value {
    let vm_urn = site.urn(Entity::Vm(vm.id));
    let holder = Entity::Vm(vm.id).uri(&site.id);
    let four: Vec<String> = of.addresses.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
    let six: Vec<String> = of.addresses.iter().filter(|ip| ip.is_ipv6()).map(ToString::to_string).collect();
    json!({
        "name": of.name, "urn": format!("{vm_urn}:nics:{}", of.id), "uri": format!("{holder}/nics/{}", of.id),
        "sequenceNum": of.sequence, "portGroupUrn": site.urn(site.port_group_entity(of.port_group)),
        "portGroupName": site.port_groups.get(&of.port_group).map(|group| &group.name), "mac": of.mac,
        "ip": four.first().map_or("0.0.0.0", String::as_str), "ipList": four.join(","), "ips6": six,
        "virtIo": 1, "nicType": 0,
    })
}

/// A task.
pub fn task(site: &Site, of: &Task) -> Value {
    let entity = Entity::Task(of.id);
    json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "type": of.word, "entityUrn": site.urn(of.entity),
        "entityName": of.entity_name, "startTime": of.created.to_string(),
        "finishTime": of.finished.map(|finished| finished.to_string()), "user": of.user, "status": of.status.word(),
        "progress": of.percent(site.now), "reason": of.reason.map(|code| code.to_string()),
        "reasonDes": of.reason.map(crate::site::codes::text), "cancelable": of.status == TaskStatus::Waiting,
        "cancelled": of.cancelled, "params": {},
    })
}
