//! What answers, and their absence, mean for a read and for what has an effect.

use std::time::Duration;

use dcs_proto::error::{Reason, VENDOR_CODE};
use serde_json::json;

use super::{
    at, read,
    stub::{Reply, Stub},
    write,
};

async fn meant(reply: Reply) -> (Result<(), Reason>, Result<(), Reason>, usize) {
    let stub = Stub::start(move |call| call.path.contains("/vms/").then(|| reply.clone())).await;
    let (service, session) = at(&stub).await;
    let reading = read(&service, &session).await.map(drop).map_err(|error| error.reason);
    let writing = write(&service, &session).await.map(drop).map_err(|error| error.reason);
    (reading, writing, stub.count("GET", "/vms/i-1"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_meaning() {
    use Reason::{Busy, Capacity, Conflict, Credentials, Invalid, NotFound, OutcomeUnknown, Throttled, Unreachable};
    let wrapped = json!({"error": {"code": "10300016", "message": "no room"}}).to_string();
    let cases = [
        // A gateway's page is no answer of the site, whatever its status; nor is silence.
        (Reply::html(200), Err(Unreachable), Ok(()), 3),
        (Reply::html(502), Err(Unreachable), Err(OutcomeUnknown), 3),
        (Reply::html(504), Err(Unreachable), Err(OutcomeUnknown), 3),
        (Reply::Drop, Err(Unreachable), Err(OutcomeUnknown), 3),
        // The site's number goes before the status.
        (Reply::refusal(400, "10300001"), Err(NotFound), Err(NotFound), 1),
        (Reply::refusal(500, "11000000"), Err(Busy), Err(Busy), 3),
        (Reply::refusal(500, "10000003"), Err(Credentials), Err(Credentials), 1),
        (Reply::refusal(200, "10300015"), Err(Conflict), Err(Conflict), 1),
        (Reply::refusal(400, "10300016"), Err(Capacity), Err(Capacity), 1),
        (Reply::refusal(400, "10000001"), Err(Invalid), Err(Invalid), 1),
        (Reply::refusal(400, "99999999"), Err(Busy), Err(Busy), 3),
        (Reply::Says(200, Vec::new(), wrapped), Err(Capacity), Err(Capacity), 1),
        (Reply::Says(400, Vec::new(), json!({"errorCode": 10_300_001}).to_string()), Err(NotFound), Err(NotFound), 1),
        (Reply::html(503), Err(Throttled), Err(Throttled), 3),
        (Reply::html(404), Err(NotFound), Err(NotFound), 1),
        // Success says so with zeros, or not at all.
        (Reply::Says(200, Vec::new(), json!({"errorCode": "00000000"}).to_string()), Ok(()), Ok(()), 1),
        (Reply::Says(202, Vec::new(), String::new()), Err(Unreachable), Ok(()), 3),
    ];
    let all = cases.map(|(reply, reading, writing, reads)| {
        tokio::spawn(async move {
            let found = meant(reply.clone()).await;
            assert_eq!(found, (reading, writing, reads), "{reply:?}");
        })
    });
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_sites_number_and_patience() {
    let stub = Stub::start(|call| {
        call.path.contains("/vms/").then(|| Reply::refusal(400, "10000006").with("Retry-After", "7"))
    })
    .await;
    let (service, session) = at(&stub).await;
    let error = write(&service, &session).await.unwrap_err();
    assert_eq!((error.reason, error.retry_after), (Reason::Throttled, Some(Duration::from_secs(7))));
    assert_eq!(error.metadata.get(VENDOR_CODE).map(String::as_str), Some("10000006"));
    assert_eq!(error.to_string(), "the site's words (code 10000006)");
}

/// What was never sent has no effect: it need not be looked for.
#[tokio::test]
async fn a_site_that_takes_no_connection_was_not_asked() {
    let mut stub = Stub::start(|_| None).await;
    let (service, session) = at(&stub).await;
    stub.close().await;
    assert_eq!(write(&service, &session).await.unwrap_err().reason, Reason::Unreachable);
}

/// Something between us and the site that answers 404 to everything must not make machines vanish.
#[tokio::test]
async fn a_404_of_everything_says_nothing() {
    let stub = Stub::start(|call| call.path.starts_with("/service/sites/S").then_some(Reply::html(404))).await;
    let (service, session) = at(&stub).await;
    assert_eq!(read(&service, &session).await.unwrap_err().reason, Reason::Unreachable);
}

#[tokio::test]
async fn a_list_without_its_items_is_not_an_empty_one() {
    let stub = Stub::start(|call| call.is("GET", "/vms").then(|| Reply::json(json!({"total": 3})))).await;
    let (service, session) = at(&stub).await;
    let request = dcs_proto::v1::FindMachinesRequest { session, attempt: "a".into(), ..Default::default() };
    let found =
        dcs_proto::v1::machine_service_server::MachineService::find_machines(&service, tonic::Request::new(request));
    assert_eq!(super::seen(found.await).unwrap_err().reason, Reason::Unsupported);
}
