//! The webhook server: admission and conversion over TLS, on every replica.

mod admission;
mod certificate;
mod conversion;
mod server;

use axum::{Router, extract::DefaultBodyLimit, routing::post};

pub use admission::{FieldError, Operation, Request};
pub(crate) use certificate::Certificate;
pub use certificate::CertificateError;
pub(crate) use server::serve;

use serde_json::Value;

/// Body limit of admission requests, in bytes.
const ADMISSION_LIMIT: usize = 8 << 20;
/// Body limit of conversion requests, in bytes: one review carries a whole list.
const CONVERSION_LIMIT: usize = 64 << 20;

/// The webhooks of a provider.
#[derive(Default)]
pub struct Webhooks {
    router: Router,
}

impl Webhooks {
    /// Serves defaulting: `default` changes the object where fields are to be filled in.
    #[must_use]
    pub fn mutate(self, path: &str, default: fn(&mut Value, &Request) -> Result<(), Vec<FieldError>>) -> Self {
        let handler = post(move |body: axum::body::Bytes| async move { admission::mutate(&body, default) });
        Self { router: self.router.route(path, handler.layer(DefaultBodyLimit::max(ADMISSION_LIMIT))) }
    }

    /// Serves validation: `validate` names what is wrong, field by field; its `Ok` are warnings to the user.
    #[must_use]
    pub fn validate(
        self,
        path: &str,
        validate: impl Fn(&Request) -> Result<Vec<String>, Vec<FieldError>> + Clone + Send + Sync + 'static,
    ) -> Self {
        let handler = post(move |body: axum::body::Bytes| async move { admission::validate(&body, validate) });
        Self { router: self.router.route(path, handler.layer(DefaultBodyLimit::max(ADMISSION_LIMIT))) }
    }

    /// Serves conversion: `convert` turns one object into the desired API version.
    #[must_use]
    pub fn convert(self, path: &str, convert: fn(Value, &str) -> Result<Value, String>) -> Self {
        let handler = post(move |body: axum::body::Bytes| async move { conversion::convert(&body, convert) });
        Self { router: self.router.route(path, handler.layer(DefaultBodyLimit::max(CONVERSION_LIMIT))) }
    }

    pub(crate) fn into_router(self) -> Router {
        self.router
    }

    /// Whether there is anything to serve.
    pub(crate) fn is_empty(&self) -> bool {
        !self.router.has_routes()
    }
}
