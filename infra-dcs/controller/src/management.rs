//! The identity of the management cluster, which marks what is made at a site.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use manager::ReconcileError;
use tokio::sync::OnceCell;

/// The management cluster; asked once.
pub struct Management {
    client: Client,
    uid: OnceCell<String>,
}

impl Management {
    /// The cluster that a client talks to.
    pub fn new(client: Client) -> Self {
        Self { client, uid: OnceCell::new() }
    }

    /// UID of its `kube-system` namespace.
    pub async fn uid(&self) -> Result<String, ReconcileError> {
        let uid = self.uid.get_or_try_init(|| async {
            let namespace = Api::<Namespace>::all(self.client.clone()).get("kube-system").await?;
            Ok::<_, ReconcileError>(namespace.metadata.uid.unwrap_or_default())
        });
        uid.await.cloned()
    }
}
