//! How a joining machine finds and trusts its cluster: what the user said is kept, what is open is filled in and recorded
//! in the spec before it is handed out. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use kubeadm::{
    api::spec::{Discovery, FileDiscovery},
    pki::{self, Purpose},
    token::Token,
};
use serde_json::{Value, json};

use super::{observe::Facts, render::Error};

/// What is to be done until a machine can find its cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing: the spec says it all.
    Complete,
    /// The API server's endpoint is not known yet.
    WaitForEndpoint,
    /// A token is to be made, and recorded by [`with_token`].
    MakeToken,
    /// This is to be recorded as `spec.joinConfiguration.discovery`.
    Record(Value),
}

/// What is missing. `ca` is the cluster CA, in PEM.
pub fn next(facts: &Facts, ca: &str) -> Result<Next, Error> {
    let discovery = facts.join_configuration().discovery.unwrap_or_default();
    if let Some(file) = &discovery.file {
        return by_file(facts, file, ca);
    }
    let given = discovery.bootstrap_token.unwrap_or_default();
    if given.api_server_endpoint.is_empty() && facts.endpoint().is_none() {
        return Ok(Next::WaitForEndpoint);
    }
    if given.token.is_empty() {
        return Ok(Next::MakeToken);
    }
    Token::parse(&given.token)
        .map_err(|error| Error::Field(format!("joinConfiguration.discovery.bootstrapToken.token: {error}")))?;
    let trusts = !given.ca_cert_hashes.is_empty() || given.unsafe_skip_ca_verification == Some(true);
    if trusts && !given.api_server_endpoint.is_empty() {
        return Ok(Next::Complete);
    }
    with_token(facts, ca, &given.token).map(Next::Record)
}

/// The whole discovery by a token. `token` is taken where the user gave none.
pub fn with_token(facts: &Facts, ca: &str, token: &str) -> Result<Value, Error> {
    let mut discovery = facts.join_configuration().discovery.unwrap_or_default();
    let filled = discovery.bootstrap_token.get_or_insert_default();
    if filled.ca_cert_hashes.is_empty() && filled.unsafe_skip_ca_verification != Some(true) {
        filled.ca_cert_hashes = pki::pins(ca).map_err(|error| unreadable(facts, &error))?;
    }
    if filled.api_server_endpoint.is_empty() {
        filled.api_server_endpoint = facts.endpoint().unwrap_or_default();
    }
    if filled.token.is_empty() {
        token.clone_into(&mut filled.token);
    }
    value(&discovery)
}

/// A kubeconfig that the provider writes lacks what only the cluster knows; one that the user places is left alone.
fn by_file(facts: &Facts, file: &FileDiscovery, ca: &str) -> Result<Next, Error> {
    let Some(kubeconfig) = file.kube_config.as_ref() else { return Ok(Next::Complete) };
    let mut kubeconfig = value(kubeconfig)?;
    let is_open = |kubeconfig: &Value, field: &str| kubeconfig["cluster"][field].as_str().is_none_or(str::is_empty);
    let (no_server, no_ca) = (is_open(&kubeconfig, "server"), is_open(&kubeconfig, "certificateAuthorityData"));
    if !no_server && !no_ca {
        return Ok(Next::Complete);
    }
    if no_server {
        let Some(endpoint) = facts.endpoint() else { return Ok(Next::WaitForEndpoint) };
        kubeconfig["cluster"]["server"] = json!(format!("https://{endpoint}"));
    }
    if no_ca {
        kubeconfig["cluster"]["certificateAuthorityData"] = json!(STANDARD.encode(ca));
    }
    Ok(Next::Record(json!({"file": {"kubeConfig": kubeconfig}})))
}

fn value(of: &impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(of).map_err(|error| Error::Field(format!("joinConfiguration.discovery: {error}")))
}

fn unreadable(facts: &Facts, error: &pki::Error) -> Error {
    let secret = Purpose::ClusterCa.secret_name(&facts.owner.cluster_name);
    Error::Secret(format!("Secret {secret}, tls.crt: {error}"))
}

/// The discovery kubeconfig that the provider writes, where it does: its path and content.
pub fn kubeconfig(discovery: Option<&Discovery>) -> Result<Option<(String, String)>, Error> {
    let Some(file) = discovery.and_then(|discovery| discovery.file.as_ref()) else { return Ok(None) };
    let Some(given) = &file.kube_config else { return Ok(None) };
    let text = kubeadm::kubeconfig::of_discovery(&value(given)?)?;
    Ok(Some((file.kube_config_path.clone(), text)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kubeadm::api::spec::EncryptionAlgorithm;
    use rstest::rstest;

    use super::{super::decide::tests::facts, *};

    fn with(discovery: Value) -> Facts {
        facts(json!({"config": {"spec": {"joinConfiguration": {"discovery": discovery}}}}))
    }

    fn without_endpoint(discovery: Value) -> Facts {
        facts(json!({"config": {"spec": {"joinConfiguration": {"discovery": discovery}}},
            "cluster": {"spec": {"controlPlaneEndpoint": null}}}))
    }

    fn ca() -> String {
        pki::generate(Purpose::ClusterCa, EncryptionAlgorithm::EcdsaP256, None, Timestamp::now()).unwrap().certificate
    }

    const TOKEN: &str = "abcdef.0123456789abcdef";

    #[rstest]
    #[case::nothing_is_said(json!({}), Next::MakeToken)]
    #[case::the_token_is_open(json!({"bootstrapToken": {"caCertHashes": ["sha256:x"]}}), Next::MakeToken)]
    #[case::all_is_said(json!({"bootstrapToken": {"token": TOKEN, "apiServerEndpoint": "h:1", "caCertHashes": ["sha256:x"]}}), Next::Complete)]
    #[case::the_ca_is_not_to_be_checked(json!({"bootstrapToken": {"token": TOKEN, "apiServerEndpoint": "h:1", "unsafeSkipCAVerification": true}}), Next::Complete)]
    #[case::the_user_places_a_file(json!({"file": {"kubeConfigPath": "/k"}}), Next::Complete)]
    #[case::a_file_wins_over_a_token(json!({"file": {"kubeConfigPath": "/k"}, "bootstrapToken": {"token": TOKEN}}), Next::Complete)]
    fn when(#[case] discovery: Value, #[case] expected: Next) {
        assert_eq!(next(&with(discovery), &ca()).unwrap(), expected);
    }

    #[rstest]
    #[case::by_a_token(json!({}), Next::WaitForEndpoint)]
    #[case::by_a_kubeconfig(json!({"file": {"kubeConfigPath": "/k", "kubeConfig": {"user": {"exec": {"command": "c"}}}}}), Next::WaitForEndpoint)]
    #[case::unless_the_user_names_one(json!({"bootstrapToken": {"apiServerEndpoint": "h:1"}}), Next::MakeToken)]
    #[case::unless_the_file_is_the_users(json!({"file": {"kubeConfigPath": "/k"}}), Next::Complete)]
    fn the_endpoint_is_waited_for(#[case] discovery: Value, #[case] expected: Next) {
        assert_eq!(next(&without_endpoint(discovery), &ca()).unwrap(), expected);
    }

    #[test]
    fn a_token_of_the_users_gets_pins_and_endpoint() {
        let Next::Record(recorded) = next(&with(json!({"bootstrapToken": {"token": TOKEN}})), &ca()).unwrap() else {
            panic!("the pins are missing");
        };
        let token = &recorded["bootstrapToken"];
        assert_eq!((&token["token"], &token["apiServerEndpoint"]), (&json!(TOKEN), &json!("10.0.0.1:6443")));
        assert!(token["caCertHashes"][0].as_str().unwrap().starts_with("sha256:"));
        assert!(token.get("unsafeSkipCAVerification").is_none());
    }

    #[test]
    fn what_a_user_says_is_kept() {
        let given = json!({"tlsBootstrapToken": "t", "bootstrapToken": {"apiServerEndpoint": "other:1", "caCertHashes": ["sha256:mine"]}});
        let filled = with_token(&with(given), "unused", TOKEN).unwrap();
        assert_eq!(
            filled,
            json!({"tlsBootstrapToken": "t", "bootstrapToken": {"token": TOKEN, "apiServerEndpoint": "other:1", "caCertHashes": ["sha256:mine"]}})
        );
    }

    #[test]
    fn a_kubeconfig_gets_server_and_ca_and_keeps_what_is_said() {
        let exec = json!({"exec": {"command": "c"}});
        let open = with(json!({"file": {"kubeConfigPath": "/k", "kubeConfig": {"user": exec}}}));
        let Next::Record(recorded) = next(&open, "PEM").unwrap() else { panic!("server and CA are missing") };
        let cluster = &recorded["file"]["kubeConfig"]["cluster"];
        assert_eq!(cluster, &json!({"server": "https://10.0.0.1:6443", "certificateAuthorityData": "UEVN"}));
        let said = json!({"server": "https://mine:1", "certificateAuthorityData": "UEVN"});
        let closed = with(json!({"file": {"kubeConfigPath": "/k", "kubeConfig": {"cluster": said, "user": exec}}}));
        assert_eq!(next(&closed, "PEM").unwrap(), Next::Complete);
        let discovery = closed.join_configuration().discovery;
        let (path, text) = kubeconfig(discovery.as_ref()).unwrap().unwrap();
        assert!(path == "/k" && text.contains("https://mine:1"), "{text}");
    }

    #[test]
    fn what_is_malformed_is_named_and_not_repeated() {
        let error = next(&with(json!({"bootstrapToken": {"token": "sup3rs3cret"}})), &ca()).unwrap_err().to_string();
        assert!(error.starts_with("joinConfiguration.discovery.bootstrapToken.token: "), "{error}");
        assert!(!error.contains("sup3rs3cret"));
        let error = with_token(&with(json!({})), "no PEM", TOKEN).unwrap_err();
        assert!(error.to_string().starts_with("Secret c-ca, tls.crt: "), "{error}");
    }
}
