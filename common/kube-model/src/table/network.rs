//! Services and where they lead.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    AGE, NAME, Printer,
    cells::{NONE, UNSET, age, first_three, joined, labels, list, name, number, scalar, text, text_or},
    text as text_column, wide,
};

pub(super) const SERVICES: Printer = Printer {
    columns: &[
        NAME,
        text_column("Type"),
        text_column("Cluster-IP"),
        text_column("External-IP"),
        text_column("Port(s)"),
        AGE,
        wide("Selector"),
    ],
    cells: |service, now| {
        // The real server copies one field to the other; a service that names neither has no address here.
        let address = text_or(service, "/spec/clusterIPs/0", text_or(service, "/spec/clusterIP", NONE));
        vec![
            name(service),
            kind(service).into(),
            address.into(),
            external_addresses(service).into(),
            ports(service).into(),
            age(service, now),
            labels(service, "/spec/selector").into(),
        ]
    },
};

pub(super) const ENDPOINTS: Printer = Printer {
    columns: &[NAME, text_column("Endpoints"), AGE],
    cells: |endpoints, now| vec![name(endpoints), subsets(endpoints).into(), age(endpoints, now)],
};

pub(super) const ENDPOINT_SLICES: Printer = Printer {
    columns: &[NAME, text_column("AddressType"), text_column("Ports"), text_column("Endpoints"), AGE],
    cells: |slice, now| {
        let port = |port: &Value| scalar(port, "/port").or_else(|| scalar(port, "/name")).unwrap_or_else(|| "*".into());
        let ports: Vec<_> = list(slice, "/ports").iter().map(port).collect();
        let addresses = list(slice, "/endpoints").iter().flat_map(|endpoint| list(endpoint, "/addresses"));
        let addresses: Vec<_> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        let shown = |texts: &[String]| if texts.is_empty() { UNSET.to_owned() } else { first_three(texts) };
        vec![
            name(slice),
            text(slice, "/addressType").into(),
            shown(&ports).into(),
            shown(&addresses).into(),
            age(slice, now),
        ]
    },
};

fn kind(service: &Value) -> &str {
    text_or(service, "/spec/type", "ClusterIP")
}

fn external_addresses(service: &Value) -> String {
    let given = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    let (addresses, missing): (Vec<&str>, _) = match kind(service) {
        "ExternalName" => return text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = list(service, "/status/loadBalancer/ingress").iter();
            let ingress = ingress.map(|one| text_or(one, "/ip", text(one, "/hostname")));
            let ingress: BTreeSet<_> = ingress.filter(|address| !address.is_empty()).collect();
            (ingress.into_iter().chain(given).collect(), "<pending>")
        }
        _ => (given.collect(), NONE),
    };
    if addresses.is_empty() { missing.to_owned() } else { joined(addresses) }
}

fn ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (number, node) = (number(port, "/port"), number(port, "/nodePort"));
        let protocol = text_or(port, "/protocol", "TCP");
        if node > 0 { format!("{number}:{node}/{protocol}") } else { format!("{number}/{protocol}") }
    };
    let ports: Vec<_> = list(service, "/spec/ports").iter().map(port).collect();
    if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }
}

fn subsets(endpoints: &Value) -> String {
    let subsets = list(endpoints, "/subsets");
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut shown = Vec::new();
    for subset in subsets {
        let addresses = || list(subset, "/addresses").iter().map(|address| text(address, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            shown.extend(addresses().map(str::to_owned));
        }
        for port in ports.iter().map(|port| number(port, "/port")) {
            shown.extend(addresses().map(|address| {
                if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
            }));
        }
    }
    first_three(&shown)
}
