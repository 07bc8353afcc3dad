//! Webhook certificates of our own making, for clusters without cert-manager.
//!
//! An authority and a serving certificate live in one Secret, which every replica keeps and serves: whoever finds that
//! something is due writes it, and the Secret's resource version lets only one win. The authority goes into the webhook
//! configurations and conversion stanzas that point to our Service. A new authority is made known before anything is
//! served under it, and the old one stays known for as long as something may be.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::ClusterResourceScope,
};
use kubeadm::{
    api::spec::EncryptionAlgorithm,
    pki::{self, CA_DAYS, LEAF_DAYS, Leaf, Pair},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{clock::Clock, error::is_not_found, random::Random, tls::Certificate};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time until a look that failed is repeated.
const RETRY: Duration = Duration::from_secs(2);
/// How long a new authority is made known before anything is served under it: several looks.
const KNOWN_BEFORE_USE: SignedDuration = SignedDuration::from_mins(10);
/// Field manager of what goes into webhook configurations and conversion stanzas.
const FIELD_MANAGER: &str = "basalt-webhook-certificates";
/// Label that names the provider on everything that it is installed with.
const PROVIDER: &str = "cluster.x-k8s.io/provider";
/// Keys of the Secret; the first holds all authorities that are to be trusted, the current one first.
const KEYS: [&str; 4] = ["ca.crt", "ca.key", "tls.crt", "tls.key"];

/// What our webhooks are reached by, and where their certificate is kept.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Namespace of the Secret and the Service.
    pub(crate) namespace: String,
    /// Name of the Secret.
    pub(crate) secret: String,
    /// Name of the Service.
    pub(crate) service: String,
    /// Value of the label `cluster.x-k8s.io/provider` on our configurations and CRDs.
    pub(crate) provider: &'static str,
}

/// Why a certificate could not be kept.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("Secret {0}")]
    Content(String),
}

/// Keeps the certificate.
pub(crate) struct Managed {
    client: Client,
    place: Place,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Resource versions at which an authority was found in place.
    injected: HashMap<String, (String, String)>,
}

/// Content of the Secret.
#[derive(Clone)]
struct Material {
    bundle: String,
    authority: Pair,
    serving: Pair,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// All of it.
    Everything,
    /// A new authority, made known beside the old one.
    Authority,
    /// A new serving certificate from the current authority.
    Serving,
}

impl Managed {
    pub(crate) fn new(client: Client, place: Place, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { client, place, clock, random, injected: HashMap::new() }
    }

    /// Keeps and serves the certificate until `stop`.
    pub(crate) async fn keep(mut self, certificate: Arc<Certificate>, stop: CancellationToken) {
        let keeping = async {
            loop {
                let pause = match self.look(&certificate).await {
                    Ok(()) => INTERVAL,
                    Err(error) => {
                        tracing::warn!(%error, "Cannot keep the webhook certificate.");
                        RETRY
                    }
                };
                tokio::time::sleep(self.random.jittered(pause)).await;
            }
        };
        tokio::select! {
            () = keeping => {}
            () = stop.cancelled() => {}
        }
    }

    async fn look(&mut self, certificate: &Certificate) -> Result<(), Error> {
        let now = self.clock.now();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.place.namespace);
        let found = secrets.get_opt(&self.place.secret).await?;
        let known = found.as_ref().and_then(Material::read);
        // What cannot be read is made anew, as what is not there.
        let due = known.as_ref().and_then(|known| due(known, now).ok()).unwrap_or(Due::Everything);
        let material = match self.renewed(due, known, now)? {
            (material, false) => material,
            (material, true) => {
                self.write(&secrets, found, &material).await?;
                tracing::info!(secret = self.place.secret, ?due, "The webhook certificate was renewed.");
                material
            }
        };
        self.inject_all(&material.bundle).await?;
        certificate
            .set(material.serving.certificate.as_bytes(), material.serving.key.as_bytes())
            .map_err(|reason| Error::Content(format!("{}: {reason}", self.place.secret)))
    }

    /// The material with what was due made anew, and whether anything was.
    fn renewed(&self, due: Due, known: Option<Material>, now: Timestamp) -> Result<(Material, bool), Error> {
        let algorithm = EncryptionAlgorithm::EcdsaP256;
        let authority = || pki::authority(&format!("{} webhooks", self.place.provider), algorithm, CA_DAYS, now);
        Ok(match (due, known) {
            (Due::Nothing, Some(known)) => (known, false),
            (Due::Authority, Some(known)) => {
                let authority = authority()?;
                let bundle = format!("{}{}", authority.certificate, known.authority.certificate);
                (Material { bundle, authority, ..known }, true)
            }
            (Due::Serving, Some(known)) => {
                let serving = self.issue(&known.authority, now)?;
                (Material { serving, ..known }, true)
            }
            (_, None) | (Due::Everything, Some(_)) => {
                let authority = authority()?;
                let serving = self.issue(&authority, now)?;
                (Material { bundle: authority.certificate.clone(), authority, serving }, true)
            }
        })
    }

    /// A serving certificate followed by its authority's, so that a later look sees which one it is of.
    fn issue(&self, authority: &Pair, now: Timestamp) -> Result<Pair, Error> {
        let Place { service, namespace, .. } = &self.place;
        let names = [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let leaf =
            Leaf { name: names[0], organisations: &[], dns: &names, addresses: &[], server: true, client: false };
        let mut serving = pki::issue(authority, &leaf, EncryptionAlgorithm::EcdsaP256, now)?;
        serving.certificate.push_str(&authority.certificate);
        Ok(serving)
    }

    async fn write(&self, secrets: &Api<Secret>, found: Option<Secret>, material: &Material) -> Result<(), Error> {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let exists = found.is_some();
        let mut secret = found.unwrap_or_default();
        secret.metadata.name = Some(self.place.secret.clone());
        secret.metadata.managed_fields = None;
        if !exists {
            secret.type_ = Some("kubernetes.io/tls".to_owned());
        }
        secret.data.get_or_insert_default().extend(material.content());
        // Both fail where another replica was first; the next look finds what it wrote.
        if exists {
            secrets.replace(&self.place.secret, &parameters, &secret).await?;
        } else {
            secrets.create(&parameters, &secret).await?;
        }
        Ok(())
    }

    async fn inject_all(&mut self, bundle: &str) -> Result<(), Error> {
        let place = self.place.clone();
        self.inject::<ValidatingWebhookConfiguration>(bundle, |configuration| {
            let hooks = configuration.webhooks.iter().flatten().map(|hook| (hook.name.as_str(), &hook.client_config));
            place.webhooks(hooks, bundle)
        })
        .await?;
        self.inject::<MutatingWebhookConfiguration>(bundle, |configuration| {
            let hooks = configuration.webhooks.iter().flatten().map(|hook| (hook.name.as_str(), &hook.client_config));
            place.webhooks(hooks, bundle)
        })
        .await?;
        self.inject::<CustomResourceDefinition>(bundle, |crd| place.conversion(crd, bundle)).await
    }

    /// Applies `stanza` to each object of a kind that carries our label; `None` where nothing is to be changed.
    async fn inject<K>(&mut self, bundle: &str, stanza: impl Fn(&K) -> Option<Value>) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let ours = ListParams::default().labels(&format!("{}={}", PROVIDER, self.place.provider));
        // Metadata tells what changed since; a definition with its schema is large.
        for metadata in api.list_metadata(&ours).await?.items {
            let name = metadata.name_any();
            let at = (metadata.resource_version().unwrap_or_default(), bundle.to_owned());
            let known = format!("{}/{name}", K::kind(&()));
            if self.injected.get(&known) == Some(&at) {
                continue;
            }
            let object = match api.get(&name).await {
                Err(error) if is_not_found(&error) => continue,
                object => object?,
            };
            if let Some(stanza) = stanza(&object) {
                let body = json!({
                    "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name},
                });
                let Value::Object(mut body) = body else { continue };
                body.extend(stanza.as_object().cloned().unwrap_or_default());
                api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&body)).await?;
            } else {
                self.injected.insert(known, at);
            }
        }
        Ok(())
    }
}

type ClientConfig = k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

impl Place {
    /// The webhooks of a configuration that are reached by our Service, with the authority; `None` where it is there.
    fn webhooks<'a>(&self, hooks: impl Iterator<Item = (&'a str, &'a ClientConfig)>, bundle: &str) -> Option<Value> {
        let ours: Vec<_> = hooks
            .filter(|(_, config)| {
                config.service.as_ref().is_some_and(|service| self.is_ours(&service.namespace, &service.name))
            })
            .collect();
        if ours.iter().all(|(_, config)| trusts(config.ca_bundle.as_ref(), bundle)) {
            return None;
        }
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let hooks: Vec<_> =
            ours.iter().map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}})).collect();
        Some(json!({"webhooks": hooks}))
    }

    fn conversion(&self, crd: &CustomResourceDefinition, bundle: &str) -> Option<Value> {
        let conversion = crd.spec.conversion.as_ref()?;
        let config = conversion.webhook.as_ref()?.client_config.as_ref()?;
        let service = config.service.as_ref()?;
        if !self.is_ours(&service.namespace, &service.name) || trusts(config.ca_bundle.as_ref(), bundle) {
            return None;
        }
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let webhook = json!({"clientConfig": {"caBundle": bundle}});
        Some(json!({"spec": {"conversion": {"strategy": conversion.strategy, "webhook": webhook}}}))
    }

    fn is_ours(&self, namespace: &str, name: &str) -> bool {
        namespace == self.namespace && name == self.service
    }
}

fn trusts(bundle: Option<&ByteString>, wanted: &str) -> bool {
    bundle.is_some_and(|bundle| bundle.0 == wanted.as_bytes())
}

impl Material {
    /// What a Secret holds; `None` where it is incomplete.
    fn read(secret: &Secret) -> Option<Self> {
        let text = |key: &str| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
        let [bundle, authority_key, chain, key] = [text(KEYS[0])?, text(KEYS[1])?, text(KEYS[2])?, text(KEYS[3])?];
        let certificate = certificates(&bundle).into_iter().next()?;
        Some(Self {
            bundle,
            authority: Pair { certificate, key: Zeroizing::new(authority_key) },
            serving: Pair { certificate: chain, key: Zeroizing::new(key) },
        })
    }

    fn content(&self) -> [(String, ByteString); 4] {
        let values = [&self.bundle, &*self.authority.key, &self.serving.certificate, &*self.serving.key];
        std::array::from_fn(|at| (KEYS[at].to_owned(), ByteString(values[at].clone().into_bytes())))
    }
}

/// The certificates of a bundle, each in PEM.
fn certificates(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = bundle.split_inclusive(END).filter(|part| part.trim_end().ends_with(END));
    parts.map(|part| format!("{}\n", part.trim_start())).collect()
}

/// What is due by now: everything is renewed when a third of its life is left.
fn due(known: &Material, now: Timestamp) -> Result<Due, pki::Error> {
    let days = |days: i32| SignedDuration::from_hours(i64::from(days) * 24);
    let left = |certificate: &str| pki::expiry(certificate).map(|end| end.duration_since(now));
    let (authority, serving) = (left(&known.authority.certificate)?, left(&known.serving.certificate)?);
    if authority <= SignedDuration::ZERO {
        return Ok(Due::Everything);
    }
    if authority < days(CA_DAYS) / 3 {
        return Ok(Due::Authority);
    }
    let of_current = certificates(&known.serving.certificate).get(1) == Some(&known.authority.certificate);
    let well_known = days(CA_DAYS) - authority > KNOWN_BEFORE_USE;
    if (of_current && serving < days(LEAF_DAYS) / 3) || (!of_current && well_known) {
        return Ok(Due::Serving);
    }
    Ok(Due::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + days * 86_400).unwrap()
    }

    fn managed() -> Managed {
        let place = Place {
            namespace: "system".to_owned(),
            secret: "cert".to_owned(),
            service: "webhooks".to_owned(),
            provider: "test",
        };
        let (service, _) =
            tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<kube::client::Body>>();
        let client = Client::new(service, "default");
        Managed::new(client, place, Arc::new(crate::clock::SystemClock), Arc::new(crate::random::SystemRandom))
    }

    #[tokio::test]
    async fn a_certificate_goes_through_its_life_without_a_moment_of_distrust() {
        let managed = managed();
        let (first, _) = managed.renewed(Due::Everything, None, at(0)).unwrap();
        assert_eq!(due(&first, at(1)).unwrap(), Due::Nothing);
        assert_eq!(due(&first, at(300)).unwrap(), Due::Serving, "a third of a year is left");
        let (second, _) = managed.renewed(Due::Serving, Some(first.clone()), at(300)).unwrap();
        assert_eq!(second.bundle, first.bundle);
        assert_eq!(due(&second, at(301)).unwrap(), Due::Nothing);

        // Kept up until the authority grows old.
        let (late, _) = managed.renewed(Due::Serving, Some(second), at(2500)).unwrap();
        assert_eq!(due(&late, at(2500)).unwrap(), Due::Authority);
        let (rotated, _) = managed.renewed(Due::Authority, Some(late.clone()), at(2500)).unwrap();
        assert_eq!(rotated.serving.certificate, late.serving.certificate, "nobody knows the new authority yet");
        assert_eq!(certificates(&rotated.bundle).len(), 2, "both are trusted");
        assert_eq!(due(&rotated, at(2500)).unwrap(), Due::Nothing);
        assert_eq!(due(&rotated, at(2501)).unwrap(), Due::Serving, "now it is known");
        let (done, _) = managed.renewed(Due::Serving, Some(rotated), at(2501)).unwrap();
        assert_eq!(due(&done, at(2502)).unwrap(), Due::Nothing);
        assert_eq!(certificates(&done.bundle).len(), 2, "clients that saw the old certificate still trust it");
    }

    #[tokio::test]
    async fn what_is_kept_is_read_back() {
        let (made, _) = managed().renewed(Due::Everything, None, at(0)).unwrap();
        let secret = Secret { data: Some(made.content().into()), ..Secret::default() };
        let read = Material::read(&secret).unwrap();
        assert_eq!(read.authority.certificate, made.authority.certificate);
        assert_eq!(*read.serving.key, *made.serving.key);
        assert!(Certificate::default().set(made.serving.certificate.as_bytes(), read.serving.key.as_bytes()).is_ok());
        assert!(Material::read(&Secret::default()).is_none());
    }
}
