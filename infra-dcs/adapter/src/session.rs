//! Sessions: random ids that stand for a site and a login. Sessions of the same site and user share one login.

use std::{collections::VecDeque, sync::Arc};

use aws_lc_rs::digest;
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{OpenSessionRequest, UserType},
};
use parking_lot::Mutex;

use crate::{
    followed::Followed,
    vrm::{Account, Rate, Trust, Vrm, wire::Named},
};

/// Sessions that are kept; the oldest go first. A controller opens a new one without being noticed.
const KEPT: usize = 1024;
/// Clients that are kept; the oldest go first, and their breakers with them.
const CLIENTS: usize = 512;

/// What a session stands for.
pub struct Session {
    /// Client of the site.
    pub vrm: Arc<Vrm>,
    /// Path of the site: `/service/sites/<id>`.
    pub site_path: String,
    /// Id of the site.
    pub site: String,
    /// Its tasks.
    pub tasks: Followed,
}

/// All sessions of the process.
pub struct Sessions {
    trust: String,
    insecure: bool,
    rate: Rate,
    clients: Mutex<VecDeque<(Vec<u8>, Arc<Vrm>)>>,
    open: Mutex<VecDeque<(String, Arc<Session>)>>,
}

impl Sessions {
    /// Sessions that trust these certificates besides those that a request brings, and ask no site more often.
    pub fn new(ca_bundle: String, insecure: bool, rate: Rate) -> Self {
        Self { trust: ca_bundle, insecure, rate, clients: Mutex::default(), open: Mutex::default() }
    }

    /// Opens a session; logs in where nobody has.
    pub async fn open(&self, request: OpenSessionRequest) -> Result<(String, Arc<Session>), MachineError> {
        for (field, value) in [("endpoint", &request.endpoint), ("user", &request.user), ("key", &request.key)] {
            if value.is_empty() {
                return Err(MachineError::new(Reason::Invalid, format!("{field}: must not be empty")));
            }
        }
        let vrm = self.client(&request)?;
        vrm.not_before(request.not_before).await;
        let sites: serde_json::Value = vrm.get("/service/sites", &[]).await?;
        let sites: Vec<Named> = serde_json::from_value(sites["sites"].clone()).unwrap_or_default();
        let id = |site: &Named| site.urn.rsplit(':').next().unwrap_or_default().to_owned();
        let mut fitting = sites.iter().filter(|site| request.site.is_empty() || id(site) == request.site);
        let (Some(found), None) = (fitting.next(), fitting.next()) else {
            let known: Vec<_> = sites.iter().map(id).collect();
            let message = format!("site {:?}: not one of {}", request.site, known.join(", "));
            return Err(MachineError::new(Reason::NotFound, message).about("site", &request.site));
        };
        let site = id(found);
        let session =
            Arc::new(Session { vrm, site_path: format!("/service/sites/{site}"), site, tasks: Followed::default() });
        let name = format!("{:032x}", rand::random::<u128>());
        let mut open = self.open.lock();
        if open.len() >= KEPT {
            open.pop_front();
        }
        open.push_back((name.clone(), Arc::clone(&session)));
        Ok((name, session))
    }

    /// The session of an id.
    pub fn get(&self, name: &str) -> Result<Arc<Session>, MachineError> {
        let open = self.open.lock();
        let found = open.iter().rev().find(|(known, _)| known == name).map(|(_, session)| Arc::clone(session));
        found.ok_or_else(|| MachineError::new(Reason::SessionUnknown, "the session is not known; open it again"))
    }

    fn client(&self, request: &OpenSessionRequest) -> Result<Arc<Vrm>, MachineError> {
        let user_type = if request.user_type() == UserType::Domain { UserType::Domain } else { UserType::Interconnect };
        let trust = Trust {
            ca_bundle: format!("{}\n{}", self.trust, request.ca_bundle),
            insecure: self.insecure || request.insecure_skip_tls_verify,
        };
        // A changed password is another client, and so a breaker that is closed.
        let parts = [&request.endpoint, &request.user, &request.key, user_type.as_str_name(), &trust.ca_bundle];
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&[u8::from(trust.insecure)]);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let identity = context.finish().as_ref().to_vec();
        let mut clients = self.clients.lock();
        if let Some((_, known)) = clients.iter().find(|(known, _)| *known == identity) {
            return Ok(Arc::clone(known));
        }
        let account = Account {
            endpoint: request.endpoint.clone(),
            user: request.user.clone(),
            key: request.key.as_str().into(),
            user_type,
        };
        let vrm = Vrm::new(account, &trust, self.rate)?;
        if clients.len() >= CLIENTS {
            clients.pop_front();
        }
        clients.push_back((identity, Arc::clone(&vrm)));
        Ok(vrm)
    }
}
