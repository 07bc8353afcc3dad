//! Whether a static pod comes up: what kubelet checks before it starts a container, and what the component itself checks
//! when it reads its flags.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::flags;
use crate::guest::memory::kubeadm::{
    config::{self, types::Arg},
    files::{Entry, Files},
    manifests::argument,
    pki,
};

/// Flags whose value names a file that must be readable, and the kind of document in it where it is one.
const FILE_FLAGS: [(&str, &str); 34] = [
    ("admission-control-config-file", "AdmissionConfiguration"),
    ("audit-policy-file", "Policy"),
    ("audit-webhook-config-file", ""),
    ("authentication-config", "AuthenticationConfiguration"),
    ("authentication-kubeconfig", "Config"),
    ("authentication-token-webhook-config-file", ""),
    ("authorization-config", "AuthorizationConfiguration"),
    ("authorization-kubeconfig", "Config"),
    ("authorization-policy-file", ""),
    ("authorization-webhook-config-file", ""),
    ("cert-file", ""),
    ("client-ca-file", ""),
    ("cluster-signing-cert-file", ""),
    ("cluster-signing-key-file", ""),
    ("egress-selector-config-file", "EgressSelectorConfiguration"),
    ("encryption-provider-config", "EncryptionConfiguration"),
    ("etcd-cafile", ""),
    ("kubeconfig", "Config"),
    ("kubelet-certificate-authority", ""),
    ("key-file", ""),
    ("oidc-ca-file", ""),
    ("peer-trusted-ca-file", ""),
    ("proxy-client-cert-file", ""),
    ("requestheader-client-ca-file", ""),
    ("root-ca-file", ""),
    ("service-account-key-file", ""),
    ("service-account-private-key-file", ""),
    ("service-account-signing-key-file", ""),
    ("token-auth-file", ""),
    ("tracing-config-file", "TracingConfiguration"),
    ("trusted-ca-file", ""),
    ("tls-cert-file", ""),
    ("tls-private-key-file", ""),
    ("etcd-certfile", ""),
];

/// Flags that name a certificate and the key that must fit it.
const PAIRS: [(&str, &str); 6] = [
    ("tls-cert-file", "tls-private-key-file"),
    ("kubelet-client-certificate", "kubelet-client-key"),
    ("proxy-client-cert-file", "proxy-client-key-file"),
    ("etcd-certfile", "etcd-keyfile"),
    ("cert-file", "key-file"),
    ("peer-cert-file", "peer-key-file"),
];

/// Flags that name certificates of authorities.
const AUTHORITIES: [&str; 7] = [
    "client-ca-file",
    "etcd-cafile",
    "requestheader-client-ca-file",
    "trusted-ca-file",
    "peer-trusted-ca-file",
    "root-ca-file",
    "kubelet-certificate-authority",
];

/// Why a static pod does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Reason of the container's waiting state, as kubelet shows it.
    pub reason: &'static str,
    /// What its log or the pod's events say.
    pub message: String,
}

fn crash(message: impl Into<String>) -> Trouble {
    Trouble { reason: "CrashLoopBackOff", message: message.into() }
}

/// Starts a pod in thought: makes the paths that it wants made, and finds what would stop it. Answers the pod with its flags
/// in one form, `--name=value`.
pub fn start(pod: &Value, files: &mut dyn Files) -> Result<Value, Trouble> {
    mount(pod, files)?;
    let words = |list: &str| pod["spec"]["containers"][0][list].as_array().into_iter().flatten();
    let words: Vec<&str> = words("command").chain(words("args")).filter_map(Value::as_str).collect();
    let Some((program, arguments)) = words.split_first() else {
        return Err(crash("the pod has no container with a command"));
    };
    let Some(known) = flags::program(program) else { return Ok(pod.clone()) };
    let flags = known.parse(arguments.iter().copied()).map_err(|why| crash(format!("Error: {why}")))?;
    check(&View { pod, files }, &flags)?;
    let mut read = pod.clone();
    let named = flags.iter().map(|flag| format!("--{}={}", flag.name, flag.value));
    read["spec"]["containers"][0]["command"] = std::iter::once((*program).to_owned()).chain(named).collect();
    Ok(read)
}

/// kubelet's part: the types of `hostPath` volumes.
fn mount(pod: &Value, files: &mut dyn Files) -> Result<(), Trouble> {
    for volume in pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default();
        let path = volume["hostPath"]["path"].as_str().unwrap_or_default();
        let refuse = |what: &str| Trouble {
            reason: "ContainerCreating",
            message: format!(
                "MountVolume.SetUp failed for volume {name:?} : hostPath type check failed: {path} is not {what}"
            ),
        };
        let entry = files.entry(path);
        match (volume["hostPath"]["type"].as_str().unwrap_or_default(), entry) {
            ("File", Some(Entry::File)) | ("Directory", Some(Entry::Directory)) => {}
            ("File", _) | ("FileOrCreate", Some(Entry::Directory)) => return Err(refuse("a file")),
            ("Directory", _) | ("DirectoryOrCreate", Some(Entry::File)) => return Err(refuse("a directory")),
            ("FileOrCreate", None) => files.write(path, 0o644, b""),
            // Without a type the container runtime makes a directory of what is missing.
            ("DirectoryOrCreate" | "", None) if !path.is_empty() => files.make_directory(path),
            _ => {}
        }
    }
    Ok(())
}

/// The machine's files as a container sees them.
struct View<'a> {
    pod: &'a Value,
    files: &'a dyn Files,
}

impl View<'_> {
    /// Where a path of the container lies on the machine, and whether it can be written; none where no volume is.
    fn host_path(&self, path: &str) -> Option<(String, bool)> {
        let mounts = self.pod.pointer("/spec/containers/0/volumeMounts")?.as_array()?;
        let volumes = self.pod.pointer("/spec/volumes")?.as_array()?;
        let covering = mounts.iter().filter_map(|mount| {
            let at = mount["mountPath"].as_str()?.trim_end_matches('/');
            let rest = path.strip_prefix(at).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
            let host = volume["hostPath"]["path"].as_str()?.trim_end_matches('/');
            let sub = mount["subPath"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
            Some((at.len(), format!("{host}{sub}{rest}"), mount["readOnly"] != true))
        });
        covering.max_by_key(|(length, ..)| *length).map(|(_, path, is_writable)| (path, is_writable))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let missing = || format!("open {path}: no such file or directory");
        let (host, _) = self.host_path(path).ok_or_else(missing)?;
        match self.files.entry(&host) {
            Some(Entry::Directory) => Err(format!("read {path}: is a directory")),
            Some(Entry::File) => self.files.read(&host).ok_or_else(missing),
            None => Err(missing()),
        }
    }
}

/// The component's part.
fn check(view: &View<'_>, flags: &[Arg]) -> Result<(), Trouble> {
    let value = |name: &str| argument(flags, name);
    for flag in flags.iter().filter(|flag| !flag.value.is_empty()) {
        let wrong = |why: String| crash(format!("error: invalid value of --{}: {why}", flag.name));
        if let Some((_, kind)) = FILE_FLAGS.iter().find(|(name, _)| *name == flag.name) {
            let content = view.read(&flag.value).map_err(wrong)?;
            if !kind.is_empty() {
                document(&content, kind).map_err(|why| wrong(format!("error reading {}: {why}", flag.value)))?;
            }
        }
        if AUTHORITIES.contains(&flag.name.as_str()) {
            let content = view.read(&flag.value).map_err(wrong)?;
            pki::certificates_of(&content).map_err(|why| wrong(format!("error reading {}: {why}", flag.value)))?;
        }
        if flag.name == "audit-log-path"
            && flag.value != "-"
            && let Some((_, false)) = view.host_path(&flag.value)
        {
            return Err(wrong(format!("open {}: read-only file system", flag.value)));
        }
    }
    for (certificate, key) in PAIRS {
        let (Some(certificate), Some(key)) = (value(certificate), value(key)) else { continue };
        if !certificate.is_empty() && !key.is_empty() {
            pair(view, certificate, key).map_err(crash)?;
        }
    }
    Ok(())
}

fn pair(view: &View<'_>, certificate_path: &str, key_path: &str) -> Result<(), String> {
    let why = |why: String| format!("unable to load certificate and key {certificate_path}, {key_path}: {why}");
    let certificate = pki::certificates_of(&view.read(certificate_path).map_err(why)?).map_err(why)?;
    let key = String::from_utf8_lossy(&view.read(key_path).map_err(why)?).into_owned();
    let key =
        rcgen::KeyPair::from_pem(&key).map_err(|_| why("tls: failed to find any PEM data in key input".into()))?;
    match certificate.first() {
        Some(certificate) if certificate.fits(&key) => Ok(()),
        _ => Err(why("tls: private key does not match public key".into())),
    }
}

fn document(content: &[u8], kind: &str) -> Result<(), String> {
    let text = String::from_utf8_lossy(content);
    let document = config::from_yaml(&text).map_err(|error| error.to_string())?;
    if document["kind"] != kind {
        return Err(format!(
            "no kind {:?} is expected here but {kind:?}",
            document["kind"].as_str().unwrap_or_default()
        ));
    }
    if kind == "EncryptionConfiguration" { encryption(&document) } else { Ok(()) }
}

/// The API server refuses keys of a wrong length.
fn encryption(document: &Value) -> Result<(), String> {
    for resource in document["resources"].as_array().into_iter().flatten() {
        for provider in resource["providers"].as_array().into_iter().flatten() {
            for (kind, lengths) in [("aescbc", &[16, 24, 32][..]), ("aesgcm", &[16, 24, 32]), ("secretbox", &[32])] {
                for key in provider[kind]["keys"].as_array().into_iter().flatten() {
                    let secret = key["secret"].as_str().unwrap_or_default();
                    let bytes = BASE64_STANDARD.decode(secret);
                    if !bytes.is_ok_and(|bytes| lengths.contains(&bytes.len())) {
                        return Err(format!(
                            "resources.providers.{kind}.keys.secret: Invalid value: \"REDACTED\": secret is not of the \
                             expected length, got a key that is none of {lengths:?} bytes in base64"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::guest::memory::kubeadm::files;

    fn pod(arguments: &[&str], kind: &str) -> Value {
        let mut command = vec!["kube-apiserver"];
        command.extend(arguments);
        json!({
            "spec": {
                "containers": [{"command": command, "volumeMounts": [
                    {"name": "conf", "mountPath": "/etc/conf", "readOnly": true},
                ]}],
                "volumes": [{"name": "conf", "hostPath": {"path": "/srv/conf", "type": kind}}],
            },
        })
    }

    #[test]
    fn files_named_by_flags_must_be_in_the_container() {
        let mut files = files::empty();
        let outcome = |files: &mut dyn Files, path: &str| {
            let started = start(&pod(&[&format!("--audit-policy-file={path}")], ""), files);
            started.map(drop).map_err(|trouble| trouble.message)
        };
        let why = outcome(&mut files, "/etc/conf/policy.yaml").unwrap_err();
        assert!(why.ends_with("open /etc/conf/policy.yaml: no such file or directory"), "{why}");
        Files::write(&mut files, "/srv/conf/policy.yaml", 0o644, b"kind: Policy\n");
        assert_eq!(outcome(&mut files, "/etc/conf/policy.yaml"), Ok(()));
        // On the machine, but no volume shows it to the container.
        assert!(outcome(&mut files, "/srv/conf/policy.yaml").is_err());
        Files::write(&mut files, "/srv/conf/policy.yaml", 0o644, b"kind: Other\n");
        assert!(outcome(&mut files, "/etc/conf/policy.yaml").unwrap_err().contains("\"Policy\""));
    }

    #[test]
    fn volumes_must_be_of_their_type() {
        let mut files = files::empty();
        let trouble = start(&pod(&[], "Directory"), &mut files).unwrap_err();
        assert_eq!(trouble.reason, "ContainerCreating");
        assert!(trouble.message.ends_with("hostPath type check failed: /srv/conf is not a directory"), "{trouble:?}");
        assert!(start(&pod(&[], "DirectoryOrCreate"), &mut files).is_ok());
        assert_eq!(files.entry("/srv/conf"), Some(Entry::Directory));
    }

    #[test]
    fn flags_that_the_process_cannot_read_end_it() {
        for (flag, expected) in [
            ("--no-such-flag=1", "Error: unknown flag: --no-such-flag"),
            (
                "--profiling=maybe",
                "Error: invalid argument \"maybe\" for \"--profiling\" flag: strconv.ParseBool: parsing \"maybe\": \
                 invalid syntax",
            ),
            ("--authorization-mode=Nope", "Error: authorization-mode \"Nope\" is not a valid mode"),
        ] {
            let trouble = start(&pod(&[flag], ""), &mut files::empty()).unwrap_err();
            assert_eq!((trouble.reason, trouble.message.as_str()), ("CrashLoopBackOff", expected));
        }
    }

    #[test]
    fn flags_have_one_form_in_the_end() {
        let mut written = pod(&["--secure_port", "6444"], "");
        written["spec"]["containers"][0]["args"] = json!(["--profiling"]);
        let read = start(&written, &mut files::empty()).unwrap();
        let command = &read["spec"]["containers"][0]["command"];
        assert_eq!(*command, json!(["kube-apiserver", "--secure-port=6444", "--profiling=true"]));
    }

    #[test]
    fn bad_keys_end_the_process() {
        let mut files = files::empty();
        let text = b"kind: EncryptionConfiguration\nresources:\n- providers:\n  - aescbc:\n      keys: [{name: a, secret: c2hvcnQ=}]\n";
        Files::write(&mut files, "/srv/conf/e.yaml", 0o600, text);
        let why = start(&pod(&["--encryption-provider-config=/etc/conf/e.yaml"], ""), &mut files).unwrap_err().message;
        assert!(why.contains("REDACTED") && !why.contains("c2hvcnQ"), "{why}");
    }
}
