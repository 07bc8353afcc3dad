//! The process as its probes and tools see it.

use std::{path::Path, time::Duration};

use clap::Parser;
use dcs_adapter::server::{self, Cli};
use dcs_proto::v1::{GetSiteRequest, machine_service_client::MachineServiceClient};
use tonic::{Request, transport::Endpoint};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

fn command(words: &[&str], socket: &Path) -> Cli {
    let socket = format!("--socket={}", socket.display());
    Cli::parse_from(["basalt-dcs-adapter"].iter().chain(words).copied().chain([socket.as_str()]))
}

async fn probe(socket: &Path) -> Result<(), server::Error> {
    server::run(command(&["probe"], socket)).await
}

#[tokio::test]
async fn a_server_is_healthy_describes_itself_and_knows_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/machine.sock");
    assert!(probe(&socket).await.is_err(), "nobody serves yet");
    let serving = tokio::spawn(server::run(command(&["serve", "--reflection"], &socket)));
    let ready = async {
        while probe(&socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ready).await.unwrap();

    let channel = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap().connect().await.unwrap();
    let mut client = MachineServiceClient::new(channel.clone());
    let refused = client.get_site(Request::new(GetSiteRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);

    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(asked))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = answer else { panic!("{answer:?}") };
    assert!(listed.service.iter().any(|service| service.name == "dcs.machine.v1.MachineService"), "{listed:?}");
    serving.abort();
}
