//! A small client of API servers, over real TLS from inside a machine. Errors are worded as Go's, which people search for.

use std::{fmt, sync::Arc, time::Duration};

use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::{
    host::Host,
    kubeconfig::{Identity, Kubeconfig},
};
use crate::{fabric::load_balancer::AnyCertificate, guest::memory::kubeadm::pki};

/// One request, from dialling to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: a list of all nodes of a large cluster.
const LARGEST: usize = 16 << 20;

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// No answer at all.
    Unreachable(String),
    /// The server's refusal.
    Status {
        /// HTTP status.
        code: u16,
        /// `Status.reason`.
        reason: String,
        /// `Status.message`.
        message: String,
    },
}

impl ClientError {
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// Whether trying again is of use.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status { code, .. } => *code >= 500 || *code == 429,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => formatter.write_str(why),
            Self::Status { message, .. } => formatter.write_str(message),
        }
    }
}

/// See the [module](self).
pub struct Client<'a> {
    host: &'a dyn Host,
    server: String,
    name: String,
    port: u16,
    token: Option<String>,
    tls: Arc<ClientConfig>,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl<'a> Client<'a> {
    /// A client by a kubeconfig. With `unverified`, any server is believed.
    pub fn new(host: &'a dyn Host, kubeconfig: &Kubeconfig, unverified: bool) -> Result<Self, String> {
        let address = kubeconfig.server.strip_prefix("https://").unwrap_or(&kubeconfig.server);
        let (name, port) = super::config::host_port(address.trim_end_matches('/'))
            .ok_or_else(|| format!("the server {:?} is no address", kubeconfig.server))?;
        let token = match &kubeconfig.identity {
            Identity::Token(token) => Some(token.clone()),
            _ => None,
        };
        Ok(Self {
            host,
            server: kubeconfig.server.trim_end_matches('/').to_owned(),
            name: name.to_owned(),
            port: port.unwrap_or(443),
            token,
            tls: Arc::new(tls(host.now(), kubeconfig, unverified)?),
            open: None,
        })
    }

    /// `GET`.
    pub async fn get(&mut self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, "application/json", None).await
    }

    /// Creates an object, or replaces the one of its name. `path` is the collection's.
    pub async fn create_or_update(&mut self, path: &str, object: &Value) -> Result<(), ClientError> {
        match self.send(Method::POST, path, "application/json", Some(object)).await {
            Err(ClientError::Status { code: 409, .. }) => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = self.get(&path).await?["metadata"]["resourceVersion"].clone();
                self.send(Method::PUT, &path, "application/json", Some(&object)).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// A strategic merge patch.
    pub async fn patch(&mut self, path: &str, patch: &Value) -> Result<Value, ClientError> {
        self.send(Method::PATCH, path, "application/strategic-merge-patch+json", Some(patch)).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.server);
        let verb = match method {
            Method::GET => "Get",
            Method::POST => "Post",
            Method::PUT => "Put",
            _ => "Patch",
        };
        let unreachable = |why: String| ClientError::Unreachable(format!("{verb} {url:?}: {why}"));
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(&method, path, content_type, body));
        match answer.await {
            Err(_) => {
                self.open = None;
                Err(unreachable("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()))
            }
            Ok(Err(why)) => {
                self.open = None;
                Err(unreachable(why))
            }
            Ok(Ok((200..300, body))) => Ok(body),
            Ok(Ok((code, body))) => {
                let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
                let message = match text("message") {
                    message if message.is_empty() => format!("the server responded with the status code {code}"),
                    message => message,
                };
                Err(ClientError::Status { code, reason: text("reason"), message })
            }
        }
    }

    async fn exchange(
        &mut self,
        method: &Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        if self.open.as_ref().is_none_or(SendRequest::is_closed) {
            self.open = Some(self.dial().await?);
        }
        let Some(sender) = &mut self.open else { return Err("EOF".into()) };
        let content = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.name, self.port))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "kubeadm/memory");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(content)).map_err(|error| error.to_string())?;
        sender.ready().await.map_err(|_| "EOF".to_owned())?;
        let answer = sender.send_request(request).await.map_err(|_| "EOF".to_owned())?;
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
        Ok((code, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = self.host.connect(&self.name, self.port).await?;
        let name = ServerName::try_from(self.name.clone()).map_err(|error| error.to_string())?;
        let stream =
            TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| tls_error(&error))?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends with the sender.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// A machine's clock, as TLS asks for it.
#[derive(Debug)]
struct MachineTime(UnixTime);

impl TimeProvider for MachineTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

fn tls(now: Timestamp, kubeconfig: &Kubeconfig, unverified: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let time = Arc::new(MachineTime(UnixTime::since_unix_epoch(Duration::from_secs(seconds))));
    let builder = ClientConfig::builder_with_details(provider.clone(), time)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if unverified {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in pki::certificates_of(&kubeconfig.authority).unwrap_or_default() {
            roots.add(certificate.der.into()).map_err(|error| format!("x509: {error}"))?;
        }
        if roots.is_empty() {
            return Err("x509: certificate signed by unknown authority: the kubeconfig trusts none".into());
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        builder.with_webpki_verifier(verifier)
    };
    match &kubeconfig.identity {
        Identity::Certificate { certificate, key } => {
            let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
            let chain =
                chain.map_err(|error| format!("tls: failed to find any PEM data in certificate input: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| "tls: failed to find any PEM data in key input".to_owned())?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("tls: {error}"))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Go's words for a handshake that failed.
fn tls_error(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let x509 = |why: String| format!("tls: failed to verify certificate: x509: {why}");
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer => x509("certificate signed by unknown authority".into()),
            CertificateError::BadSignature => x509(
                "certificate signed by unknown authority (possibly because of \"crypto/rsa: verification error\")"
                    .into(),
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                x509("certificate has expired or is not yet valid: current time is after its end".into())
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                x509("certificate has expired or is not yet valid: current time is before its begin".into())
            }
            CertificateError::NotValidForName => x509("certificate is not valid for the name asked for".into()),
            CertificateError::NotValidForNameContext { expected, presented } => {
                let shown = expected.to_str();
                x509(format!("certificate is valid for {}, not {shown}", presented.join(", ")))
            }
            other => x509(other.to_string()),
        },
        Some(other) => format!("remote error: tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => error.to_string(),
    }
}
