//! VMs and VM templates.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Bytes,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Caller, PAGE, Params, Path, body, views, vm_id};
use crate::site::{
    Entity, Result, Site, Vm, VmId,
    clone::CloneRequest,
    codes,
    vms::{DeleteOptions, VmChange},
    volumes::AttachRequest,
};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/vms", get(list))
        .route("/service/sites/{site}/vms/{vm}", get(one).put(change).delete(remove))
        .route("/service/sites/{site}/vms/{vm}/action/{verb}", post(act))
        .route("/service/sites/{site}/vms/{vm}/customproperties", get(marks).post(mark))
        .route("/service/sites/{site}/vms/osversions/{version}", get(os_version))
}

async fn list(caller: Caller, params: Params) -> Answer {
    let detail = params.choice("detail", &[0, 1, 2])?.unwrap_or(1);
    params.refuse(&["resourceGroupFlag", "drsRuleIndex"], "this site has no resource groups")?;
    let linked = params.flag("isLinkClone")?;
    if linked.is_none() {
        params.refuse(&["templateUrn"], "only together with isLinkClone")?;
    }
    let order = order(&params)?;
    caller.read(|site| {
        if let Some(urns) = params.urns("vmurns", 50)? {
            let known = urns.iter().filter_map(|urn| match site.parse(urn) {
                Some(Entity::Vm(id)) => site.vms.get(&id),
                _ => None,
            });
            return params.page("vms", known, PAGE, |vm| views::vm(site, vm, detail));
        }
        let scope = match params.text("scope") {
            None => None,
            Some(urn) => Some(site.parse(urn).ok_or_else(|| codes::BAD_URN.because(urn))?),
        };
        let is_template = params.flag("isTemplate")?;
        let mut wanted: Vec<&Vm> = site
            .vms
            .values()
            .filter(|vm| is_template.is_none_or(|wanted| vm.is_template == wanted))
            .filter(|vm| scope.is_none_or(|scope| in_scope(site, vm, scope)))
            // This site makes no linked clones.
            .filter(|vm| linked != Some(true) && meant(&params, vm))
            .collect();
        if let Some((field, descending)) = order {
            wanted.sort_by_cached_key(|vm| match field {
                "ip" => {
                    vm.nics.iter().flat_map(|nic| &nic.addresses).min().map(ToString::to_string).unwrap_or_default()
                }
                _ => vm.name.clone(),
            });
            if descending {
                wanted.reverse();
            }
        }
        params.page("vms", wanted, PAGE, |vm| views::vm(site, vm, detail))
    })
}

/// The field to sort by, and whether downwards: both are given, or none.
fn order(params: &Params) -> Result<Option<(&str, bool)>> {
    let field = params.word("orderField", &["name", "ip"])?;
    match (field, params.word("order", &["ASC", "DESC"])?) {
        (None, None) => Ok(None),
        (Some(field), Some(order)) => Ok(Some((field, order == "DESC"))),
        _ => Err(codes::BAD_PARAMETER.because("orderField and order: both or none")),
    }
}

fn in_scope(site: &Site, vm: &Vm, scope: Entity) -> bool {
    match scope {
        Entity::Site => true,
        Entity::Cluster(id) => vm.cluster == id,
        Entity::Host(id) => vm.host == Some(id),
        Entity::Folder(id) => vm.folder == Some(id),
        Entity::Datastore(id) => site.disks_of(vm.id).iter().any(|(volume, _)| volume.datastore == id),
        Entity::Volume(id) => {
            site.volumes.get(&id).and_then(|volume| volume.attachment).is_some_and(|at| at.vm == vm.id && at.done)
        }
        Entity::PortGroup(_, id) => vm.nics.iter().any(|nic| nic.port_group == id),
        Entity::Switch(id) => {
            vm.nics.iter().any(|nic| site.port_groups.get(&nic.port_group).is_some_and(|group| group.switch == id))
        }
        _ => false,
    }
}

/// The filters by text: fuzzy, letter case aside; UUIDs exact.
fn meant(params: &Params, vm: &Vm) -> bool {
    let exact = |name: &str, value: Option<&str>| params.text(name).is_none_or(|wanted| value == Some(wanted));
    let addresses = || vm.nics.iter().flat_map(|nic| &nic.addresses).map(ToString::to_string).collect::<Vec<_>>();
    let macs = || vm.nics.iter().map(|nic| nic.mac.as_str()).collect::<Vec<_>>();
    exact("uuid", Some(&vm.uuid))
        && params.fuzzy("name", &vm.name)
        && params.fuzzy("description", &vm.description)
        && params.fuzzy("group", vm.group.as_deref().unwrap_or_default())
        && params.fuzzy_with("ip", || addresses().join(" "))
        && params.fuzzy_with("mac", || macs().join(" "))
        && params.fuzzy_with("vmId", || VmId(vm.id).to_string())
        && exact("externalUuid", vm.external_uuid.as_deref())
        && exact("status", Some(vm.status.word()))
        && exact("pvDriverStatus", Some(views::tools_word(vm.tools)))
}

async fn one(caller: Caller, Path((_, vm)): Path<(String, String)>, params: Params) -> Answer {
    let id = vm_id(&vm)?;
    let attaching = params.flag("listAllDisksStatus")?.unwrap_or(false);
    caller.read(|site| Ok(Json(views::vm_detail(site, site.vm(id)?, attaching))))
}

async fn change(caller: Caller, Path((_, vm)): Path<(String, String)>, bytes: Bytes) -> Answer {
    let (id, change) = (vm_id(&vm)?, body::<VmChange>(&bytes)?);
    caller.begin(|site, now, user| site.change_vm(now, user, id, change))
}

async fn remove(caller: Caller, Path((_, vm)): Path<(String, String)>, params: Params) -> Answer {
    let id = vm_id(&vm)?;
    params.refuse(&["isDeleteShareDisks", "isOnlyDeleteDisksInDB"], "not offered by this site")?;
    let flag = |name: &str| params.choice(name, &[0, 1]).map(|choice| choice == Some(1));
    let options = DeleteOptions {
        keep_disks: flag("isReserveDisks")?,
        wipe: flag("isFormat")?,
        hold_hours: params.number("holdTime")?.unwrap_or(0),
        in_bin: flag("vmBin")?,
    };
    caller.begin(|site, now, user| site.delete_vm(now, user, id, options))
}

#[derive(Deserialize)]
struct Mode {
    mode: Option<String>,
}

/// `safe` is the default.
fn is_safe(bytes: &Bytes) -> Result<bool> {
    match body::<Mode>(bytes)?.mode.as_deref() {
        None | Some("safe") => Ok(true),
        Some("force") => Ok(false),
        Some(other) => Err(codes::BAD_PARAMETER.because(format!("mode {other:?}"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttachCd {
    device_path: Option<String>,
    protocol: Option<String>,
    #[serde(default)]
    attach_at_power_on: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detach {
    vol_urn: String,
    #[serde(default)]
    is_format: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expand {
    vol_urn: String,
    size: u64,
}

#[derive(Deserialize)]
struct Length {
    length: Option<usize>,
}

async fn act(caller: Caller, Path((_, vm, verb)): Path<(String, String, String)>, bytes: Bytes) -> Answer {
    let id = vm_id(&vm)?;
    match verb.as_str() {
        "clone" => {
            let request: CloneRequest = body(&bytes)?;
            caller.begin(|site, now, user| site.clone_vm(now, user, id, request))
        }
        "start" => caller.begin(|site, now, user| site.start(now, user, id)),
        "stop" => {
            let safe = is_safe(&bytes)?;
            caller.begin(|site, now, user| site.stop(now, user, id, safe))
        }
        "reboot" => {
            let safe = is_safe(&bytes)?;
            caller.begin(|site, now, user| site.reboot(now, user, id, safe))
        }
        "pause" | "resume" | "hibernate" => caller.begin(|site, now, user| site.rest(now, user, id, &verb)),
        "attachCdrom" => {
            let AttachCd { device_path, protocol, attach_at_power_on } = body(&bytes)?;
            let path = device_path.ok_or_else(|| codes::CD_PATH.because("devicePath is missing"))?;
            caller
                .begin(|site, now, user| site.attach_cd(now, user, id, &path, protocol.as_deref(), attach_at_power_on))
        }
        "detachCdrom" => caller.begin(|site, now, user| site.detach_cd(now, user, id)),
        "describeCdrom" => caller.read(|site| {
            let medium = site.vm(id)?.medium.as_ref();
            Ok(Json(json!({
                "devicePath": medium.map(|medium| &medium.path),
                "attachCdromTime": medium.map(|medium| views::local_time(medium.since)),
            })))
        }),
        "attachvol" => {
            let request: AttachRequest = body(&bytes)?;
            caller.begin(|site, now, user| site.attach_volume(now, user, id, &request))
        }
        "detachvol" => {
            let request: Detach = body(&bytes)?;
            caller.begin(|site, now, user| site.detach_volume(now, user, id, &request.vol_urn, request.is_format))
        }
        "expandvol" => {
            let request: Expand = body(&bytes)?;
            caller.begin(|site, now, user| {
                let volume = site.volume_by_urn(&request.vol_urn)?;
                site.expand_volume(now, user, Some(id), volume, request.size)
            })
        }
        "getConsoleOutput" => {
            let lines = body::<Length>(&bytes)?.length.unwrap_or(100).min(10_000);
            caller.read(|site| site.vm(id).map(|_| ()))?;
            Ok(Json(json!({"output": caller.engine.console(id, lines).join("\n")})))
        }
        _ => Err(codes::BAD_PARAMETER.because(format!("there is no action {verb:?} on VMs"))),
    }
}

async fn marks(caller: Caller, Path((_, vm)): Path<(String, String)>) -> Answer {
    let id = vm_id(&vm)?;
    caller.read(|site| Ok(Json(json!({"customProperties": site.vm(id)?.custom_properties}))))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marks {
    custom_properties: BTreeMap<String, String>,
}

async fn mark(caller: Caller, Path((_, vm)): Path<(String, String)>, bytes: Bytes) -> Answer {
    let (id, marks) = (vm_id(&vm)?, body::<Marks>(&bytes)?);
    caller.change(|site, _, _| site.mark_vm(id, marks.custom_properties))?;
    Ok(Json(json!({})))
}

async fn os_version(caller: Caller, Path((_, version)): Path<(String, String)>) -> Answer {
    caller.read(|site| {
        let version: u64 = version.parse().map_err(|_| codes::BAD_PARAMETER.because("osVersion"))?;
        let (plug, unplug) = (site.policy.disk_hot_plug, site.policy.disk_hot_unplug);
        let answer: Value = json!({
            "osVersion": version, "supportDiskHotPlug": plug, "supportDiskHotUnPlug": unplug,
            "supportDiskExpand": true, "supportVirtioBlk": true, "cpuQuantityLimit": 64, "memQuantityLimit": 1_048_576,
        });
        Ok(Json(answer))
    })
}
