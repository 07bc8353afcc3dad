//! How a kubelet comes to its certificates: it makes a key, asks for a certificate by a `CertificateSigningRequest`, and
//! waits until somebody approved it and the controller manager signed it.

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{
    Cluster,
    api::{Api, SIGNING_REQUESTS, name},
    controllers::certificates::{has, issued},
};
use crate::guest::memory::{
    api_server::{Question, User, review},
    kubeadm::pki::{Algorithm, Certificate, Leaf, certificates_of, request},
};

pub use super::controllers::certificates::{KUBELET_CLIENT, KUBELET_SERVING};

/// Usages of kubelets' certificates as clients.
pub const CLIENT_USAGES: [&str; 2] = ["digital signature", "client auth"];
const SERVING_USAGES: [&str; 2] = ["digital signature", "server auth"];

/// What a kubelet asks for.
pub struct Wanted<'a> {
    /// Who is to sign.
    pub signer: &'a str,
    /// What the certificate says; its life is the signer's.
    pub leaf: &'a Leaf,
    /// What it is for.
    pub usages: &'a [&'a str],
    /// Its key.
    pub key: &'a KeyPair,
}

/// Makes a request. Answers its name.
pub fn ask(cluster: &Cluster, user: &User, wanted: &Wanted<'_>) -> Result<String, String> {
    let question = Question {
        verb: "create",
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        subresource: "",
        name: "",
    };
    review(&cluster.server, user, question).map_err(|error| error.message().to_owned())?;
    let text = request::sign(wanted.leaf, wanted.key)?;
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "csr-"},
        "spec": {
            "request": BASE64_STANDARD.encode(text),
            "signerName": wanted.signer,
            "usages": wanted.usages,
            "username": user.name,
            "groups": user.groups,
        },
    });
    let made = Api::new(&cluster.server, "kubelet").create(SIGNING_REQUESTS, "", object);
    let made = made.map_err(|error| error.message().to_owned())?;
    cluster.wake();
    Ok(name(&made).to_owned())
}

/// What has become of a request.
pub enum Answer {
    /// There is none of that name.
    Missing,
    /// Nobody has decided, or nobody has signed.
    Waiting,
    /// Somebody said no: why.
    Refused(String),
    /// The certificate, PEM.
    Issued(String),
}

/// Looks after a request.
pub fn answer(cluster: &Cluster, request: &str) -> Answer {
    let Some(found) = Api::new(&cluster.server, "kubelet").get(SIGNING_REQUESTS, "", request) else {
        return Answer::Missing;
    };
    let no = ["Denied", "Failed"].into_iter().find(|kind| has(&found, kind));
    if let Some(kind) = no {
        return Answer::Refused(format!(
            "certificate signing request is {}, reason: {}",
            kind.to_lowercase(),
            reason(&found, kind)
        ));
    }
    issued(&found).map_or(Answer::Waiting, Answer::Issued)
}

fn reason<'a>(request: &'a Value, kind: &str) -> &'a str {
    let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
    let mut found = conditions.filter(|condition| condition["type"] == kind);
    found.next().and_then(|condition| condition["reason"].as_str()).unwrap_or_default()
}

/// A kubelet's request for a certificate to serve with (`serverTLSBootstrap`). Nobody approves it by default.
pub struct ServingRequest {
    name: String,
    key: KeyPair,
}

impl ServingRequest {
    /// Asks, unless that was done; once there is a certificate, it comes with its key, PEM.
    pub fn follow(
        request: &mut Option<Self>,
        cluster: &Cluster,
        leaf: &Leaf,
        node: &str,
    ) -> Result<Option<(Certificate, String)>, String> {
        if let Some(made) = request {
            match answer(cluster, &made.name) {
                Answer::Issued(text) => {
                    let certificate = certificates_of(text.as_bytes())?;
                    let pem = format!("{text}{}", made.key.serialize_pem());
                    *request = None;
                    return Ok(certificate.into_iter().next().map(|certificate| (certificate, pem)));
                }
                Answer::Waiting | Answer::Refused(_) => return Ok(None),
                Answer::Missing => {}
            }
        }
        let key = Algorithm::EcdsaP256.generate()?;
        let wanted = Wanted { signer: KUBELET_SERVING, leaf, usages: &SERVING_USAGES, key: &key };
        let name = ask(cluster, &User::node(node), &wanted)?;
        *request = Some(Self { name, key });
        Ok(None)
    }
}
