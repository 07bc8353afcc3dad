//! Word of what listens on the site's network: whoever plays machines in this process knows when a server comes, goes or
//! stops answering, and whoever checks its health need not ask again and again.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the [module](self). Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    awaited: Arc<Mutex<HashMap<SocketAddr, Arc<Notify>>>>,
}

impl Signals {
    /// Wakes its holder at each change of what is at an address.
    pub fn of(&self, address: SocketAddr) -> Arc<Notify> {
        Arc::clone(self.awaited.lock().entry(address).or_default())
    }

    /// What is at an address has changed.
    pub fn changed(&self, address: SocketAddr) {
        if let Some(awaited) = self.awaited.lock().get(&address) {
            awaited.notify_one();
        }
    }
}
