//! Distributed switches and port groups.

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};

use super::{Answer, Caller, Params, Path};
use crate::site::{Entity, PortGroup, Site, codes};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/sites/{site}/dvswitchs", get(switches))
        .route("/service/sites/{site}/dvswitchs/{id}/portgroups", get(groups_of))
        .route("/service/sites/{site}/dvswitchs/{id}/portgroups/{group}", get(group))
        .route("/service/sites/{site}/portgroups", get(all_groups))
}

async fn switches(caller: Caller, params: Params) -> Answer {
    caller.read(|site| {
        let wanted = site.switches.values().filter(|switch| params.fuzzy("name", &switch.name));
        let items: Vec<Value> = wanted
            .map(|switch| {
                let entity = Entity::Switch(switch.id);
                let groups = site.port_groups.values().filter(|group| group.switch == switch.id).count();
                json!({
                    "urn": site.urn(entity), "uri": entity.uri(&site.id), "name": switch.name, "type": 0,
                    "portGroupNum": groups, "mtu": 1500, "isIgmpSnooping": false,
                })
            })
            .collect();
        Ok(Json(json!({"dvSwitchs": items})))
    })
}

fn view(site: &Site, group: &PortGroup) -> Value {
    let entity = Entity::PortGroup(group.switch, group.id);
    json!({
        "urn": site.urn(entity), "uri": entity.uri(&site.id), "name": group.name, "portType": 0, "vlanId": group.vlan,
    })
}

async fn groups_of(caller: Caller, Path((_, id)): Path<(String, u64)>, params: Params) -> Answer {
    caller.read(|site| {
        if !site.switches.contains_key(&id) {
            return codes::SWITCH_NOT_FOUND.refuse();
        }
        let wanted = site.port_groups.values().filter(|group| {
            group.switch == id
                && params.fuzzy("portGroupName", &group.name)
                && params.text("vlan").is_none_or(|vlan| group.vlan.to_string() == vlan)
        });
        params.page("portGroups", wanted, usize::MAX, |group| view(site, group))
    })
}

async fn group(caller: Caller, Path((_, switch, id)): Path<(String, u64, u64)>) -> Answer {
    caller.read(|site| {
        let group = site.port_groups.get(&id).filter(|group| group.switch == switch);
        Ok(Json(view(site, group.ok_or(codes::PORT_GROUP_NOT_FOUND)?)))
    })
}

async fn all_groups(caller: Caller, params: Params) -> Answer {
    caller.read(|site| {
        let wanted = site.port_groups.values().filter(|group| params.fuzzy("portGroupName", &group.name));
        params.page("portGroups", wanted, usize::MAX, |group| view(site, group))
    })
}
