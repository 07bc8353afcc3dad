//! One login for everyone, renewed once, never tried in a way that locks the user.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dcs_proto::{
    error::{Reason, STALE_PASSWORD},
    v1::{OpenSessionRequest, UserType},
};
use serde_json::json;

use super::{
    PASSWORD, at, open, opening, read, service,
    stub::{Call, Reply, Stub},
    write,
};

fn is_login(call: &Call) -> bool {
    call.is("POST", "/service/session")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_openings_at_once_log_in_once() {
    let late = |call: &Call| {
        let token = Reply::json(json!({})).with("X-Auth-Token", "t");
        is_login(call).then(|| Reply::Late(Duration::from_millis(150), Box::new(token)))
    };
    let stub = Stub::start(late).await;
    let service = Arc::new(service());
    let all = (0..20).map(|_| {
        let (service, request) = (Arc::clone(&service), opening(&stub));
        tokio::spawn(async move { open(&service, request).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(stub.logins(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_during_calls_is_renewed_once_for_all_of_them() {
    let logins = Arc::new(AtomicUsize::new(0));
    let stub = Stub::start({
        let logins = Arc::clone(&logins);
        move |call| match call.path.as_str() {
            "/service/session" => {
                let number = logins.fetch_add(1, Ordering::SeqCst) + 1;
                Some(Reply::json(json!({})).with("X-Auth-Token", &format!("token-{number}")))
            }
            path if path.contains("/vms/") && call.header("X-Auth-Token") == "token-1" => {
                Some(Reply::refusal(401, "10000002"))
            }
            path if path.ends_with("/start") => Some(Reply::task(1)),
            path if path.contains("/vms/") => Some(Reply::json(json!({"urn": "urn:sites:S:vms:i-1"}))),
            _ => None,
        }
    })
    .await;
    let (service, session) = at(&stub).await;
    let service = Arc::new(service);
    let all = (0..10).map(|number| {
        let (service, session) = (Arc::clone(&service), session.clone());
        tokio::spawn(async move {
            // A refused token means that nothing was done: what has an effect is sent again too.
            if number % 2 == 0 {
                read(&service, &session).await.map(drop)
            } else {
                write(&service, &session).await.map(drop)
            }
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(stub.logins(), 2, "one login, one renewal");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let stub = Stub::start(|call| is_login(call).then(|| Reply::refusal(400, "10100103"))).await;
    let service = service();
    for _ in 0..5 {
        let error = open(&service, opening(&stub)).await.unwrap_err();
        assert_eq!(error.reason, Reason::Credentials);
        assert!(error.retry_after.is_some_and(|after| after > Duration::from_secs(290)), "{error:?}");
    }
    assert_eq!(stub.logins(), 1);
    // Another password is another matter.
    let other = OpenSessionRequest { key: "right".into(), ..opening(&stub) };
    open(&service, other).await.unwrap_err();
    assert_eq!(stub.logins(), 2);
}

#[tokio::test]
async fn a_password_that_must_be_changed_is_told_apart() {
    for (code, stale) in [("10100108", true), ("10100109", true), ("10100103", false)] {
        // These come with status 200.
        let stub = Stub::start(move |call| is_login(call).then(|| Reply::refusal(200, code))).await;
        let error = open(&service(), opening(&stub)).await.unwrap_err();
        assert_eq!((error.reason, error.is_about(STALE_PASSWORD)), (Reason::Credentials, stale), "{code}");
    }
}

#[tokio::test]
async fn a_lockout_outlives_the_process() {
    let stub = Stub::start(|call| is_login(call).then(|| Reply::refusal(400, "10100116"))).await;
    let error = open(&service(), opening(&stub)).await.unwrap_err();
    assert_eq!(error.reason, Reason::LockedOut);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = i64::try_from((now + error.retry_after.unwrap()).as_secs()).unwrap();
    let restarted = service();
    let told = OpenSessionRequest { not_before: until, ..opening(&stub) };
    assert_eq!(open(&restarted, told.clone()).await.unwrap_err().reason, Reason::LockedOut);
    assert_eq!(stub.logins(), 1, "a new process asks nobody before the time it was told");
    open(&service(), OpenSessionRequest { not_before: until - 4000, ..told }).await.unwrap_err();
    assert_eq!(stub.logins(), 2, "a time that has passed holds nothing up");
}

#[tokio::test]
async fn refusals_with_status_200_are_refusals() {
    for (code, expected) in
        [("10100108", Some(Reason::Credentials)), ("10100109", Some(Reason::Credentials)), ("10100110", None)]
    {
        let stub =
            Stub::start(move |call| is_login(call).then(|| Reply::refusal(200, code).with("X-Auth-Token", "t"))).await;
        let opened = open(&service(), opening(&stub)).await;
        assert_eq!(opened.err().map(|error| error.reason), expected, "{code}");
    }
}

#[tokio::test]
async fn a_site_that_does_not_answer_is_no_wrong_password() {
    let stub = Stub::start(|call| is_login(call).then_some(Reply::html(502))).await;
    let service = service();
    for expected in [3, 6] {
        assert_eq!(open(&service, opening(&stub)).await.unwrap_err().reason, Reason::Unreachable);
        assert_eq!(stub.logins(), expected, "reads are tried three times, and their login with them");
    }
}

#[tokio::test]
async fn the_kind_of_user_is_told_as_the_site_knows_it() {
    let stub = Stub::start(|_| None).await;
    for (kind, header) in [(UserType::Unspecified, "2"), (UserType::Interconnect, "2"), (UserType::Domain, "1")] {
        let request = OpenSessionRequest { user_type: kind.into(), ..opening(&stub) };
        open(&service(), request).await.unwrap();
        let login = stub.calls(is_login).pop().unwrap();
        assert_eq!(login.header("X-Auth-UserType"), header);
        assert_eq!((login.header("X-Auth-User"), login.header("X-Auth-Key")), ("capi".into(), PASSWORD.into()));
    }
}

#[tokio::test]
async fn a_site_is_found_by_its_id_alone() {
    let sites = json!({"sites": [{"urn": "urn:sites:A", "name": "one"}, {"urn": "urn:sites:B", "name": "two"}]});
    let stub = Stub::start(move |call| call.is("GET", "/sites").then(|| Reply::json(sites.clone()))).await;
    let with = |site: &str| OpenSessionRequest { site: site.into(), ..opening(&stub) };
    open(&service(), with("B")).await.unwrap();
    for wrong in ["", "C", "b"] {
        let error = open(&service(), with(wrong)).await.unwrap_err();
        assert_eq!(error.reason, Reason::NotFound);
        assert!(error.message.contains("A, B"), "{error}");
    }
}

/// An older release, which refuses what it does not speak.
#[tokio::test]
async fn the_newest_version_that_a_site_speaks_is_used() {
    let speaks = |call: &Call, known: &'static str| {
        if call.path == "/service/versions" {
            let versions: Vec<_> = ["v5.1", known, "v6.3"].iter().map(|version| json!({"version": version})).collect();
            return Some(Reply::json(json!({"versions": versions})));
        }
        (call.header("version") != "6.10").then(|| Reply::refusal(400, "10000022"))
    };
    let stub = Stub::start(move |call| speaks(call, "v6.10")).await;
    let (service, session) = at(&stub).await;
    assert_eq!(read(&service, &session).await.unwrap_err().reason, Reason::NotFound, "understood, and answered");
    assert_eq!((stub.count("GET", "/versions"), stub.logins()), (1, 2), "asked once; the first login was refused");
    let asked = stub.calls(|call| call.is("GET", "/service/versions")).remove(0);
    assert!(!asked.header("Accept").contains("version"), "the question itself has no version");

    let strange = Stub::start(move |call| speaks(call, "v6.0")).await;
    let error = open(&service, opening(&strange)).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unsupported);
}

#[tokio::test]
async fn a_certificate_is_trusted_by_wish_alone() {
    let stub = Stub::with_tls(|_| None).await;
    open(&service(), opening(&stub)).await.unwrap();
    let unknown = OpenSessionRequest { ca_bundle: String::new(), ..opening(&stub) };
    let error = open(&service(), unknown.clone()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    assert!(error.message.to_lowercase().contains("certificate"), "{error}");
    let insecure = OpenSessionRequest { insecure_skip_tls_verify: true, ..unknown };
    open(&service(), insecure).await.unwrap();
    let broken = OpenSessionRequest {
        ca_bundle: "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----".into(),
        ..opening(&stub)
    };
    assert!(open(&service(), broken).await.is_err());
}

/// A site that repeats what it was sent, in its refusals.
#[tokio::test]
async fn no_error_repeats_a_secret() {
    let echo = |call: &Call| {
        let sent: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        Reply::Says(400, Vec::new(), json!({"errorCode": "10000001", "errorDes": sent.join(" ")}).to_string())
    };
    let stub = Stub::start(move |call| is_login(call).then(|| echo(call))).await;
    let error = open(&service(), opening(&stub)).await.unwrap_err();
    assert!(error.message.contains("capi") && !error.message.contains(PASSWORD), "{error}");

    let stub = Stub::start(move |call| call.path.contains("/vms/").then(|| echo(call))).await;
    let (service, session) = at(&stub).await;
    for error in [read(&service, &session).await.unwrap_err(), write(&service, &session).await.unwrap_err()] {
        assert!(error.message.contains("x-auth-token") && !error.message.contains("token-1"), "{error}");
    }
}
