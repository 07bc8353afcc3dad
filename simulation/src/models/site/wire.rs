//! The way of an instance to the adapter, and of the adapter to the site: calls are lost, refused, late.

use std::{sync::Arc, time::Duration};

use dcs_controller::site::Transport;
use dcs_proto::{MachineError, error::Reason, v1::machine_service_server::MachineServiceServer};
use futures::FutureExt;
use tokio::time::sleep;
use tonic::{Status, body::Body};
use tower::{Service as _, service_fn, util::BoxCloneSyncService};

use super::{Site, service::Service};
use crate::{
    plan::CallFault,
    wire::{Broken, Link, PATIENCE},
};

/// The adapter ends with what nobody waits for: no call is carried out later than this (`dcs_controller::site`).
const DEADLINE: Duration = Duration::from_secs(25);
/// The same, of an upload.
const UPLOAD: Duration = Duration::from_secs(120);

/// What an instance's calls go through.
pub fn transport(site: &Arc<Site>, link: &Arc<Link>) -> Transport {
    let (site, link) = (Arc::clone(site), Arc::clone(link));
    BoxCloneSyncService::new(service_fn(move |request: http::Request<Body>| {
        carry(Arc::clone(&site), Arc::clone(&link), request).boxed()
    }))
}

async fn carry(site: Arc<Site>, link: Arc<Link>, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let what = format!("site: {call}");
    let fault = link.plan.next_call();
    let broken = |_: Broken| Status::unavailable("the connection was lost");
    link.leave(fault, &what).await.map_err(broken)?;
    if site.is_silent() {
        sleep(PATIENCE).await;
        link.journal.note(&link.name, what, "no answer: silent");
        return Err(MachineError::new(Reason::Unreachable, "the site does not answer").into());
    }
    let mut fails = false;
    match fault {
        Some(CallFault::Refuse(number)) if number % 2 == 0 => {
            link.journal.note(&link.name, what, "refused");
            return Err(refusal(number / 2).into());
        }
        Some(CallFault::Refuse(_)) => fails = true,
        Some(CallFault::Late(time)) => {
            let limit = if call == "PutBootMedia" { UPLOAD } else { DEADLINE };
            let late = async move {
                sleep(time.min(limit)).await;
                let _ = MachineServiceServer::new(Service { site, fails: false }).call(request).await;
                link.journal.note(&link.name, format!("{what} (late)"), "");
                link.journal.changed();
                link.journal.check();
            };
            tokio::spawn(late);
            return Err(MachineError::new(Reason::OutcomeUnknown, "no answer in time").into());
        }
        _ => {}
    }
    let mut service = MachineServiceServer::new(Service { site, fails });
    let answer = match service.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let outcome = answer.headers().get("grpc-status").map_or("ok", |status| status.to_str().unwrap_or("?"));
    link.journal.note(&link.name, what, outcome);
    link.journal.check();
    match link.arrive(fault).await {
        Ok(()) => Ok(answer),
        Err(Broken) => Err(MachineError::new(Reason::OutcomeUnknown, "the answer was lost").into()),
    }
}

/// What a site refuses with, by number.
fn refusal(number: u8) -> MachineError {
    let (reason, retry) = match number % 6 {
        0 => (Reason::Busy, Some(3)),
        1 => (Reason::Throttled, Some(10)),
        2 => (Reason::Capacity, None),
        3 => (Reason::Unreachable, None),
        4 => (Reason::Placement, None),
        _ => (Reason::OutcomeUnknown, None),
    };
    let error = MachineError::new(reason, "refused on purpose");
    match retry {
        Some(seconds) => error.retry_after(Duration::from_secs(seconds)),
        None => error,
    }
}
