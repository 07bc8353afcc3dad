//! The second step of an upload: the listener of the physical hosts, which take the bytes.

use std::{path::Path as FilePath, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::{Body, to_bytes},
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::put,
};
use futures::StreamExt;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::gate;
use crate::{
    engine::Engine,
    faults::Fault,
    site::{VrmError, files::Ticket},
};

/// Largest body that comes as a form and is therefore held in memory.
const LARGEST_FORM: usize = 128 << 20;

/// The upload API of the hosts.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/fileupload/{ticket}", put(receive).post(receive))
        .with_state(engine.clone())
        .layer(axum::middleware::from_fn_with_state((engine, "host"), gate::gate))
}

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

/// Takes a file. The ticket's token comes as `X-Auth-Token`, as bearer token or in the query.
async fn receive(
    State(engine): State<Arc<Engine>>,
    Path(path): Path<String>,
    Query(query): Query<TokenQuery>,
    fault: Option<Extension<Fault>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || text("Authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token = text("X-Auth-Token").or_else(bearer).or(query.token.as_deref()).unwrap_or_default();
    let Some(ticket) = engine.with(|site, now| site.ticket(now, &path, token)) else {
        return refuse(StatusCode::FORBIDDEN, "the ticket is unknown, used or expired, or its token is wrong");
    };
    let collected = engine.upload_path(&ticket.path);
    let boundary = text("Content-Type").and_then(boundary);
    let received = match boundary {
        Some(boundary) => collect_form(&collected, body, &boundary).await,
        None => collect(&collected, body, ticket.size).await,
    };
    let size = match received {
        Ok(size) => size,
        Err(why) => {
            let _ = tokio::fs::remove_file(&collected).await;
            return refuse(StatusCode::BAD_REQUEST, &why);
        }
    };
    if size != ticket.size {
        let _ = tokio::fs::remove_file(&collected).await;
        return refuse(StatusCode::BAD_REQUEST, &format!("{size} bytes received, {} announced", ticket.size));
    }
    let kept = match fault {
        Some(Extension(Fault::Truncate { bytes })) => bytes.min(size),
        _ => size,
    };
    match commit(&engine, &Ticket { size: kept, ..ticket }, &collected) {
        Ok(id) => Json(json!({"fileId": id, "size": kept})).into_response(),
        Err(error) => error.into_response(),
    }
}

/// The file exists from here on: bytes first, then the site's record of them.
fn commit(engine: &Engine, ticket: &Ticket, collected: &FilePath) -> Result<u64, VrmError> {
    engine.with(|site, now| {
        let id = site.uploaded(now, ticket)?;
        let moved = std::fs::File::options()
            .write(true)
            .open(collected)
            .and_then(|file| file.set_len(ticket.size))
            .and_then(|()| std::fs::rename(collected, engine.file_path(id)));
        if let Err(error) = moved {
            site.files.remove(&id);
            return Err(crate::site::codes::INTERNAL.because(error.to_string()));
        }
        Ok(id)
    })
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain")], why.to_owned()).into_response()
}

/// Streams a body into a file; more than announced ends it.
async fn collect(path: &FilePath, body: Body, announced: u64) -> Result<u64, String> {
    let mut file = tokio::fs::File::create(path).await.map_err(|error| error.to_string())?;
    let mut chunks = body.into_data_stream();
    let mut size = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| error.to_string())?;
        size += chunk.len() as u64;
        if size > announced {
            return Err(format!("more than the {announced} bytes announced"));
        }
        file.write_all(&chunk).await.map_err(|error| error.to_string())?;
    }
    file.flush().await.map_err(|error| error.to_string())?;
    Ok(size)
}

/// Boundary of a `multipart/form-data` body.
fn boundary(content_type: &str) -> Option<String> {
    let rest = content_type.strip_prefix("multipart/form-data")?;
    let value = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned())
}

/// Takes the first part with a file name out of a form.
async fn collect_form(path: &FilePath, body: Body, boundary: &str) -> Result<u64, String> {
    let bytes = to_bytes(body, LARGEST_FORM).await.map_err(|error| error.to_string())?;
    let content = form_file(&bytes, boundary).ok_or("the form has no part with a file name")?;
    tokio::fs::write(path, content).await.map_err(|error| error.to_string())?;
    Ok(content.len() as u64)
}

fn form_file<'a>(bytes: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let find = |text: &[u8], part: &[u8]| text.windows(part.len()).position(|window| window == part);
    let delimiter = format!("--{boundary}");
    let mut rest = &bytes[find(bytes, delimiter.as_bytes())? + delimiter.len()..];
    loop {
        let part_end = find(rest, format!("\r\n{delimiter}").as_bytes())?;
        let part = &rest[..part_end];
        let head_end = find(part, b"\r\n\r\n")?;
        if String::from_utf8_lossy(&part[..head_end]).to_ascii_lowercase().contains("filename=") {
            return Some(&part[head_end + 4..]);
        }
        rest = &rest[part_end + 2 + delimiter.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_form_is_found_behind_other_fields() {
        let form = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; \
                    name=\"f\"; filename=\"x.iso\"\r\nContent-Type: application/octet-stream\r\n\r\n\x01\r\n\x02\r\n--b--\r\n";
        assert_eq!(form_file(form.as_bytes(), "b"), Some(&b"\x01\r\n\x02"[..]));
        assert_eq!(form_file(b"--b--", "b"), None);
        assert_eq!(boundary("multipart/form-data; boundary=\"b\"").as_deref(), Some("b"));
    }
}
