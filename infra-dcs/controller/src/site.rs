//! The client side of the machine service. Sessions are opened when first needed and again when the adapter does not
//! know them any more; callers see neither.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::digest;
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, machine_service_client::MachineServiceClient},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::Mutex};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    metadata::AsciiMetadataKey,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Endpoint, Uri},
};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use zeroize::Zeroizing;

/// Limit of an ordinary call.
const CALL: Duration = Duration::from_secs(30);
/// Limit of an upload.
const UPLOAD: Duration = Duration::from_secs(120);
/// Largest answer.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Time after which a stream of tasks that broke is opened again.
const REOPEN: Duration = Duration::from_secs(2);

/// What carries calls to the adapter: a connection, or in a simulation a model of it.
pub type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// The generated client; its calls carry their deadline, so that the adapter ends with what nobody waits for, and the
/// trace that they belong to.
pub type Client = MachineServiceClient<InterceptedService<Transport, CallContext>>;

/// Tells the adapter how long an answer is waited for, and in which span.
#[derive(Clone, Copy)]
pub struct CallContext {
    limit: Option<Duration>,
}

impl Interceptor for CallContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(limit) = self.limit {
            request.set_timeout(limit);
        }
        for (name, value) in manager::telemetry::trace_context() {
            if let (Ok(name), Ok(value)) = (AsciiMetadataKey::from_bytes(name.as_bytes()), value.parse()) {
                request.metadata_mut().insert(name, value);
            }
        }
        Ok(request)
    }
}

/// Hears of tasks that ended, by their ids.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// A login at a site.
#[derive(Clone)]
pub struct Credentials {
    /// URL of the site's API.
    pub endpoint: String,
    /// User.
    pub user: String,
    /// Password.
    pub key: Zeroizing<String>,
    /// Kind of user.
    pub user_type: v1::UserType,
    /// Id of the site; empty takes the only one.
    pub site: String,
    /// Certificates to trust, in PEM.
    pub ca_bundle: String,
    /// The endpoint's certificate is not checked.
    pub insecure_skip_tls_verify: bool,
    /// No login before this time (seconds since 1970; 0 for none): an earlier one was refused.
    pub not_before: i64,
}

type Fingerprint = Vec<u8>;
/// A session's id; locked while it is being opened.
type Slot = Arc<Mutex<Option<String>>>;

impl Credentials {
    /// Stands for the login without revealing it.
    fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        let user_type = self.user_type.as_str_name();
        for part in [&self.endpoint, &self.user, &*self.key, user_type, &self.site, &self.ca_bundle] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.update(&[u8::from(self.insecure_skip_tls_verify)]);
        context.finish().as_ref().to_vec()
    }
}

/// All sites, behind one adapter; cheap to clone.
#[derive(Clone)]
pub struct Sites {
    transport: Transport,
    sessions: Arc<Mutex<HashMap<Fingerprint, Slot>>>,
    listener: Arc<OnceLock<Listener>>,
}

impl Sites {
    /// The adapter at a Unix socket. Nothing is dialled before the first call.
    pub fn at_socket(path: PathBuf) -> Self {
        // The URI is not used: the connector always dials the socket.
        let channel = Endpoint::from_static("http://adapter")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector_lazy(service_fn(move |_: Uri| {
                let path = path.clone();
                async move {
                    let named = |error: std::io::Error| {
                        std::io::Error::new(error.kind(), format!("no adapter at {}: {error}", path.display()))
                    };
                    UnixStream::connect(&path).await.map(TokioIo::new).map_err(named)
                }
            }));
        Self::over(BoxCloneSyncService::new(channel.map_err(|error| Status::from_error(error.into()))))
    }

    /// The adapter at the other end of a transport.
    pub fn over(transport: Transport) -> Self {
        Self { transport, sessions: Arc::default(), listener: Arc::default() }
    }

    /// Calls `listener` with the id of each task that ends at any site. Only the first listener is heard of.
    pub fn on_task_end(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        if self.listener.set(Box::new(listener)).is_err() {
            tracing::error!("A second listener to the ends of tasks is not heard.");
        }
    }

    fn client(&self, limit: Option<Duration>) -> Client {
        Client::new(InterceptedService::new(self.transport.clone(), CallContext { limit }))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT * 8)
    }

    /// Hears of the ends of a session's tasks until the adapter knows the session no more.
    async fn follow(self, session: String) {
        loop {
            let request = v1::WatchTasksRequest { session: session.clone() };
            match self.client(None).watch_tasks(request).await.map(Response::into_inner) {
                Ok(mut ends) => self.hear(&mut ends).await,
                Err(status) if MachineError::from(status.clone()).reason == Reason::SessionUnknown => return,
                Err(status) => tracing::debug!(%status, "The adapter does not tell of tasks."),
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    async fn hear(&self, ends: &mut Streaming<v1::Task>) {
        while let Ok(Some(task)) = ends.message().await {
            if let Some(listener) = self.listener.get() {
                listener(&task.id);
            }
        }
    }

    /// A site as one login sees it.
    pub fn site(&self, credentials: Credentials) -> Site {
        Site { sites: self.clone(), fingerprint: credentials.fingerprint(), credentials: Arc::new(credentials) }
    }
}

/// A site as one login sees it.
#[derive(Clone)]
pub struct Site {
    sites: Sites,
    credentials: Arc<Credentials>,
    fingerprint: Fingerprint,
}

impl Site {
    /// Calls with the session's id; a session that the adapter has forgotten is opened again, once.
    pub async fn call<T, F, Answer>(&self, call: F) -> Result<T, MachineError>
    where
        F: Fn(Client, String) -> Answer,
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(CALL, call).await
    }

    /// Like [`Site::call`], for calls that move much data.
    pub async fn upload<T, F, Answer>(&self, call: F) -> Result<T, MachineError>
    where
        F: Fn(Client, String) -> Answer,
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_within(UPLOAD, call).await
    }

    async fn call_within<T, F, Answer>(&self, limit: Duration, call: F) -> Result<T, MachineError>
    where
        F: Fn(Client, String) -> Answer,
        Answer: Future<Output = Result<Response<T>, Status>>,
    {
        let mut stale = None;
        loop {
            let session = self.session(stale.as_deref()).await?;
            match within(limit, call(self.sites.client(Some(limit)), session.clone())).await {
                Err(error) if error.reason == Reason::SessionUnknown && stale.is_none() => stale = Some(session),
                outcome => return outcome,
            }
        }
    }

    /// The session's id, opened when there is none or when the known one is `stale`. One opening at a time.
    async fn session(&self, stale: Option<&str>) -> Result<String, MachineError> {
        let slot = Arc::clone(self.sites.sessions.lock().await.entry(self.fingerprint.clone()).or_default());
        let mut known = slot.lock().await;
        if let Some(session) = known.as_ref().filter(|session| Some(session.as_str()) != stale) {
            return Ok(session.clone());
        }
        let credentials = &self.credentials;
        let request = v1::OpenSessionRequest {
            endpoint: credentials.endpoint.clone(),
            user: credentials.user.clone(),
            key: credentials.key.to_string(),
            user_type: credentials.user_type.into(),
            site: credentials.site.clone(),
            ca_bundle: credentials.ca_bundle.clone(),
            insecure_skip_tls_verify: credentials.insecure_skip_tls_verify,
            not_before: credentials.not_before,
        };
        let mut client = self.sites.client(Some(CALL));
        let opened = within(CALL, client.open_session(request)).await?;
        *known = Some(opened.session.clone());
        tokio::spawn(self.sites.clone().follow(opened.session.clone()));
        Ok(opened.session)
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, MachineError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(MachineError::new(
            Reason::OutcomeUnknown,
            format!("no answer from the adapter in {} s", limit.as_secs()),
        )),
    }
}
