//! The site as the machine service shows it.

use std::{pin::Pin, sync::Arc};

use dcs_controller::api::CLUSTER_FINALIZER;
use dcs_proto::{
    MachineError,
    error::Reason,
    v1::{self, PowerState, machine_service_server::MachineService},
};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{Answer, FOLDER, Medium, Site, Work, done, no_vm};
use crate::{kinds::DCS_CLUSTER, scenarios::CANARY};

/// The service, as one call of an instance meets it.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) site: Arc<Site>,
    /// Whether the task that this call begins ends badly.
    pub(super) fails: bool,
}

impl Service {
    fn known(&self, session: &str) -> Answer<()> {
        if self.site.state.lock().sessions.iter().any(|known| known == session) {
            return Ok(());
        }
        Err(MachineError::new(Reason::SessionUnknown, "the session is not known"))
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(answer: Answer<T>) -> Reply<T> {
    Ok(Response::new(answer?))
}

#[tonic::async_trait]
impl MachineService for Service {
    async fn open_session(&self, request: Request<v1::OpenSessionRequest>) -> Reply<v1::OpenSessionResponse> {
        let request = request.into_inner();
        if request.key != CANARY {
            return Err(MachineError::new(Reason::Credentials, "wrong user or password").into());
        }
        let state = &mut *self.site.state.lock();
        let session = format!("session-{}", state.new_number());
        state.sessions.push(session.clone());
        Ok(Response::new(v1::OpenSessionResponse { session, site: "site-1".to_owned() }))
    }

    async fn get_site(&self, request: Request<v1::GetSiteRequest>) -> Reply<v1::Site> {
        self.known(&request.into_inner().session)?;
        let site = v1::Site {
            id: "site-1".to_owned(),
            urn: "urn:sites:1".to_owned(),
            name: "site".to_owned(),
            status: "normal".to_owned(),
            version: "8.6".to_owned(),
            capabilities: Vec::new(),
        };
        Ok(Response::new(site))
    }

    async fn resolve_placement(&self, request: Request<v1::ResolvePlacementRequest>) -> Reply<v1::Placement> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let template = request.template.unwrap_or_default();
        let template = v1::Template {
            urn: "urn:templates:1".to_owned(),
            name: template.name,
            cpus: 4,
            memory_mib: 8192,
            system_disk_gib: 20,
            system_datastore_urn: "urn:datastores:1".to_owned(),
            os_type: "Linux".to_owned(),
            architecture: "amd64".to_owned(),
        };
        Ok(Response::new(v1::Placement {
            template: Some(template),
            compute_cluster_urn: "urn:clusters:1".to_owned(),
            folder_urn: request.folder.map(|_| FOLDER.to_owned()).unwrap_or_default(),
            port_group_urns: request.networks.iter().map(|_| "urn:portgroups:1".to_owned()).collect(),
            datastore_urns: request.datastores.iter().map(|_| "urn:datastores:1".to_owned()).collect(),
            unresolved: Vec::new(),
            warnings: Vec::new(),
        }))
    }

    async fn create_machine(&self, request: Request<v1::CreateMachineRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        reply(self.site.create(request, self.fails))
    }

    async fn get_machine(&self, request: Request<v1::GetMachineRequest>) -> Reply<v1::Machine> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = self.site.state.lock();
        reply(state.vms.get(&request.urn).cloned().ok_or_else(|| no_vm(&request.urn)))
    }

    async fn find_machines(&self, request: Request<v1::FindMachinesRequest>) -> Reply<v1::FindMachinesResponse> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = self.site.state.lock();
        let fits = |vm: &&v1::Machine| {
            let uid = vm.owner.as_ref().map(|owner| owner.uid.as_str()).unwrap_or_default();
            (request.attempt.is_empty() || vm.attempt == request.attempt)
                && (request.owner_uid.is_empty() || uid == request.owner_uid)
                && (request.name.is_empty() || vm.name == request.name)
        };
        let machines = state.vms.values().filter(fits).cloned().collect();
        Ok(Response::new(v1::FindMachinesResponse { machines }))
    }

    async fn move_machine(&self, request: Request<v1::MoveMachineRequest>) -> Reply<v1::Task> {
        let v1::MoveMachineRequest { session, urn, folder_urn, .. } = request.into_inner();
        self.known(&session)?;
        let mut state = self.site.state.lock();
        let vm = state.vms.get_mut(&urn).ok_or_else(|| no_vm(&urn))?;
        vm.folder_urn = Some(folder_urn);
        Ok(Response::new(done(&urn)))
    }

    async fn power_on(&self, request: Request<v1::PowerOnRequest>) -> Reply<v1::Task> {
        let v1::PowerOnRequest { session, urn, .. } = request.into_inner();
        self.known(&session)?;
        let work = Work::Start(urn.clone());
        reply(self.site.change(&urn, PowerState::Stopped, PowerState::Running, work, self.fails))
    }

    async fn power_off(&self, request: Request<v1::PowerOffRequest>) -> Reply<v1::Task> {
        let v1::PowerOffRequest { session, urn, .. } = request.into_inner();
        self.known(&session)?;
        let work = Work::Stop(urn.clone());
        reply(self.site.change(&urn, PowerState::Running, PowerState::Stopped, work, self.fails))
    }

    async fn delete_machine(&self, request: Request<v1::DeleteMachineRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        reply(self.site.delete(&request, self.fails))
    }

    async fn grow_disk(&self, request: Request<v1::GrowDiskRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let urn = request.machine_urn.clone();
        let work = Work::Grow { vm: request.machine_urn, volume: request.volume_urn, gib: request.size_gib };
        // Nothing that it can be already.
        reply(self.site.change(&urn, PowerState::Stopped, PowerState::Unspecified, work, self.fails))
    }

    async fn get_console(&self, request: Request<v1::GetConsoleRequest>) -> Reply<v1::Console> {
        self.known(&request.into_inner().session)?;
        Ok(Response::new(v1::Console { output: "login:".to_owned() }))
    }

    async fn put_boot_media(&self, request: Request<v1::PutBootMediaRequest>) -> Reply<v1::BootMedia> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let path = format!("iso/{}", request.file_name);
        let size_bytes = request.user_data.len() as u64;
        let medium = Medium { user_data: request.user_data, network_data: request.network_data };
        self.site.journal.note(&self.site.actor, format!("takes medium {path}"), "");
        self.site.state.lock().media.insert(path.clone(), medium);
        Ok(Response::new(v1::BootMedia { path, datastore_urn: request.datastore_urn, size_bytes }))
    }

    async fn attach_boot_media(&self, request: Request<v1::AttachBootMediaRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = &mut *self.site.state.lock();
        if !state.vms.contains_key(&request.machine_urn) {
            return Err(no_vm(&request.machine_urn).into());
        }
        let work = Work::Insert { vm: request.machine_urn.clone(), path: request.path };
        Ok(Response::new(self.site.begin(state, &request.machine_urn, work, self.fails)))
    }

    async fn detach_boot_media(&self, request: Request<v1::DetachBootMediaRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = &mut *self.site.state.lock();
        if !state.vms.contains_key(&request.machine_urn) {
            return Err(no_vm(&request.machine_urn).into());
        }
        Ok(Response::new(self.site.begin(
            state,
            &request.machine_urn,
            Work::Eject(request.machine_urn.clone()),
            self.fails,
        )))
    }

    async fn delete_boot_media(
        &self,
        request: Request<v1::DeleteBootMediaRequest>,
    ) -> Reply<v1::DeleteBootMediaResponse> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = &mut *self.site.state.lock();
        if let Some(vm) = state.vms.values().find(|vm| vm.boot_media == request.path && !request.path.is_empty()) {
            return Err(MachineError::new(Reason::Conflict, format!("{} has it in its drive", vm.name)).into());
        }
        self.site.journal.note(&self.site.actor, format!("deletes medium {}", request.path), "");
        let name = request.path.rsplit('/').next().unwrap_or_default();
        state.media.retain(|path, _| path.rsplit('/').next() != Some(name));
        Ok(Response::new(v1::DeleteBootMediaResponse {}))
    }

    async fn create_volume(&self, request: Request<v1::CreateVolumeRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        Ok(Response::new(self.site.create_volume(request, self.fails)))
    }

    async fn find_volumes(&self, request: Request<v1::FindVolumesRequest>) -> Reply<v1::FindVolumesResponse> {
        let request = request.into_inner();
        self.known(&request.session)?;
        Ok(Response::new(v1::FindVolumesResponse { volumes: self.site.find_volumes(&request) }))
    }

    async fn adopt_volume(&self, request: Request<v1::AdoptVolumeRequest>) -> Reply<v1::AdoptVolumeResponse> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = &mut *self.site.state.lock();
        let missing = || MachineError::new(Reason::NotFound, format!("there is no volume {}", request.urn));
        let volume = state.volumes.get_mut(&request.urn).ok_or_else(missing)?;
        (volume.name, volume.owner) = (request.name, request.owner);
        (volume.independent, volume.persistent) = (true, true);
        Ok(Response::new(v1::AdoptVolumeResponse {}))
    }

    async fn attach_volume(&self, request: Request<v1::AttachVolumeRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        reply(self.site.attach(&request, self.fails))
    }

    async fn detach_volume(&self, request: Request<v1::DetachVolumeRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        reply(self.site.detach(&request, self.fails))
    }

    async fn delete_volume(&self, request: Request<v1::DeleteVolumeRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        reply(self.site.delete_volume(&request, self.fails))
    }

    async fn put_exclusion_rule(&self, request: Request<v1::PutExclusionRuleRequest>) -> Reply<v1::ExclusionRule> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let state = &mut *self.site.state.lock();
        self.site.check_held(DCS_CLUSTER, "c", CLUSTER_FINALIZER, &format!("rule {}", request.name));
        let index = state.rules.get(&request.name).map_or(1, |rule| rule.index);
        let rule = v1::ExclusionRule { name: request.name.clone(), index, machine_urns: request.machine_urns };
        self.site.journal.note(&self.site.actor, format!("keeps rule {}", rule.name), "");
        // The site moves them apart, as far as it has hosts.
        for (number, urn) in rule.machine_urns.iter().enumerate() {
            if let Some(vm) = state.vms.get_mut(urn) {
                vm.host_urn = format!("urn:hosts:{number}");
            }
        }
        state.rules.insert(request.name, rule.clone());
        Ok(Response::new(rule))
    }

    async fn get_exclusion_rule(&self, request: Request<v1::GetExclusionRuleRequest>) -> Reply<v1::ExclusionRule> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let found = self.site.state.lock().rules.get(&request.name).cloned();
        reply(found.ok_or_else(|| MachineError::new(Reason::NotFound, "there is no such rule")))
    }

    async fn delete_exclusion_rule(
        &self,
        request: Request<v1::DeleteExclusionRuleRequest>,
    ) -> Reply<v1::DeleteExclusionRuleResponse> {
        let request = request.into_inner();
        self.known(&request.session)?;
        self.site.state.lock().rules.remove(&request.name);
        Ok(Response::new(v1::DeleteExclusionRuleResponse {}))
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        self.known(&request.session)?;
        let known = self.site.state.lock().tasks.get(&request.id).map(|task| task.shown.clone());
        let unknown = v1::Task { id: request.id, state: v1::TaskState::Unknown.into(), ..done("") };
        Ok(Response::new(known.unwrap_or(unknown)))
    }

    type WatchTasksStream = Pin<Box<dyn Stream<Item = Result<v1::Task, Status>> + Send>>;

    async fn watch_tasks(&self, request: Request<v1::WatchTasksRequest>) -> Reply<Self::WatchTasksStream> {
        self.known(&request.into_inner().session)?;
        let (sender, receiver) = mpsc::channel(64);
        self.site.state.lock().watchers.push(sender);
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            let task = receiver.recv().await?;
            Some((task, receiver))
        });
        Ok(Response::new(stream.boxed()))
    }
}
