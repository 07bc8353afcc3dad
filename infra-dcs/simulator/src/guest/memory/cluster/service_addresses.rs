//! The addresses of Services: given when a Service is made, from the API servers' range
//! (`pkg/registry/core/service/{allocator,ipallocator}`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use kube_model::{ApiError, FieldError, Qualified, Server};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::api::{Api, SERVICES, name};
use crate::guest::memory::kubeadm::Cidr;

const SERVICE: Qualified<'static> = Qualified { group: "", resource: "Service" };

/// Which addresses are taken.
#[derive(Default)]
pub struct ServiceAddresses(Mutex<State>);

#[derive(Default)]
struct State {
    range: Option<Cidr>,
    /// Addresses, and the look at the Services before which each was taken.
    taken: BTreeMap<IpAddr, u64>,
    looks: u64,
}

impl ServiceAddresses {
    /// Makes a server give addresses to its Services.
    pub fn install(server: &Server) -> Arc<Self> {
        let this = Arc::new(Self::default());
        if let Some((_, service)) = server.registry().find("", "v1", "services") {
            let mut service = service.as_ref().clone();
            let (addresses, prepare) = (Arc::clone(&this), service.prepare.take());
            service.prepare = Some(Arc::new(move |service, old| {
                if let Some(prepare) = &prepare {
                    prepare(service, old);
                }
                addresses.0.lock().complete(service, old);
            }));
            let addresses = Arc::clone(&this);
            service.admit = Some(Arc::new(move |service, _| match addresses.0.lock().check(service) {
                Some(error) => Err(ApiError::invalid(SERVICE, name(service), &[error])),
                None => Ok(()),
            }));
            server.install(service);
        }
        this
    }

    /// Sets the range, unless an API server did that before.
    pub fn set_range(&self, range: Cidr) {
        self.0.lock().range.get_or_insert(range);
    }

    /// Looks at the Services: addresses that none has any more are free.
    pub fn look(&self, api: &Api<'_>) {
        let look = {
            let mut state = self.0.lock();
            state.looks += 1;
            state.looks
        };
        let services = api.list(SERVICES, "");
        let used: BTreeSet<IpAddr> = services.iter().filter_map(|service| given(service)).collect();
        let mut state = self.0.lock();
        // What was given since the list was made counts too.
        state.taken.retain(|address, since| *since >= look || used.contains(address));
        for address in used {
            state.taken.entry(address).or_insert(look);
        }
    }
}

/// The address of a Service.
fn given(service: &Value) -> Option<IpAddr> {
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

impl State {
    fn complete(&mut self, service: &mut Value, old: Option<&Value>) {
        let spec = &service["spec"];
        if !spec.is_object() || spec["type"] == "ExternalName" {
            return;
        }
        if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
            let known = old.and_then(|old| old["spec"]["clusterIP"].as_str()).map(str::to_owned);
            let Some(address) = known.or_else(|| self.take().map(|address| address.to_string())) else { return };
            service["spec"]["clusterIP"] = address.into();
        }
        let address = service["spec"]["clusterIP"].clone();
        if let Some(address) = given(service) {
            self.taken.insert(address, self.looks);
        }
        let is_ipv6 = address.as_str().is_some_and(|text| text.contains(':'));
        let Some(spec) = service["spec"].as_object_mut() else { return };
        spec.insert("clusterIPs".into(), json!([address]));
        spec.entry("ipFamilies").or_insert_with(|| json!([if is_ipv6 { "IPv6" } else { "IPv4" }]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    }

    /// The first free address. The low ones are left to those who ask for one of them.
    fn take(&self) -> Option<IpAddr> {
        let range = self.range?;
        // Neither the network's own address nor the last, which in IPv4 is everybody's.
        let end = range.size().saturating_sub(u128::from(range.is_ipv4()));
        let low = if end < 16 { 1 } else { (range.size() / 16).clamp(16, 256).min(end) };
        let offsets = (low..end).chain(1..low);
        offsets.filter_map(|offset| range.address(offset)).find(|address| !self.taken.contains_key(address))
    }

    fn check(&self, service: &Value) -> Option<FieldError> {
        let (address, range) = (given(service)?, self.range?);
        (!range.contains(address)).then(|| {
            let why = format!(
                "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of \
                 valid IPs is {range}"
            );
            FieldError::invalid("spec.clusterIPs", json!([address.to_string()]), why)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_given_once() {
        let mut state = State { range: Cidr::parse("10.96.0.0/29"), ..State::default() };
        let mut addresses = Vec::new();
        for _ in 0..7 {
            let mut service = json!({"spec": {}});
            state.complete(&mut service, None);
            addresses.extend(given(&service));
        }
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 6, "{addresses:?}");
        let mut headless = json!({"spec": {"clusterIP": "None"}});
        state.complete(&mut headless, None);
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let foreign = json!({"spec": {"clusterIP": "10.97.0.1"}});
        assert!(state.check(&foreign).unwrap().to_string().contains("not in the valid range"));
    }

    #[test]
    fn an_update_keeps_the_address() {
        let mut state = State { range: Cidr::parse("10.96.0.0/12"), ..State::default() };
        let mut service = json!({"spec": {}});
        state.complete(&mut service, None);
        assert_eq!(service["spec"]["clusterIP"], "10.96.1.0");
        let mut changed = json!({"spec": {"type": "ClusterIP"}});
        state.complete(&mut changed, Some(&service));
        assert_eq!(changed["spec"]["clusterIP"], "10.96.1.0");
    }
}
