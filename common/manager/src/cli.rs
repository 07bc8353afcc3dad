//! Flags that every manager has, under upstream's names, so that runbooks and Deployments carry over.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgAction, Args};
use process::telemetry::TelemetryArgs;

/// Flags of every manager. Each has an environment variable of the same name in capitals.
#[derive(Args, Clone, Debug)]
pub struct ManagerArgs {
    /// Kubeconfig of the management cluster [default: the pod's service account]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Watch only this namespace
    #[arg(long, env = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Act only on objects whose label `cluster.x-k8s.io/watch-filter` has this value
    #[arg(long, env = "WATCH_FILTER", default_value = "")]
    pub watch_filter: String,
    /// Act only while holding the lease; all replicas serve webhooks
    #[arg(long, env = "LEADER_ELECT", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub leader_elect: bool,
    /// Time after which an unrenewed lease is free
    #[arg(long, env = "LEADER_ELECT_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// Time within which the lease must be renewed, or leading ends
    #[arg(long, env = "LEADER_ELECT_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// Time between tries to get or renew the lease
    #[arg(long, env = "LEADER_ELECT_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
    /// Port of the webhook server; 0 serves none
    #[arg(long, env = "WEBHOOK_PORT", default_value_t = 9443)]
    pub webhook_port: u16,
    /// Address that the webhook server listens on
    #[arg(long, env = "WEBHOOK_BIND_ADDRESS", default_value = "::")]
    pub webhook_bind_address: String,
    /// Folder with the webhook server's certificate and key; they are read again when they change
    #[arg(
        long,
        env = "WEBHOOK_CERT_DIR",
        default_value = "/tmp/k8s-webhook-server/serving-certs/",
        value_name = "DIR"
    )]
    pub webhook_cert_dir: PathBuf,
    /// File name of the certificate
    #[arg(long, env = "WEBHOOK_CERT_NAME", default_value = "tls.crt")]
    pub webhook_cert_name: String,
    /// File name of the key
    #[arg(long, env = "WEBHOOK_KEY_NAME", default_value = "tls.key")]
    pub webhook_key_name: String,
    /// Make and renew the webhook certificate and keep it in this Secret, instead of reading files; for clusters without
    /// cert-manager
    #[arg(long, env = "WEBHOOK_CERT_SECRET", value_name = "NAME", requires = "webhook_service_name")]
    pub webhook_cert_secret: Option<String>,
    /// Service by which the API server reaches the webhooks; its name goes into the certificate
    #[arg(long, env = "WEBHOOK_SERVICE_NAME", value_name = "NAME")]
    pub webhook_service_name: Option<String>,
    /// Address of `/healthz` and `/readyz`
    #[arg(long, env = "HEALTH_ADDR", default_value = ":9440", value_parser = address)]
    pub health_addr: SocketAddr,
    /// Address of `/metrics` and `/debug`, over TLS, for those whom the management cluster allows it
    #[arg(long, env = "DIAGNOSTICS_ADDRESS", default_value = ":8443", value_parser = address)]
    pub diagnostics_address: SocketAddr,
    /// Serve diagnostics over plain HTTP without authentication
    #[arg(long, env = "INSECURE_DIAGNOSTICS", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    pub insecure_diagnostics: bool,
    /// Comma-separated `Name=true|false`
    #[arg(long, env = "FEATURE_GATES", default_value = "")]
    pub feature_gates: FeatureGates,
    /// Longest time without a look at an object that nothing changed
    #[arg(long, env = "SYNC_PERIOD", default_value = "10m", value_parser = duration)]
    pub sync_period: Duration,
    /// Log and traces.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Named features and whether they are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates(BTreeMap<String, bool>);

impl FeatureGates {
    /// Whether a feature is on; `default` where nothing was said.
    pub fn enabled(&self, name: &str, default: bool) -> bool {
        self.0.get(name).copied().unwrap_or(default)
    }
}

impl FromStr for FeatureGates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => match value.trim().parse() {
                    Ok(on) => Ok((name.trim().to_owned(), on)),
                    Err(_) => Err(format!("feature gate {name}: {value:?} is neither true nor false")),
                },
                None => Err(format!("feature gate {pair:?} is not of the form Name=true")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A duration as Go writes it: `15s`, `10m`, `1h30m`, `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|error| format!("{text:?} is no duration: {error}"))?;
    if parsed.is_negative() {
        return Err(format!("{text:?} is negative"));
    }
    Ok(parsed.into())
}

/// An address as Go writes it: `:9440` is all interfaces.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.replace("localhost:", "127.0.0.1:") };
    full.parse().map_err(|error| format!("{text:?} is no address: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        manager: ManagerArgs,
    }

    #[test]
    fn upstreams_deployment_arguments_are_understood() {
        let cli = Cli::try_parse_from([
            "manager",
            "--leader-elect",
            "--diagnostics-address=:8443",
            "--insecure-diagnostics=false",
            "--feature-gates=MachinePool=true,KubeadmBootstrapFormatIgnition=false",
            "--health-addr=127.0.0.1:9441",
        ]);
        let args = cli.map(|cli| cli.manager).unwrap();
        assert!(args.leader_elect && !args.insecure_diagnostics);
        assert!(!args.feature_gates.enabled("KubeadmBootstrapFormatIgnition", true));
        assert!(args.feature_gates.enabled("NeverHeardOf", true));
        assert_eq!(args.diagnostics_address.port(), 8443);
    }

    #[test]
    fn a_certificate_of_our_own_needs_the_name_it_is_for() {
        let parse = |arguments: &[&str]| Cli::try_parse_from([&["manager"], arguments].concat()).map(drop);
        let error = parse(&["--webhook-cert-secret=cert"]).unwrap_err().to_string();
        assert!(error.contains("--webhook-service-name"), "{error}");
        assert!(parse(&["--webhook-cert-secret=cert", "--webhook-service-name=webhooks"]).is_ok());
        assert!(parse(&["--trace-ratio=1.5"]).unwrap_err().to_string().contains("between 0 and 1"));
    }

    #[test]
    fn a_bad_value_is_named() {
        let error = "MachinePool=maybe".parse::<FeatureGates>().unwrap_err();
        assert!(error.contains("MachinePool") && error.contains("maybe"));
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert!(duration("soon").is_err());
    }
}
