//! kubeconfig files: those that kubeadm writes, and reading any that it is given.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    config::{
        self,
        types::{ApiEndpoint, ClusterConfiguration},
    },
    files::Files,
    pki::{Authority, KeyStore, Leaf, certificates::after, load_certificate, load_key},
};
use jiff::Timestamp;

/// Who a kubeconfig speaks as. Holds secrets: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody.
    Anonymous,
    /// A bearer token.
    Token(String),
    /// A certificate and its key, PEM.
    Certificate {
        /// Certificate.
        certificate: Vec<u8>,
        /// Key.
        key: Vec<u8>,
    },
}

/// What a client needs of a kubeconfig.
#[derive(Clone)]
pub struct Kubeconfig {
    /// `https://host:port`
    pub server: String,
    /// Certificates of the authorities that the server's must come from, PEM; empty: none is trusted.
    pub authority: Vec<u8>,
    /// Who speaks.
    pub identity: Identity,
}

impl Kubeconfig {
    /// Reads a kubeconfig of the machine; relative and absolute file names are looked up there.
    pub fn read(files: &dyn Files, path: &str) -> Result<Self, String> {
        let text = files.text(path).ok_or_else(|| format!("open {path}: no such file or directory"))?;
        Self::parse(files, &text).map_err(|why| format!("failed to load kubeconfig {path}: {why}"))
    }

    /// Reads a kubeconfig. Its current context is used, or the only one there is.
    pub fn parse(files: &dyn Files, text: &str) -> Result<Self, String> {
        let document = config::from_yaml(text).map_err(|error| error.to_string())?;
        let context = named(&document, "contexts", document["current-context"].as_str().unwrap_or_default());
        let context = context.map_or(&Value::Null, |context| &context["context"]);
        let cluster = named(&document, "clusters", context["cluster"].as_str().unwrap_or_default())
            .ok_or("there is no cluster in it")?;
        let cluster = &cluster["cluster"];
        let server = cluster["server"].as_str().unwrap_or_default().to_owned();
        let authority = content(files, cluster, "certificate-authority")?.unwrap_or_default();
        let user = named(&document, "users", context["user"].as_str().unwrap_or_default());
        let user = user.map_or(&Value::Null, |user| &user["user"]);
        let identity = match (
            user["token"].as_str(),
            content(files, user, "client-certificate")?,
            content(files, user, "client-key")?,
        ) {
            (Some(token), _, _) => Identity::Token(token.to_owned()),
            (None, Some(certificate), Some(key)) => Identity::Certificate { certificate, key },
            _ => Identity::Anonymous,
        };
        Ok(Self { server, authority, identity })
    }
}

/// The element of this name, or the only one where no name is given.
fn named<'a>(document: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    let all = document[list].as_array()?;
    match (name, all.as_slice()) {
        ("", [only]) => Some(only),
        _ => all.iter().find(|element| element["name"] == name),
    }
}

/// Content that stands in the document or in a file that it names.
fn content(files: &dyn Files, object: &Value, field: &str) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = object[format!("{field}-data")].as_str().filter(|data| !data.is_empty()) {
        return BASE64_STANDARD.decode(data).map(Some).map_err(|_| format!("{field}-data is not base64"));
    }
    match object[field].as_str() {
        None | Some("") => Ok(None),
        Some(path) => files
            .read(path)
            .map(Some)
            .ok_or_else(|| format!("unable to read {field} {path}: no such file or directory")),
    }
}

/// A kubeconfig with one of each.
pub fn document(server: &str, cluster: &str, user: &str, authority: &[u8], identity: &Identity) -> Value {
    let user_content = match identity {
        Identity::Anonymous => json!({}),
        Identity::Token(token) => json!({"token": token}),
        Identity::Certificate { certificate, key } => json!({
            "client-certificate-data": BASE64_STANDARD.encode(certificate),
            "client-key-data": BASE64_STANDARD.encode(key),
        }),
    };
    let context = format!("{user}@{cluster}");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": context,
        "clusters": [{"name": cluster, "cluster": {
            "certificate-authority-data": BASE64_STANDARD.encode(authority),
            "server": server,
        }}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "users": [{"name": user, "user": user_content}],
    })
}

/// A file of the phase `kubeconfig`.
struct Spec {
    file: &'static str,
    user: String,
    organisations: &'static [&'static str],
    /// Speaks to this machine's own API server, as what upgrades with it must.
    is_local: bool,
}

/// What the phase makes files of.
pub struct Request<'a> {
    /// The cluster.
    pub cluster: &'a ClusterConfiguration,
    /// Name of the node.
    pub node: &'a str,
    /// Where this machine's API server listens.
    pub endpoint: &'a ApiEndpoint,
    /// The machine's clock.
    pub now: Timestamp,
    /// Keys.
    pub keys: &'a KeyStore,
    /// Whether this machine joins, so that kubelet's file and the super-admin's are not made here.
    pub joins: bool,
}

/// `https://` and the endpoint that all machines use, or this machine's where there is none.
pub fn endpoint_url(cluster: &ClusterConfiguration, local: &ApiEndpoint) -> String {
    match config::host_port(&cluster.control_plane_endpoint) {
        Some((host, port)) if !host.is_empty() => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            format!("https://{host}:{}", port.map_or(local.bind_port, i32::from))
        }
        _ => format!("https://{local}"),
    }
}

/// Writes the files that are missing, and checks those that are there.
pub fn run(
    files: &mut dyn Files,
    request: &Request<'_>,
    print: &mut dyn FnMut(String),
) -> Result<(), (String, String)> {
    print("[kubeconfig] Using kubeconfig folder \"/etc/kubernetes\"".to_owned());
    let node = format!("system:node:{}", request.node);
    let mut specs = vec![Spec {
        file: "admin.conf",
        user: "kubernetes-admin".into(),
        organisations: &["kubeadm:cluster-admins"],
        is_local: false,
    }];
    if !request.joins {
        specs.push(Spec {
            file: "super-admin.conf",
            user: "kubernetes-super-admin".into(),
            organisations: &["system:masters"],
            is_local: false,
        });
        specs.push(Spec { file: "kubelet.conf", user: node, organisations: &["system:nodes"], is_local: true });
    }
    for (file, user) in
        [("controller-manager.conf", "system:kube-controller-manager"), ("scheduler.conf", "system:kube-scheduler")]
    {
        specs.push(Spec { file, user: user.into(), organisations: &[], is_local: true });
    }
    for spec in specs {
        let phase = spec.file.trim_end_matches(".conf").to_owned();
        write(files, request, &spec, print).map_err(|why| (phase, why))?;
    }
    Ok(())
}

fn write(
    files: &mut dyn Files,
    request: &Request<'_>,
    spec: &Spec,
    print: &mut dyn FnMut(String),
) -> Result<(), String> {
    let directory = &request.cluster.certificates_dir;
    let path = format!("/etc/kubernetes/{}", spec.file);
    let wrong = |why: String| format!("couldn't create a kubeconfig; the CA files couldn't be loaded: {why}");
    let crt = format!("{directory}/ca.crt");
    let authority_pem = files.read(&crt).ok_or_else(|| {
        "the CA files do not exist, please run `kubeadm init phase certs ca` to generate it".to_owned()
    })?;
    let server = if spec.is_local {
        format!("https://{}", request.endpoint)
    } else {
        endpoint_url(request.cluster, request.endpoint)
    };
    if files.is_file(&path) {
        let there = Kubeconfig::read(files, &path)?;
        if there.authority.trim_ascii() != authority_pem.trim_ascii() {
            return Err(format!("a kubeconfig file {path:?} exists but does not contain a valid CA"));
        }
        if there.server != server {
            print(format!(
                "W a kubeconfig file {path:?} exists already but has an unexpected API Server URL: expected: {server}, got: {}",
                there.server
            ));
        }
        print(format!("[kubeconfig] Using existing kubeconfig file: {path:?}"));
        return Ok(());
    }
    let certificate = load_certificate(files, &crt).map_err(wrong)?;
    let key = load_key(files, &format!("{directory}/ca.key")).map_err(wrong)?;
    let failed = |why: String| format!("failure while creating {} client certificate: {why}", spec.user);
    let authority = Authority::new(certificate, key).map_err(failed)?;
    let life = request.cluster.certificate_validity_period.unwrap_or_default();
    let leaf = Leaf::client(&spec.user, spec.organisations, after(request.now, life));
    let leaf_key = request.keys.take(request.cluster.encryption_algorithm.parse()?)?;
    let issued = authority.issue(&leaf, &leaf_key.pair).map_err(failed)?;
    let identity = Identity::Certificate { certificate: issued.into_bytes(), key: leaf_key.pem.clone().into_bytes() };
    let document = document(&server, &request.cluster.cluster_name, &spec.user, &authority_pem, &identity);
    let text = config::yaml(&document).map_err(|error| error.to_string())?;
    print(format!("[kubeconfig] Writing {:?} kubeconfig file", spec.file));
    files.write(&path, 0o600, text.as_bytes());
    Ok(())
}
