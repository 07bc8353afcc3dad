//! A site whose every answer is scripted: HTTP with or without TLS, in the test's own process.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub query: HashMap<String, String>,
    pub headers: HeaderMap,
    pub body: Value,
    pub size: usize,
}

impl Call {
    /// Method and path begin and end like this.
    pub fn is(&self, method: &str, end: &str) -> bool {
        self.method == method && self.path.ends_with(end)
    }

    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    pub fn query(&self, name: &str) -> String {
        self.query.get(name).cloned().unwrap_or_default()
    }

    /// One page of a list, as VRM gives it.
    pub fn page(&self, name: &str, all: &[Value]) -> Reply {
        let (offset, limit) = (self.query("offset").parse().unwrap_or(0), self.query("limit").parse().unwrap_or(100));
        let page: Vec<_> = all.iter().skip(offset).take(limit).cloned().collect();
        Reply::json(json!({"total": all.len(), name: page}))
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status, headers and a body.
    Says(u16, Vec<(&'static str, String)>, String),
    /// The connection ends without an answer.
    Drop,
    /// An answer that takes its time.
    Late(Duration, Box<Reply>),
}

impl Reply {
    pub fn json(value: Value) -> Self {
        Self::Says(200, Vec::new(), value.to_string())
    }

    pub fn refusal(status: u16, code: &str) -> Self {
        Self::Says(status, Vec::new(), json!({"errorCode": code, "errorDes": "the site's words"}).to_string())
    }

    pub fn html(status: u16) -> Self {
        Self::Says(status, Vec::new(), "<html>a gateway's page</html>".to_owned())
    }

    pub fn task(number: u32) -> Self {
        let uri = format!("/service/sites/S/tasks/{number}");
        Self::json(json!({"urn": "urn:sites:S:vms:i-1", "taskUri": uri}))
    }

    pub fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Says(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Says(status, headers, body)
            }
            other => other,
        }
    }
}

#[derive(Debug)]
struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("dropped")
    }
}

impl std::error::Error for Dropped {}

type Script = Arc<dyn Fn(&Call) -> Option<Reply> + Send + Sync>;

/// The site. What its script does not answer, it answers as an empty, healthy site does.
pub struct Stub {
    pub url: String,
    /// Its certificate, in PEM; empty without TLS.
    pub certificate: String,
    calls: Arc<Mutex<Vec<Call>>>,
    listening: Option<JoinHandle<()>>,
}

impl Stub {
    /// From now on nobody listens.
    pub async fn close(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    pub async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::serve(Arc::new(script), None).await
    }

    pub async fn with_tls(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let tls = (TlsAcceptor::from(Arc::new(config)), certificate.pem());
        Self::serve(Arc::new(script), Some(tls)).await
    }

    async fn serve(script: Script, tls: Option<(TlsAcceptor, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut stub = Self {
            url: format!("{scheme}://localhost:{port}"),
            certificate: tls.as_ref().map(|(_, pem)| pem.clone()).unwrap_or_default(),
            calls: Arc::clone(&calls),
            listening: None,
        };
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, calls) = (Arc::clone(&script), Arc::clone(&calls));
                match &tls {
                    None => drop(tokio::spawn(connection(stream, script, calls))),
                    Some((acceptor, _)) => {
                        let accepted = acceptor.accept(stream);
                        tokio::spawn(async move {
                            if let Ok(stream) = accepted.await {
                                connection(stream, script, calls).await;
                            }
                        });
                    }
                }
            }
        });
        stub.listening = Some(listening);
        stub
    }

    /// Calls so far that a test is about.
    pub fn calls(&self, wanted: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.calls.lock().iter().filter(|call| wanted(call)).cloned().collect()
    }

    pub fn count(&self, method: &str, end: &str) -> usize {
        self.calls(|call| call.is(method, end)).len()
    }

    pub fn logins(&self) -> usize {
        self.count("POST", "/service/session")
    }
}

async fn connection<S>(stream: S, script: Script, calls: Arc<Mutex<Vec<Call>>>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&calls)));
    // A connection for each call: what a test closes is closed.
    let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    script: Script,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    let pairs = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let call = Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: pairs.into_owned().collect(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        size: body.len(),
    };
    calls.lock().push(call.clone());
    let mut reply = script(&call).unwrap_or_else(|| healthy(&call));
    loop {
        match reply {
            Reply::Drop => return Err(Dropped),
            Reply::Late(pause, later) => {
                tokio::time::sleep(pause).await;
                reply = *later;
            }
            Reply::Says(status, headers, body) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                return Ok(response.body(Full::new(Bytes::from(body))).unwrap());
            }
        }
    }
}

fn healthy(call: &Call) -> Reply {
    let named = |urn: &str, name: &str| json!({"urn": urn, "name": name, "status": "normal"});
    match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/service/session") => Reply::json(json!({"validity": 600_000})).with("X-Auth-Token", "token-1"),
        ("GET", "/service/sites") => Reply::json(json!({"sites": [named("urn:sites:S", "site")]})),
        ("GET", "/service/sites/S") => Reply::json(named("urn:sites:S", "site")),
        ("GET", path) if path.ends_with("/siteversion") => Reply::json(json!({"version": "8.8.1"})),
        ("GET", path) if path.ends_with("/vms") => call.page("vms", &[]),
        ("GET", path) if path.ends_with("/tasks") => call.page("tasks", &[]),
        ("GET", path) if path.ends_with("/file") => call.page("files", &[]),
        _ => Reply::refusal(400, "10300001"),
    }
}
