//! Phase `addon`: `CoreDNS` and kube-proxy.

use serde_json::{Value, json};

use super::{Placed, Subject, binding, component_config, config_map, one_config_map, placed, role};
use crate::guest::memory::kubeadm::{
    config::{self, types::ClusterConfiguration},
    images,
    kubelet::no_logging,
    pki::certificates::service_address,
    version::Version,
};

fn account(name: &str) -> Placed {
    placed("", "serviceaccounts", "kube-system", json!({"kind": "ServiceAccount", "metadata": {"name": name}}))
}

/// Phase `addon/coredns`.
pub fn core_dns(cluster: &ClusterConfiguration, kubeadm: &Version) -> Result<Vec<Placed>, String> {
    let address = service_address(cluster, 10)?.to_string();
    let domain = &cluster.networking.dns_domain;
    let corefile = format!(
        ".:53 {{\n    errors\n    health {{\n       lameduck 5s\n    }}\n    ready\n    kubernetes {domain} in-addr.arpa \
         ip6.arpa {{\n       pods insecure\n       fallthrough in-addr.arpa ip6.arpa\n       ttl 30\n    }}\n    prometheus \
         :9153\n    forward . /etc/resolv.conf {{\n       max_concurrent 1000\n    }}\n    cache 30 {{\n       disable \
         success {domain}\n       disable denial {domain}\n    }}\n    loop\n    reload\n    loadbalance\n}}\n"
    );
    let label = json!({"k8s-app": "kube-dns"});
    let port = |name: &str, port: u16, protocol: &str| json!({"name": name, "port": port, "protocol": protocol, "targetPort": port});
    let service = json!({
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "selector": label,
            "type": "ClusterIP",
            "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")],
        },
    });
    let rules = json!([
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]);
    Ok(vec![
        config_map("kube-system", "coredns", json!({"Corefile": corefile})),
        role("", "system:coredns", rules),
        binding("", "system:coredns", "system:coredns", &[Subject::Account("coredns")]),
        account("coredns"),
        placed("apps", "deployments", "kube-system", deployment(&images::core_dns(cluster, kubeadm), &label)),
        placed("", "services", "kube-system", service),
    ])
}

fn deployment(image: &str, label: &Value) -> Value {
    let probe = |path: &str, port: &str| json!({"httpGet": {"path": path, "port": port, "scheme": "HTTP"}});
    let mut live = probe("/health", "liveness-probe");
    for (name, value) in
        [("initialDelaySeconds", 60), ("timeoutSeconds", 5), ("successThreshold", 1), ("failureThreshold", 5)]
    {
        live[name] = value.into();
    }
    let port =
        |name: &str, port: u16, protocol: &str| json!({"name": name, "containerPort": port, "protocol": protocol});
    let affinity = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]},
            "topologyKey": "kubernetes.io/hostname",
        },
    }]}});
    let container = json!({
        "name": "coredns",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": true}],
        "ports": [
            port("dns", 53, "UDP"),
            port("dns-tcp", 53, "TCP"),
            port("metrics", 9153, "TCP"),
            port("liveness-probe", 8080, "TCP"),
            port("readiness-probe", 8181, "TCP"),
        ],
        "livenessProbe": live,
        "readinessProbe": probe("/ready", "readiness-probe"),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
    });
    json!({
        "kind": "Deployment",
        "metadata": {"name": "coredns", "labels": label},
        "spec": {
            "replicas": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "selector": {"matchLabels": label},
            "template": {
                "metadata": {"labels": label},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": "coredns",
                    "affinity": affinity,
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                    ],
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "dnsPolicy": "Default",
                    "containers": [container],
                    "volumes": [{"name": "config-volume", "configMap": {
                        "name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}],
                    }}],
                },
            },
        },
    })
}

/// kubeadm writes down every field, most of them as what nothing stands for: the proxy fills them in.
fn proxy_defaults(pods: &str) -> Value {
    let rules = json!({"masqueradeAll": false, "masqueradeBit": null, "minSyncPeriod": "0s", "syncPeriod": "0s"});
    let mut tables = rules.clone();
    tables["localhostNodePorts"] = Value::Null;
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "bindAddressHardFail": false,
        "clientConnection": {
            "acceptContentTypes": "", "burst": 0, "contentType": "", "kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf",
            "qps": 0,
        },
        "clusterCIDR": pods,
        "configSyncPeriod": "0s",
        "conntrack": {
            "maxPerCore": null, "min": null, "tcpBeLiberal": false, "tcpCloseWaitTimeout": null,
            "tcpEstablishedTimeout": null, "udpStreamTimeout": "0s", "udpTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "detectLocalMode": "",
        "enableProfiling": false,
        "healthzBindAddress": "",
        "hostnameOverride": "",
        "iptables": tables,
        "ipvs": {
            "excludeCIDRs": null, "minSyncPeriod": "0s", "scheduler": "", "strictARP": false, "syncPeriod": "0s",
            "tcpFinTimeout": "0s", "tcpTimeout": "0s", "udpTimeout": "0s",
        },
        "logging": no_logging(),
        "metricsBindAddress": "",
        "mode": "",
        "nftables": rules,
        "nodePortAddresses": null,
        "oomScoreAdj": null,
        "portRange": "",
        "showHiddenMetricsForVersion": "",
        "winkernel": {
            "enableDSR": false, "forwardHealthCheckVip": false, "networkName": "", "rootHnsEndpointName": "",
            "sourceVip": "",
        },
    })
}

/// Phase `addon/kube-proxy`. `server` is what the proxies speak to, `given` the user's `KubeProxyConfiguration`.
pub fn kube_proxy(cluster: &ClusterConfiguration, server: &str, given: Option<&Value>) -> Result<Vec<Placed>, String> {
    let mut configuration = proxy_defaults(&cluster.networking.pod_subnet);
    if let Some(given) = given {
        json_patch::merge(&mut configuration, given);
    }
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {
            "certificate-authority": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            "server": server,
        }}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": "default", "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}}],
    });
    let text = |document: &Value| config::yaml(document).map_err(|error| error.to_string());
    let data = json!({"config.conf": text(&configuration)?, "kubeconfig.conf": text(&kubeconfig)?});
    let mut map = match given {
        Some(_) => config_map("kube-system", "kube-proxy", data),
        None => component_config("kube-proxy", data),
    };
    map.object["metadata"]["labels"] = json!({"app": "kube-proxy"});
    let tokens = "system:bootstrappers:kubeadm:default-node-token";
    Ok(vec![
        map,
        account("kube-proxy"),
        binding("", "kubeadm:node-proxier", "system:node-proxier", &[Subject::Account("kube-proxy")]),
        role("kube-system", "kube-proxy", one_config_map("kube-proxy")),
        binding("kube-system", "kube-proxy", "kube-proxy", &[Subject::Group(tokens)]),
        placed("apps", "daemonsets", "kube-system", daemon_set(&images::kubernetes(cluster, "kube-proxy"))),
    ])
}

fn daemon_set(image: &str) -> Value {
    let label = json!({"k8s-app": "kube-proxy"});
    let container = json!({
        "name": "kube-proxy",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "/usr/local/bin/kube-proxy",
            "--config=/var/lib/kube-proxy/config.conf",
            "--hostname-override=$(NODE_NAME)",
        ],
        "securityContext": {"privileged": true},
        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "volumeMounts": [
            {"name": "kube-proxy", "mountPath": "/var/lib/kube-proxy"},
            {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
            {"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": true},
        ],
    });
    json!({
        "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "labels": label},
        "spec": {
            "selector": {"matchLabels": label},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": label},
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "hostNetwork": true,
                    "serviceAccountName": "kube-proxy",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [container],
                    "volumes": [
                        {"name": "kube-proxy", "configMap": {"name": "kube-proxy"}},
                        {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
                        {"name": "lib-modules", "hostPath": {"path": "/lib/modules"}},
                    ],
                },
            },
        },
    })
}
