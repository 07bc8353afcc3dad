//! Who may read the diagnostics: those to whom the management cluster grants the path, as for every component.
//!
//! The caller's token is reviewed, then whether its user may `get` (or `put`) the path. Answers are remembered for a
//! short time, by a digest of the token.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use http::{HeaderMap, Method, StatusCode, header};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use crate::{clock::Clock, remembered::Remembered};

/// Limit of one review.
const REVIEW: Duration = Duration::from_secs(5);
/// How long a grant and a refusal are remembered.
const KEPT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// Answers remembered, at most: anyone may ask.
const ANSWERS: usize = 1024;

/// Lets callers in, or not.
pub(crate) struct Gate {
    client: Client,
    clock: Arc<dyn Clock>,
    /// Until when an answer holds, and what it was.
    known: Remembered<Vec<u8>, (Duration, Result<(), StatusCode>)>,
}

impl Gate {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, known: Remembered::new(ANSWERS) }
    }

    /// Whether a request may be answered; otherwise with which status it is refused.
    pub(crate) async fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), StatusCode> {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.map(str::trim).filter(|token| !token.is_empty()).ok_or(StatusCode::UNAUTHORIZED)?;
        let mut asked = digest::Context::new(&digest::SHA256);
        for part in [method.as_str(), path, token] {
            asked.update(&(part.len() as u64).to_be_bytes());
            asked.update(part.as_bytes());
        }
        let asked = asked.finish().as_ref().to_vec();
        let now = self.clock.monotonic();
        if let Some((until, verdict)) = self.known.get(&asked)
            && now < until
        {
            return verdict;
        }
        // A review that failed is no verdict: it is not remembered.
        let verdict = match tokio::time::timeout(REVIEW * 2, self.review(method, path, token)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => {
                tracing::warn!(%error, "Cannot review a caller of the diagnostics.");
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            Err(_) => return Err(StatusCode::SERVICE_UNAVAILABLE),
        };
        let kept = if verdict.is_ok() { KEPT.0 } else { KEPT.1 };
        self.known.insert(asked, (now + kept, verdict));
        verdict
    }

    async fn review(&self, method: &Method, path: &str, token: &str) -> Result<Result<(), StatusCode>, kube::Error> {
        let Some(user) = self.user(token).await? else { return Ok(Err(StatusCode::UNAUTHORIZED)) };
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some(path.to_owned()),
                verb: Some(method.as_str().to_ascii_lowercase()),
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(if allowed { Ok(()) } else { Err(StatusCode::FORBIDDEN) })
    }

    async fn user(&self, token: &str) -> Result<Option<UserInfo>, kube::Error> {
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let status = answer.status.unwrap_or_default();
        Ok(status.user.filter(|_| status.authenticated == Some(true)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::SystemClock;

    /// An API server that knows the tokens `reader` and `stranger`, of which it lets the first read metrics.
    fn gate() -> (Gate, Arc<AtomicUsize>) {
        let reviews = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reviews);
        let service = tower::service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await?;
                let mut review: Value = serde_json::from_slice(&body)?;
                let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
                review["status"] = if path.ends_with("/tokenreviews") {
                    let user = json!({"username": token, "groups": ["g"]});
                    json!({"authenticated": token == "reader" || token == "stranger", "user": user})
                } else {
                    let spec = &review["spec"];
                    let read = json!({"path": "/metrics", "verb": "get"});
                    json!({"allowed": spec["user"] == "reader" && spec["nonResourceAttributes"] == read})
                };
                Ok::<_, tower::BoxError>(Response::new(Body::from(review.to_string().into_bytes())))
            }
        });
        (Gate::new(Client::new(service, "default"), Arc::new(SystemClock)), reviews)
    }

    async fn asked(gate: &Gate, path: &str, token: Option<&str>) -> Result<(), StatusCode> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        gate.admit(&Method::GET, path, &headers).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_whom_the_cluster_lets_is_let_in() {
        let (gate, _) = gate();
        assert_eq!(asked(&gate, "/metrics", None).await, Err(StatusCode::UNAUTHORIZED));
        assert_eq!(asked(&gate, "/metrics", Some("forged")).await, Err(StatusCode::UNAUTHORIZED));
        assert_eq!(asked(&gate, "/metrics", Some("stranger")).await, Err(StatusCode::FORBIDDEN));
        assert_eq!(asked(&gate, "/metrics", Some("reader")).await, Ok(()));
        assert_eq!(asked(&gate, "/debug/state", Some("reader")).await, Err(StatusCode::FORBIDDEN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_is_remembered_for_a_minute() {
        let (gate, reviews) = gate();
        for _ in 0..5 {
            asked(&gate, "/metrics", Some("reader")).await.unwrap();
        }
        assert_eq!(reviews.load(Ordering::SeqCst), 2);
        tokio::time::sleep(KEPT.0).await;
        asked(&gate, "/metrics", Some("reader")).await.unwrap();
        assert_eq!(reviews.load(Ordering::SeqCst), 4);
    }
}
