//! The webhook server: admission and conversion over TLS, on every replica.

mod admission;
mod conversion;
mod managed;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, MatchedPath, Request as HttpRequest},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use serde_json::Value;
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

pub use admission::{FieldError, Operation, Request};
pub(crate) use managed::{Managed, Place};

use crate::metrics::{Metrics, WebhookLabels};

/// Limit of one answer; the API server gives up after ten seconds.
const ANSWER: Duration = Duration::from_secs(8);

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
        Self { router: self.router.route(path, handler(ADMISSION_LIMIT, move |body| admission::mutate(body, default))) }
    }

    /// Serves validation: `validate` names what is wrong, field by field; its `Ok` are warnings to the user.
    #[must_use]
    pub fn validate(
        self,
        path: &str,
        validate: impl Fn(&Request) -> Result<Vec<String>, Vec<FieldError>> + Clone + Send + Sync + 'static,
    ) -> Self {
        let validated = handler(ADMISSION_LIMIT, move |body| admission::validate(body, &validate));
        Self { router: self.router.route(path, validated) }
    }

    /// Serves conversion: `convert` turns one object into the desired API version.
    #[must_use]
    pub fn convert(self, path: &str, convert: fn(Value, &str) -> Result<Value, String>) -> Self {
        Self {
            router: self.router.route(path, handler(CONVERSION_LIMIT, move |body| conversion::convert(body, convert))),
        }
    }

    /// The routes, each answer limited in time, counted, and an answer even where its handler panics.
    pub(crate) fn router(&self, metrics: Arc<Metrics>) -> Router {
        let count = from_fn(move |request: HttpRequest, next: Next| count(Arc::clone(&metrics), request, next));
        self.router
            .clone()
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER))
            .layer(CatchPanicLayer::new())
            .layer(count)
    }

    /// Whether there is anything to serve.
    pub(crate) fn is_empty(&self) -> bool {
        !self.router.has_routes()
    }
}

/// Judging is plain computing, for a list of large objects a good while of it: it goes off the workers.
fn handler(limit: usize, judge: impl Fn(&[u8]) -> Response + Clone + Send + Sync + 'static) -> MethodRouter {
    let answer = move |body: Bytes| async move {
        match tokio::task::spawn_blocking(move || judge(&body)).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "A webhook panicked.");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    };
    post(answer).layer(DefaultBodyLimit::max(limit))
}

async fn count(metrics: Arc<Metrics>, request: HttpRequest, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| Arc::from(path.as_str()));
    let answer = next.run(request).await;
    if let Some(webhook) = path {
        metrics.webhooks.get_or_create(&WebhookLabels { webhook, code: answer.status().as_u16() }).inc();
    }
    answer
}
