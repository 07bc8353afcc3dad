//! The machine service, call by call.

mod machines;
mod media;
mod placement;
mod rules;
mod tasks;
mod volumes;

use std::{pin::Pin, sync::Arc};

use dcs_proto::{
    MachineError,
    v1::{self, machine_service_server::MachineService},
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::session::{Session, Sessions};

/// Serves all sessions of the process.
pub struct Service {
    sessions: Arc<Sessions>,
}

impl Service {
    /// A service over these sessions.
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions: Arc::new(sessions) }
    }

    fn session(&self, name: &str) -> Result<Arc<Session>, MachineError> {
        self.sessions.get(name)
    }
}

/// Looks the session up, calls the function, turns its error into a status.
macro_rules! answer {
    ($self:ident, $request:ident, $function:path) => {{
        let request = $request.into_inner();
        let session = $self.session(&request.session)?;
        Ok(Response::new($function(&session, request).await?))
    }};
}

#[tonic::async_trait]
impl MachineService for Service {
    async fn open_session(
        &self,
        request: Request<v1::OpenSessionRequest>,
    ) -> Result<Response<v1::OpenSessionResponse>, Status> {
        let (name, session) = self.sessions.open(request.into_inner()).await?;
        Ok(Response::new(v1::OpenSessionResponse { session: name, site: session.site.clone() }))
    }

    async fn get_site(&self, request: Request<v1::GetSiteRequest>) -> Result<Response<v1::Site>, Status> {
        answer!(self, request, placement::site)
    }

    async fn resolve_placement(
        &self,
        request: Request<v1::ResolvePlacementRequest>,
    ) -> Result<Response<v1::Placement>, Status> {
        answer!(self, request, placement::resolve)
    }

    async fn create_machine(&self, request: Request<v1::CreateMachineRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, machines::create)
    }

    async fn get_machine(&self, request: Request<v1::GetMachineRequest>) -> Result<Response<v1::Machine>, Status> {
        answer!(self, request, machines::get)
    }

    async fn find_machines(
        &self,
        request: Request<v1::FindMachinesRequest>,
    ) -> Result<Response<v1::FindMachinesResponse>, Status> {
        answer!(self, request, machines::find)
    }

    async fn move_machine(&self, request: Request<v1::MoveMachineRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, machines::move_into)
    }

    async fn power_on(&self, request: Request<v1::PowerOnRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, machines::power_on)
    }

    async fn power_off(&self, request: Request<v1::PowerOffRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, machines::power_off)
    }

    async fn delete_machine(&self, request: Request<v1::DeleteMachineRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, machines::delete)
    }

    async fn grow_disk(&self, request: Request<v1::GrowDiskRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, machines::grow_disk)
    }

    async fn get_console(&self, request: Request<v1::GetConsoleRequest>) -> Result<Response<v1::Console>, Status> {
        answer!(self, request, machines::console)
    }

    async fn put_boot_media(
        &self,
        request: Request<v1::PutBootMediaRequest>,
    ) -> Result<Response<v1::BootMedia>, Status> {
        answer!(self, request, media::put)
    }

    async fn attach_boot_media(
        &self,
        request: Request<v1::AttachBootMediaRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, media::attach)
    }

    async fn detach_boot_media(
        &self,
        request: Request<v1::DetachBootMediaRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, media::detach)
    }

    async fn delete_boot_media(
        &self,
        request: Request<v1::DeleteBootMediaRequest>,
    ) -> Result<Response<v1::DeleteBootMediaResponse>, Status> {
        answer!(self, request, media::delete)
    }

    async fn create_volume(&self, request: Request<v1::CreateVolumeRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, volumes::create)
    }

    async fn find_volumes(
        &self,
        request: Request<v1::FindVolumesRequest>,
    ) -> Result<Response<v1::FindVolumesResponse>, Status> {
        answer!(self, request, volumes::find)
    }

    async fn adopt_volume(
        &self,
        request: Request<v1::AdoptVolumeRequest>,
    ) -> Result<Response<v1::AdoptVolumeResponse>, Status> {
        answer!(self, request, volumes::adopt)
    }

    async fn attach_volume(&self, request: Request<v1::AttachVolumeRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, volumes::attach)
    }

    async fn detach_volume(&self, request: Request<v1::DetachVolumeRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, volumes::detach)
    }

    async fn delete_volume(&self, request: Request<v1::DeleteVolumeRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, volumes::delete)
    }

    async fn put_exclusion_rule(
        &self,
        request: Request<v1::PutExclusionRuleRequest>,
    ) -> Result<Response<v1::ExclusionRule>, Status> {
        answer!(self, request, rules::put)
    }

    async fn get_exclusion_rule(
        &self,
        request: Request<v1::GetExclusionRuleRequest>,
    ) -> Result<Response<v1::ExclusionRule>, Status> {
        answer!(self, request, rules::get)
    }

    async fn delete_exclusion_rule(
        &self,
        request: Request<v1::DeleteExclusionRuleRequest>,
    ) -> Result<Response<v1::DeleteExclusionRuleResponse>, Status> {
        answer!(self, request, rules::delete)
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Result<Response<v1::Task>, Status> {
        answer!(self, request, tasks::get)
    }

    type WatchTasksStream = Pin<Box<dyn Stream<Item = Result<v1::Task, Status>> + Send>>;

    async fn watch_tasks(
        &self,
        request: Request<v1::WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let session = self.session(&request.into_inner().session)?;
        Ok(Response::new(tasks::watch(session)))
    }
}
