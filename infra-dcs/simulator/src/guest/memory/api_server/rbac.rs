//! RBAC rules: how they match, those that every API server has, and the objects that kubeadm makes.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{
    authn::{AUTHENTICATED, UNAUTHENTICATED, User},
    request::Attributes,
};

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub fn read(rule: &Value) -> Self {
        let list = |field: &str| {
            let values = rule.get(field).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    /// The rule as a `PolicyRule`.
    pub fn document(&self) -> Value {
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        let given = fields.into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(given.map(|(field, list)| (field.to_owned(), json!(list))).collect())
    }

    fn paths(paths: &[&str]) -> Self {
        Self { verbs: owned(&["get"]), paths: owned(paths), ..Self::default() }
    }

    fn resources(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Self {
        Self { verbs: owned(verbs), groups: owned(groups), resources: owned(resources), ..Self::default() }
    }

    /// Whether it lets a request pass (`pkg/apis/rbac/v1/evaluation_helpers.go`).
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !has(&self.verbs, &attributes.verb) {
            return false;
        }
        let Some(resource) = &attributes.resource else {
            return self.paths.iter().any(|path| match path.strip_suffix('*') {
                Some(prefix) => attributes.path.starts_with(prefix),
                None => *path == attributes.path,
            });
        };
        let full = resource.full_resource();
        let any_of = (!resource.subresource.is_empty()).then(|| format!("*/{}", resource.subresource));
        let is_resource = has(&self.resources, &full) || any_of.is_some_and(|any| self.resources.contains(&any));
        has(&self.groups, &resource.group)
            && is_resource
            && (self.names.is_empty() || self.names.contains(&resource.name))
    }
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|listed| listed == "*" || listed == wanted)
}

const READ: &[&str] = &["get", "list", "watch"];
const CSR: &str = "certificates.k8s.io";

static CLUSTER_ADMIN: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let any = Rule { verbs: owned(&["*"]), paths: owned(&["*"]), ..Rule::default() };
    vec![Rule::resources(&["*"], &["*"], &["*"]), any]
});

static DISCOVERY: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let paths = [
        "/livez",
        "/readyz",
        "/healthz",
        "/version",
        "/version/",
        "/openapi",
        "/openapi/*",
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
    ];
    vec![Rule::paths(&paths)]
});

static BASIC_USER: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let access = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        Rule::resources(&["create"], &["authorization.k8s.io"], &access),
        Rule::resources(&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
    ]
});

static PUBLIC_INFO: LazyLock<Vec<Rule>> =
    LazyLock::new(|| vec![Rule::paths(&["/livez", "/readyz", "/healthz", "/version", "/version/"])]);

static NODE_BOOTSTRAPPER: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    vec![Rule::resources(&["create", "get", "list", "watch"], &[CSR], &["certificatesigningrequests"])]
});

/// Requests for certificates that may be approved without a person.
static NODE_CLIENT: LazyLock<Vec<Rule>> =
    LazyLock::new(|| vec![Rule::resources(&["create"], &[CSR], &["certificatesigningrequests/nodeclient"])]);
static SELF_NODE_CLIENT: LazyLock<Vec<Rule>> =
    LazyLock::new(|| vec![Rule::resources(&["create"], &[CSR], &["certificatesigningrequests/selfnodeclient"])]);

/// What the node authorizer grants where objects do not matter.
pub(super) static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let storage = "storage.k8s.io";
    let lifecycle = ["get", "create", "update", "patch", "delete"];
    vec![
        Rule::resources(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        Rule::resources(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews", "localsubjectaccessreviews"]),
        Rule::resources(READ, &[""], &["services"]),
        Rule::resources(&["create", "update", "patch"], &["", "events.k8s.io"], &["events"]),
        Rule::resources(&["create", "get", "list", "watch"], &[CSR], &["certificatesigningrequests"]),
        Rule::resources(READ, &[storage], &["csidrivers"]),
        Rule::resources(&lifecycle, &[storage], &["csinodes"]),
        Rule::resources(READ, &["node.k8s.io"], &["runtimeclasses"]),
    ]
});

/// The rules that every server's own bindings give to a user.
pub(super) fn built_in_rules(user: &User) -> impl Iterator<Item = &'static Rule> {
    let is_known = user.is_in(AUTHENTICATED);
    let is_anybody = is_known || user.is_in(UNAUTHENTICATED);
    let for_known = [&DISCOVERY, &BASIC_USER].into_iter().filter(move |_| is_known);
    let for_anybody = [&PUBLIC_INFO].into_iter().filter(move |_| is_anybody);
    for_known.chain(for_anybody).flat_map(|rules| rules.iter())
}

/// The rules of a `ClusterRole` that every server has and nobody has stored.
pub(super) fn built_in_role(name: &str) -> &'static [Rule] {
    match name {
        "cluster-admin" => &CLUSTER_ADMIN,
        "system:discovery" => &DISCOVERY,
        "system:basic-user" => &BASIC_USER,
        "system:public-info-viewer" => &PUBLIC_INFO,
        "system:node-bootstrapper" => &NODE_BOOTSTRAPPER,
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient" => &NODE_CLIENT,
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient" => &SELF_NODE_CLIENT,
        _ => &[],
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const TOKENS: &str = "system:bootstrappers:kubeadm:default-node-token";

fn object(kind: &str, name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata})
}

fn cluster_binding(name: &str, role: &str, kind: &str, subject: &str) -> Value {
    let mut binding = object("ClusterRoleBinding", name, None);
    binding["roleRef"] = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": role});
    binding["subjects"] = json!([{"apiGroup": RBAC, "kind": kind, "name": subject}]);
    binding
}

/// A `Role` to get one `ConfigMap`, and its binding to some subjects.
fn config_map_reader(namespace: &str, role: &str, config_map: &str, subjects: &[(&str, &str)]) -> [Value; 2] {
    let mut reader = object("Role", role, Some(namespace));
    reader["rules"] =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map], "verbs": ["get"]}]);
    let mut binding = object("RoleBinding", role, Some(namespace));
    binding["roleRef"] = json!({"apiGroup": RBAC, "kind": "Role", "name": role});
    let subjects =
        subjects.iter().map(|(kind, name)| json!({"apiGroup": RBAC, "kind": kind, "name": name})).collect::<Vec<_>>();
    binding["subjects"] = json!(subjects);
    [reader, binding]
}

/// The RBAC objects that `kubeadm init` makes (phases kubeconfig, upload-config, bootstrap-token and addon/kube-proxy,
/// kubeadm 1.31 to 1.36), each with its kind. Without them nobody can join, and `admin.conf` may do nothing.
pub fn kubeadm_objects() -> Vec<Value> {
    let nodes = ("Group", "system:nodes");
    let tokens = ("Group", TOKENS);
    let csr = "system:certificates.k8s.io:certificatesigningrequests";
    let mut get_nodes = object("ClusterRole", "kubeadm:get-nodes", None);
    get_nodes["rules"] = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]);
    let mut objects = vec![
        cluster_binding("kubeadm:cluster-admins", "cluster-admin", "Group", "kubeadm:cluster-admins"),
        cluster_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", "Group", TOKENS),
        cluster_binding("kubeadm:node-autoapprove-bootstrap", &format!("{csr}:nodeclient"), "Group", TOKENS),
        cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{csr}:selfnodeclient"),
            "Group",
            nodes.1,
        ),
        cluster_binding(
            "kubeadm:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            "User",
            "kube-apiserver-kubelet-client",
        ),
        get_nodes,
        cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", "Group", TOKENS),
    ];
    let readers = [
        ("kube-system", "kubeadm:nodes-kubeadm-config", "kubeadm-config", vec![tokens, nodes]),
        ("kube-system", "kubeadm:kubelet-config", "kubelet-config", vec![nodes, tokens]),
        ("kube-system", "kube-proxy", "kube-proxy", vec![tokens]),
        ("kube-public", "kubeadm:bootstrap-signer-clusterinfo", "cluster-info", vec![("User", "system:anonymous")]),
    ];
    for (namespace, role, config_map, subjects) in readers {
        objects.extend(config_map_reader(namespace, role, config_map, &subjects));
    }
    objects
}
