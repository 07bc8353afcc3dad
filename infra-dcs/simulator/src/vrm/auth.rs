//! Versions, login and logout, and the site itself.

use axum::{
    Extension, Json, Router,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Answer, Caller, Path, gate::auth_name::LoginName};
use crate::site::{
    Entity, Result, codes,
    policy::Release,
    sessions::{Granted, Login, UserType},
};

pub(super) fn routes() -> Router {
    Router::new()
        .route("/service/versions", get(versions))
        .route("/service/session", post(login).delete(logout))
        .route("/service/sites", get(sites))
        .route("/service/sites/{site}", get(site))
        .route("/service/sites/{site}/siteversion", get(site_version))
}

async fn versions() -> Json<Value> {
    Json(json!({"versions": [{"version": "v8.1", "loginUri": "/service/session"}]}))
}

async fn login(Extension(caller): Extension<Caller>, headers: HeaderMap) -> Response {
    let name = header(&headers, "X-Auth-User").unwrap_or_default().to_owned();
    let mut response = match try_login(&caller, &headers, &name) {
        Ok(granted) => {
            let mut body = json!({
                "validity": granted.validity, "rightType": "1", "privilegeIds": [], "userId": "1004", "userName": name,
                "roleList": ["administrator"],
            });
            if let Some(warning) = granted.warning {
                body["errorCode"] = warning.code.to_string().into();
                body["errorDes"] = warning.to_string().into();
            }
            ([("X-Auth-Token", granted.token)], Json(body)).into_response()
        }
        Err(error) if error.code.http_status() == 200 => {
            let body = json!({"errorCode": error.code.to_string(), "errorDes": error.to_string(), "userId": "1004"});
            let mut response = Json(body).into_response();
            response.extensions_mut().insert(error.code);
            response
        }
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(LoginName(name));
    response
}

fn try_login(caller: &Caller, headers: &HeaderMap, user: &str) -> Result<Granted> {
    let key = header(headers, "X-Auth-Key").unwrap_or_default();
    if user.is_empty() || key.is_empty() {
        return Err(codes::BAD_PARAMETER.because("the headers X-Auth-User and X-Auth-Key are required"));
    }
    let kind = match header(headers, "X-Auth-UserType") {
        None | Some("2") => UserType::Interconnect,
        Some("0") => UserType::Local,
        Some("1") => UserType::Domain,
        Some(other) => return Err(codes::BAD_PARAMETER.because(format!("X-Auth-UserType {other:?}"))),
    };
    match header(headers, "X-Auth-AuthType") {
        None | Some("0") => {}
        // Not a domain user, but a site of a cascade that another site authenticates.
        Some("1") => return Err(codes::LOGIN_FAILED.because("this site is in no cascade")),
        Some(other) => return Err(codes::BAD_PARAMETER.because(format!("X-Auth-AuthType {other:?}"))),
    }
    let token = hex::encode(rand::random::<[u8; 24]>());
    caller.engine.with(|site, now| {
        let plain = is_plain(headers, site.policy.release)?;
        site.login(now, &Login { user, key, plain, kind }, sha256, token)
    })
}

/// Whether the key is the password itself. Each release knows its own spelling of the header only; the older one is a
/// misprint.
fn is_plain(headers: &HeaderMap, release: Release) -> Result<bool> {
    let name = match release {
        Release::R6 => "X-ENCRIPT-ALGORITHM",
        Release::Fc881 => "X-ENCRYPT-ALGORITHM",
    };
    match header(headers, name) {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(codes::BAD_PARAMETER.because(format!("{name} {other:?}"))),
    }
}

fn sha256(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn logout(Extension(caller): Extension<Caller>, headers: HeaderMap) -> Answer {
    let token = header(&headers, "X-Auth-Token").unwrap_or_default();
    caller.engine.with(|site, now| site.logout(now, token))?;
    Ok(Json(json!({})))
}

fn site_view(site: &crate::site::Site) -> Value {
    json!({
        "urn": site.urn(Entity::Site), "uri": Entity::Site.uri(&site.id), "name": site.name, "ip": site.ip,
        "isDC": false, "isSelf": true, "status": "normal", "mgntNetworkType": "ipv4",
    })
}

async fn sites(caller: Caller) -> Answer {
    caller.read(|site| Ok(Json(json!({"sites": [site_view(site)]}))))
}

async fn site(caller: Caller, Path(_): Path<String>) -> Answer {
    caller.read(|site| Ok(Json(site_view(site))))
}

async fn site_version(caller: Caller) -> Answer {
    caller.read(|site| {
        let version = match site.policy.release {
            Release::R6 => "6.5.1",
            Release::Fc881 => "8.8.1",
        };
        Ok(Json(json!({"version": version})))
    })
}
