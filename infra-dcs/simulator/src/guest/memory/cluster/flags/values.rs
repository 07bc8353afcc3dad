//! Values that a program looks at after it has read its command line: names of which there are only some, and bounds.

use std::{ops::RangeInclusive, sync::LazyLock};

static ADMISSION_PLUGINS: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("admission-plugins.txt").lines().collect());
/// With the names that controllers had before 1.27.
static CONTROLLERS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("controllers.txt").lines().collect());

const AUTHORIZERS: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const TLS_VERSIONS: [&str; 4] = ["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"];
/// Those of Go's `crypto/tls`, and two by their old names.
const CIPHERS: [&str; 27] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];
const PORTS: RangeInclusive<u32> = 1..=65535;

/// Why a value is none for this flag of this program; the words are the program's.
pub(super) fn check(program: &str, flag: &str, value: &str) -> Result<(), String> {
    match (program, flag) {
        ("etcd", _) => etcd(flag, value),
        ("kube-apiserver", "authorization-mode") => {
            each(value, &AUTHORIZERS, |mode| format!("authorization-mode {mode:?} is not a valid mode"))
        }
        ("kube-apiserver", "enable-admission-plugins" | "disable-admission-plugins") => {
            each(value, &ADMISSION_PLUGINS, |plugin| format!("{flag} plugin {plugin:?} is unknown"))
        }
        ("kube-apiserver", "audit-log-format") => one(value, &["legacy", "json"], || {
            format!("invalid audit log format {value}, allowed formats are \"legacy,json\"")
        }),
        ("kube-apiserver", "audit-log-mode") => one(value, &["batch", "blocking", "blocking-strict"], || {
            format!("invalid audit log mode {value}, allowed modes are \"batch,blocking,blocking-strict\"")
        }),
        ("kube-apiserver", "audit-log-maxage" | "audit-log-maxbackup" | "audit-log-maxsize")
            if value.starts_with('-') =>
        {
            Err(format!("--{flag} {value} can't be a negative number"))
        }
        ("kube-apiserver", "secure-port") if !value.parse().is_ok_and(|port| PORTS.contains(&port)) => {
            Err(format!("--secure-port {value} must be between 1 and 65535, inclusive. It cannot be turned off with 0"))
        }
        ("kube-controller-manager", "controllers") => {
            for controller in value.split(',').filter(|controller| *controller != "*") {
                let name = controller.strip_prefix('-').unwrap_or(controller);
                one(name, &CONTROLLERS, || format!("{name:?} is not in the list of known controllers"))?;
            }
            Ok(())
        }
        ("kubelet" | "kube-controller-manager", "cloud-provider") => one(value, &["", "external"], || {
            format!(
                "cloud provider {value:?} was specified, but built-in cloud providers are disabled. Please set \
                 --cloud-provider=external and migrate to an external cloud provider"
            )
        }),
        (_, "tls-min-version") => each(value, &TLS_VERSIONS, |version| format!("unknown tls version {version:?}")),
        (_, "tls-cipher-suites") => {
            each(value, &CIPHERS, |cipher| format!("Cipher suite {cipher} not supported or doesn't exist"))
        }
        (_, "logging-format") => {
            one(value, &["json", "text"], || format!("format: Invalid value: {value:?}: Unsupported log format"))
        }
        _ => Ok(()),
    }
}

fn etcd(flag: &str, value: &str) -> Result<(), String> {
    match flag {
        "initial-cluster-state" => one(value, &["new", "existing"], || {
            format!("invalid value {value:?} for flag -initial-cluster-state: invalid value")
        }),
        "auto-compaction-mode" => {
            one(value, &["", "periodic", "revision"], || format!("unknown auto-compaction-mode {value:?}"))
        }
        "log-level" => one(value, &["debug", "info", "warn", "error", "dpanic", "panic", "fatal"], || {
            format!("unrecognized level: {value:?}")
        }),
        "log-format" => one(value, &["", "json", "console"], || {
            format!("unknown log format: {value}, supported values json, console")
        }),
        "logger" => one(value, &["zap"], || format!("unknown logger option {value:?}")),
        "tls-min-version" | "tls-max-version" => one(value, &["", "TLS1.2", "TLS1.3"], || {
            format!("unexpected TLS version {value:?} (must be one of: TLS1.2, TLS1.3)")
        }),
        "cipher-suites" => each(value, &CIPHERS, |cipher| format!("unexpected TLS cipher suite {cipher:?}")),
        "listen-client-urls" | "listen-peer-urls" | "advertise-client-urls" | "initial-advertise-peer-urls" => {
            let is_url =
                |url: &str| ["http://", "https://", "unix://", "unixs://"].iter().any(|it| url.starts_with(it));
            match value.split(',').map(str::trim).find(|url| !url.is_empty() && !is_url(url)) {
                Some(url) => Err(format!(
                    "invalid value {value:?} for flag -{flag}: URL scheme must be http, https, unix, or unixs: {url}"
                )),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn one(value: &str, known: &[&str], why: impl FnOnce() -> String) -> Result<(), String> {
    if known.contains(&value) { Ok(()) } else { Err(why()) }
}

/// Names separated by commas.
fn each(value: &str, known: &[&str], why: impl Fn(&str) -> String) -> Result<(), String> {
    let names = value.split(',').filter(|name| !name.is_empty());
    names.into_iter().try_for_each(|name| one(name, known, || why(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_knows_end_the_program() {
        for (program, flag, value, expected) in [
            ("kube-apiserver", "authorization-mode", "Node,Nope", "authorization-mode \"Nope\" is not a valid mode"),
            (
                "kube-apiserver",
                "enable-admission-plugins",
                "NodeRestriction,Nope",
                "enable-admission-plugins plugin \"Nope\" is unknown",
            ),
            (
                "kube-apiserver",
                "audit-log-mode",
                "x",
                "invalid audit log mode x, allowed modes are \"batch,blocking,blocking-strict\"",
            ),
            (
                "kube-apiserver",
                "secure-port",
                "99999",
                "--secure-port 99999 must be between 1 and 65535, inclusive. It cannot be turned off with 0",
            ),
            ("kube-apiserver", "audit-log-maxage", "-1", "--audit-log-maxage -1 can't be a negative number"),
            ("kube-controller-manager", "controllers", "*,nope", "\"nope\" is not in the list of known controllers"),
            ("kube-scheduler", "tls-min-version", "TLS12", "unknown tls version \"TLS12\""),
            ("kubelet", "tls-cipher-suites", "X", "Cipher suite X not supported or doesn't exist"),
            (
                "etcd",
                "initial-cluster-state",
                "foo",
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            ),
            ("etcd", "auto-compaction-mode", "x", "unknown auto-compaction-mode \"x\""),
            (
                "etcd",
                "listen-client-urls",
                "x",
                "invalid value \"x\" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: x",
            ),
        ] {
            assert_eq!(check(program, flag, value).unwrap_err(), expected);
        }
        for (program, flag, value) in [
            ("kube-controller-manager", "controllers", "*,bootstrapsigner,-token-cleaner-controller"),
            ("kube-apiserver", "authorization-mode", "Node,RBAC"),
            ("kubelet", "cloud-provider", "external"),
            ("kube-scheduler", "bind-address", "anything"),
            ("etcd", "listen-peer-urls", "https://127.0.0.1:2380,https://[::1]:2380"),
        ] {
            assert_eq!(check(program, flag, value), Ok(()));
        }
    }
}
