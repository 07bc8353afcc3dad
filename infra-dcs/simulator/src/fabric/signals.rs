//! Word of what listens on the site's network: whoever plays machines in this process knows when a server comes, goes or
//! stops answering, and whoever checks its health need not ask again and again. The other way round, whoever plays machines
//! knows which servers stand behind a load balancer.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the [module](self). Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    awaited: Arc<Mutex<HashMap<SocketAddr, Arc<Notify>>>>,
    balanced: Arc<Mutex<HashMap<SocketAddr, Vec<SocketAddr>>>>,
}

/// A load balancer that is open, until this is dropped.
#[derive(Debug)]
pub struct Balanced {
    signals: Signals,
    listen: SocketAddr,
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.signals.balanced.lock().remove(&self.listen);
    }
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

    /// A load balancer passes connections on, as long as the answer is kept.
    pub fn balance(&self, listen: SocketAddr, back_ends: &[SocketAddr]) -> Balanced {
        self.balanced.lock().insert(listen, back_ends.to_vec());
        Balanced { signals: self.clone(), listen }
    }

    /// Where a connection to an address may end: there, or at what stands behind the load balancer there.
    pub fn behind(&self, address: SocketAddr) -> Vec<SocketAddr> {
        self.balanced.lock().get(&address).cloned().unwrap_or_else(|| vec![address])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_balancer_is_known_while_it_is_open() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let signals = Signals::default();
        let open = signals.balance(address(1), &[address(2), address(3)]);
        assert_eq!(signals.behind(address(1)), [address(2), address(3)]);
        assert_eq!(signals.behind(address(2)), [address(2)]);
        drop(open);
        assert_eq!(signals.behind(address(1)), [address(1)]);
    }
}
