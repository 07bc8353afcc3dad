//! Secrets by name. They are never listed and never watched: a management cluster holds thousands that are not ours.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::{ObjectKey, ReconcileError, clock::Clock};

/// How long a Secret that exists is believed, where nothing else is said.
const FRESH: Duration = Duration::from_secs(20);
/// How long certificates and kubeconfigs are believed: they are rotated once in a while, and asked for all the time.
pub const KEYS: Duration = Duration::from_secs(60);

/// A small cache of Secrets, shared by all passes of a process; cheap to clone.
#[derive(Clone)]
pub struct SecretCache {
    client: Client,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// When each was read, and what it was.
    secrets: HashMap<ObjectKey, (Duration, Arc<Secret>)>,
    /// When those that nobody would be given any more were dropped last.
    swept: Duration,
}

impl SecretCache {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, known: Arc::default() }
    }

    /// A Secret, at most [`FRESH`] old. That one is missing is never remembered: its appearance is noticed at once.
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Arc<Secret>>, ReconcileError> {
        self.get_within(FRESH, key).await
    }

    /// The same, of another age: [`KEYS`].
    pub async fn get_within(&self, age: Duration, key: &ObjectKey) -> Result<Option<Arc<Secret>>, ReconcileError> {
        let now = self.clock.monotonic();
        if let Some((read, secret)) = self.known.lock().secrets.get(key)
            && now.saturating_sub(*read) < age
        {
            return Ok(Some(Arc::clone(secret)));
        }
        self.get_live(key).await
    }

    /// A Secret as it is now.
    pub async fn get_live(&self, key: &ObjectKey) -> Result<Option<Arc<Secret>>, ReconcileError> {
        let found = Api::<Secret>::namespaced(self.client.clone(), &key.namespace).get_opt(&key.name).await?;
        if found.is_none() {
            self.forget(key);
        }
        Ok(found.map(|secret| self.keep(key, secret)))
    }

    /// Keeps a Secret as the API server returned it.
    pub fn keep(&self, key: &ObjectKey, mut secret: Secret) -> Arc<Secret> {
        secret.metadata.managed_fields = None;
        let secret = Arc::new(secret);
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        if now.saturating_sub(known.swept) >= KEYS {
            known.secrets.retain(|_, (read, _)| now.saturating_sub(*read) < KEYS);
            known.swept = now;
        }
        known.secrets.insert(key.clone(), (now, Arc::clone(&secret)));
        secret
    }

    /// Forgets a Secret, after it was written.
    pub fn forget(&self, key: &ObjectKey) {
        self.known.lock().secrets.remove(key);
    }
}

/// A value of a Secret.
pub fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice())
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use kube::client::Body;
    use serde_json::json;
    use tokio::time::advance;

    use super::*;
    use crate::clock::SystemClock;

    /// A cache, and how often it asked.
    fn cache() -> (SecretCache, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let server = tower::service_fn(move |_: http::Request<Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "ns"}});
            async move { Ok::<_, Infallible>(http::Response::new(Body::from(secret.to_string().into_bytes()))) }
        });
        (SecretCache::new(Client::new(server, "ns"), Arc::new(SystemClock)), asked)
    }

    fn keys_of(cache: &SecretCache) -> Vec<String> {
        cache.known.lock().secrets.keys().map(|key| key.name.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_read_again_once_it_is_too_old_for_who_asks() {
        let (cache, asked) = cache();
        let key = ObjectKey::new("ns", "s");
        cache.keep(&key, Secret::default());
        cache.get(&key).await.unwrap();
        advance(FRESH).await;
        cache.get_within(KEYS, &key).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 0, "what was just written is known");
        cache.get(&key).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        cache.forget(&key);
        cache.get_within(KEYS, &key).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_would_be_given_is_not_kept() {
        let (cache, _) = cache();
        cache.keep(&ObjectKey::new("ns", "old"), Secret::default());
        advance(KEYS).await;
        cache.keep(&ObjectKey::new("ns", "new"), Secret::default());
        assert_eq!(keys_of(&cache), ["new"]);
    }
}
