//! The adapter's calls against a scripted site.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod login;
mod machines;
mod media;
mod names;
mod refusals;
mod stub;
mod tasks;
mod volumes;

use std::num::NonZeroU32;

use dcs_adapter::{service::Service, session::Sessions, vrm::Rate};
use dcs_proto::{
    MachineError,
    v1::{self, machine_service_server::MachineService},
};
use tonic::{Request, Response, Status};

use stub::Stub;

const PASSWORD: &str = "canary-password";

/// What a call gave, as the controller sees it.
fn seen<T>(answer: Result<Response<T>, Status>) -> Result<T, MachineError> {
    answer.map(Response::into_inner).map_err(MachineError::from)
}

fn service() -> Service {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Service::new(Sessions::new(String::new(), false, Rate::a_second(NonZeroU32::new(10).unwrap())))
}

fn opening(stub: &Stub) -> v1::OpenSessionRequest {
    v1::OpenSessionRequest {
        endpoint: stub.url.clone(),
        user: "capi".into(),
        key: PASSWORD.into(),
        ca_bundle: stub.certificate.clone(),
        ..v1::OpenSessionRequest::default()
    }
}

async fn open(service: &Service, request: v1::OpenSessionRequest) -> Result<String, MachineError> {
    seen(service.open_session(Request::new(request)).await).map(|opened| opened.session)
}

/// A service with a session at a stub.
async fn at(stub: &Stub) -> (Service, String) {
    let service = service();
    let session = open(&service, opening(stub)).await.unwrap();
    (service, session)
}

fn owner() -> v1::Owner {
    v1::Owner { management_cluster: "mc".into(), resource: "ns/m".into(), uid: "u1".into(), cluster: "ns/c".into() }
}

/// A read, and something with an effect: the two kinds of calls.
async fn read(service: &Service, session: &str) -> Result<v1::Machine, MachineError> {
    let request = v1::GetMachineRequest { session: session.into(), urn: "urn:sites:S:vms:i-1".into() };
    seen(service.get_machine(Request::new(request)).await)
}

async fn write(service: &Service, session: &str) -> Result<v1::Task, MachineError> {
    let request = v1::PowerOnRequest {
        session: session.into(),
        urn: "urn:sites:S:vms:i-1".into(),
        ..v1::PowerOnRequest::default()
    };
    seen(service.power_on(Request::new(request)).await)
}
