//! A machine service on a Unix socket that does as it is told, and remembers what it was asked.

use std::{collections::BTreeSet, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use dcs_controller::site::{Credentials, Sites};
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{
        self,
        machine_service_server::{MachineService, MachineServiceServer},
    },
};
use parking_lot::Mutex;
use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

/// What the stub knows and was told.
#[derive(Default)]
pub struct State {
    pub openings: Vec<v1::OpenSessionRequest>,
    /// Sessions that it knows.
    pub sessions: BTreeSet<String>,
    /// What the next openings answer; then they succeed.
    pub refusals: Vec<MachineError>,
    /// Calls by name, with their metadata.
    pub calls: Vec<(&'static str, MetadataMap)>,
    /// Calls on machines never answer.
    pub hangs: bool,
    /// Calls whose callers went, and which ended with them.
    pub abandoned: usize,
    /// Calls on machines answer so.
    pub error: Option<MachineError>,
    pub watchers: Vec<mpsc::Sender<Result<v1::Task, Status>>>,
}

/// The stub and its socket; both end with it.
pub struct Stub {
    pub state: Arc<Mutex<State>>,
    pub socket: PathBuf,
    folder: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Stub {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("machine.sock");
        let state = Arc::new(Mutex::new(State::default()));
        let listener = UnixListener::bind(&socket).unwrap();
        let service = MachineServiceServer::new(Service(Arc::clone(&state)));
        let serving = tokio::spawn(async move {
            let served = Server::builder().add_service(service);
            served.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
        });
        Self { state, socket, folder, serving }
    }

    pub fn sites(&self) -> Sites {
        assert!(self.folder.path().exists());
        Sites::at_socket(self.socket.clone())
    }

    /// As an adapter that has started again: it knows no session.
    pub fn forget_sessions(&self) {
        let mut state = self.state.lock();
        state.sessions.clear();
        state.watchers.clear();
    }

    pub fn openings(&self) -> usize {
        self.state.lock().openings.len()
    }

    /// Waits until something is the case.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let waiting = async {
            while !holds(&self.state.lock()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("not {what}"));
    }
}

/// Some login.
pub fn credentials() -> Credentials {
    Credentials {
        endpoint: "https://10.0.0.1:7443".into(),
        user: "capi".into(),
        key: "canary-password".to_owned().into(),
        user_type: v1::UserType::Interconnect,
        site: "S".into(),
        ca_bundle: String::new(),
        insecure_skip_tls_verify: false,
        not_before: 0,
    }
}

struct Service(Arc<Mutex<State>>);

/// Counts calls that end before they answer.
struct Underway(Arc<Mutex<State>>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.lock().abandoned += 1;
    }
}

impl Service {
    fn known(&self, session: &str) -> Result<(), Status> {
        if self.0.lock().sessions.contains(session) {
            return Ok(());
        }
        Err(MachineError::new(Reason::SessionUnknown, "the session is not known").into())
    }

    async fn answer<T>(
        &self,
        call: &'static str,
        session: &str,
        metadata: &MetadataMap,
        answer: T,
    ) -> Result<Response<T>, Status> {
        self.0.lock().calls.push((call, metadata.clone()));
        self.known(session)?;
        if self.0.lock().hangs {
            let _underway = Underway(Arc::clone(&self.0));
            std::future::pending::<()>().await;
        }
        match self.0.lock().error.clone() {
            Some(error) => Err(error.into()),
            None => Ok(Response::new(answer)),
        }
    }
}

/// The whole service: calls that no test makes are refused.
macro_rules! service {
    ($($refused:ident($request:ident) -> $answer:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl MachineService for Service {
            async fn open_session(
                &self,
                request: Request<v1::OpenSessionRequest>,
            ) -> Result<Response<v1::OpenSessionResponse>, Status> {
                // Whoever comes meanwhile is to wait for this one.
                tokio::task::yield_now().await;
                let mut state = self.0.lock();
                state.openings.push(request.into_inner());
                if !state.refusals.is_empty() {
                    return Err(state.refusals.remove(0).into());
                }
                let session = format!("session-{}", state.openings.len());
                state.sessions.insert(session.clone());
                Ok(Response::new(v1::OpenSessionResponse { session, site: "S".into() }))
            }

            async fn get_machine(
                &self,
                request: Request<v1::GetMachineRequest>,
            ) -> Result<Response<v1::Machine>, Status> {
                let metadata = request.metadata().clone();
                let request = request.into_inner();
                let machine = v1::Machine { urn: request.urn, ..v1::Machine::default() };
                self.answer("GetMachine", &request.session, &metadata, machine).await
            }

            async fn put_boot_media(
                &self,
                request: Request<v1::PutBootMediaRequest>,
            ) -> Result<Response<v1::BootMedia>, Status> {
                let metadata = request.metadata().clone();
                let request = request.into_inner();
                self.answer("PutBootMedia", &request.session, &metadata, v1::BootMedia::default()).await
            }

            type WatchTasksStream = Pin<Box<dyn Stream<Item = Result<v1::Task, Status>> + Send>>;

            async fn watch_tasks(
                &self,
                request: Request<v1::WatchTasksRequest>,
            ) -> Result<Response<Self::WatchTasksStream>, Status> {
                self.known(&request.into_inner().session)?;
                let (sender, receiver) = mpsc::channel(8);
                self.0.lock().watchers.push(sender);
                Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
            }

            $(
                async fn $refused(&self, _: Request<v1::$request>) -> Result<Response<v1::$answer>, Status> {
                    Err(Status::unimplemented(stringify!($refused)))
                }
            )*
        }
    };
}

service! {
    get_site(GetSiteRequest) -> Site,
    resolve_placement(ResolvePlacementRequest) -> Placement,
    create_machine(CreateMachineRequest) -> Task,
    find_machines(FindMachinesRequest) -> FindMachinesResponse,
    move_machine(MoveMachineRequest) -> Task,
    power_on(PowerOnRequest) -> Task,
    power_off(PowerOffRequest) -> Task,
    delete_machine(DeleteMachineRequest) -> Task,
    grow_disk(GrowDiskRequest) -> Task,
    get_console(GetConsoleRequest) -> Console,
    attach_boot_media(AttachBootMediaRequest) -> Task,
    detach_boot_media(DetachBootMediaRequest) -> Task,
    delete_boot_media(DeleteBootMediaRequest) -> DeleteBootMediaResponse,
    create_volume(CreateVolumeRequest) -> Task,
    find_volumes(FindVolumesRequest) -> FindVolumesResponse,
    adopt_volume(AdoptVolumeRequest) -> AdoptVolumeResponse,
    attach_volume(AttachVolumeRequest) -> Task,
    detach_volume(DetachVolumeRequest) -> Task,
    delete_volume(DeleteVolumeRequest) -> Task,
    put_exclusion_rule(PutExclusionRuleRequest) -> ExclusionRule,
    get_exclusion_rule(GetExclusionRuleRequest) -> ExclusionRule,
    delete_exclusion_rule(DeleteExclusionRuleRequest) -> DeleteExclusionRuleResponse,
    get_task(GetTaskRequest) -> Task,
}
