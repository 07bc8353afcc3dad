//! Versions, login and logout, and the site itself.

use axum::{
    Extension, Json, Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Answer, Caller, gate::auth_name::LoginName};
use crate::site::{
    Entity, Result, codes,
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
    // Two spellings are in use; the older one is a misprint that stayed.
    let algorithm = header(headers, "X-ENCRYPT-ALGORITHM").or_else(|| header(headers, "X-ENCRIPT-ALGORITHM"));
    let kind = match header(headers, "X-Auth-UserType") {
        None | Some("2") => UserType::Interconnect,
        Some("0") => UserType::Local,
        Some("1") => UserType::Domain,
        Some(other) => return Err(codes::BAD_PARAMETER.because(format!("X-Auth-UserType {other:?}"))),
    };
    let login = Login { user, key, plain: algorithm == Some("1"), kind };
    let token = hex::encode(rand::random::<[u8; 24]>());
    caller.engine.with(|site, now| site.login(now, &login, sha256, token))
}

fn sha256(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn logout(Extension(caller): Extension<Caller>, headers: HeaderMap) -> Answer {
    let token = header(&headers, "X-Auth-Token").unwrap_or_default();
    caller.engine.with(|site, _| site.sessions.remove(token)).ok_or(codes::TOKEN)?;
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
    caller.read(|_| Ok(Json(json!({"version": "8.8.1"}))))
}
