//! Paths and queries.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};

use serde_json::json;

use super::verb;
use crate::{
    errors::{ApiError, FieldError, Qualified},
    server::{FieldChecks, FieldValidation, ListParams, Target, WriteParams},
};

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To a resource.
    Resource {
        /// What is done to it.
        verb: &'static str,
        /// Which one.
        target: Target,
    },
    /// To a document about the server, by the segments of its path.
    Document(Vec<String>),
}

/// The query of a request.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub fn parse(request: &Request<Bytes>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        match self.text(name) {
            "" => None,
            text => Some(matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }

    fn is_watch(&self) -> bool {
        self.flag("watch").unwrap_or_default()
    }

    /// How long a watch lasts.
    pub fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        Ok(self.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }

    /// Who writes: the named manager, or what the client calls itself.
    pub fn manager(&self, request: &Request<Bytes>) -> String {
        let named = self.text("fieldManager");
        let is_apply = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.starts_with("application/apply-patch"));
        if !named.is_empty() || is_apply {
            return named.to_owned();
        }
        let agent = request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        agent.unwrap_or_default().split('/').next().unwrap_or_default().to_owned()
    }

    /// Parameters of a write by a verb, in whose body some fields stand twice.
    pub fn write_params(&self, verb: &str, manager: &str, duplicates: Vec<String>) -> Result<WriteParams, ApiError> {
        let options = match verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            _ => "PatchOptions",
        };
        let validation = FieldValidation::parse(self.text("fieldValidation"), options)?;
        Ok(WriteParams {
            manager: manager.to_owned(),
            is_dry_run: self.is_dry_run(options)?,
            force: self.flag("force"),
            fields: Some(FieldChecks::new(validation, duplicates)),
            veto: None,
        })
    }

    /// Whether nothing is to be stored; `options` is the kind of which the parameter is a field.
    pub fn is_dry_run(&self, options: &str) -> Result<bool, ApiError> {
        dry_run(&[self.text("dryRun").to_owned()], options)
    }

    pub fn list_params(&self, is_metadata_only: bool) -> Result<ListParams, ApiError> {
        let text = |name: &str| self.text(name).to_owned();
        Ok(ListParams {
            labels: text("labelSelector"),
            fields: text("fieldSelector"),
            limit: self.number("limit")?.unwrap_or_default(),
            continue_token: text("continue"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            allow_bookmarks: self.flag("allowWatchBookmarks").unwrap_or_default(),
            send_initial_events: self.flag("sendInitialEvents"),
            is_metadata_only,
        })
    }

    /// A number of the options of a deletion.
    pub fn grace_seconds(&self) -> Result<Option<i64>, ApiError> {
        self.number("gracePeriodSeconds")
    }
}

/// Whether stages of a dry run are all stages, or none.
pub(super) fn dry_run(stages: &[String], options: &str) -> Result<bool, ApiError> {
    let stages: Vec<&String> = stages.iter().filter(|stage| !stage.is_empty()).collect();
    if stages.iter().all(|stage| *stage == "All") {
        return Ok(!stages.is_empty());
    }
    let error = FieldError::not_supported("dryRun", &json!(stages), &["All".to_owned()]);
    Err(ApiError::invalid(Qualified { group: "meta.k8s.io", resource: options }, "", &[error]))
}

/// Finds out what a request is about.
pub(super) fn route(method: &Method, path: &str, query: &Query) -> Result<Route, ApiError> {
    let segments: Vec<String> = path.split('/').filter(|segment| !segment.is_empty()).map(percent_decoded).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ if method == Method::GET => return Ok(Route::Document(segments)),
        _ => return Err(ApiError::method_not_allowed()),
    };
    let mut target = Target { group: group.into(), version: version.into(), ..Target::default() };
    let rest = match rest {
        ["namespaces", name, subresource @ ("status" | "finalize")] => &["namespaces", *name, *subresource],
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            target.namespace = (*namespace).into();
            rest
        }
        rest => rest,
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(ApiError::no_such_path()),
    };
    target.plural = plural.into();
    target.name = name.into();
    target.subresource = subresource.into();
    let verb = verb(method, name.is_empty(), !subresource.is_empty(), query.is_watch())
        .ok_or_else(ApiError::method_not_allowed)?;
    Ok(Route::Resource { verb, target })
}

/// Names of Kubernetes need no escapes, but clients may send some all the same.
fn percent_decoded(segment: &str) -> String {
    if !segment.contains(['%', '+']) {
        return segment.to_owned();
    }
    // A form's only other rule is that `+` is a space; a literal one is kept from it.
    let segment = segment.replace('+', "%2B");
    url::form_urlencoded::parse(segment.as_bytes()).map(|(key, _)| key.into_owned()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: &Method, path: &str) -> Option<(&'static str, String)> {
        match route(method, path, &Query::default()) {
            Ok(Route::Resource { verb, target }) => {
                let Target { group, plural, namespace, name, subresource, .. } = target;
                Some((verb, [group, namespace, plural, name, subresource].join("|")))
            }
            _ => None,
        }
    }

    #[test]
    fn paths() {
        let get = |path| routed(&Method::GET, path);
        assert_eq!(get("/api/v1/pods"), Some(("list", "||pods||".into())));
        assert_eq!(get("/api/v1/namespaces/n/pods/p/status"), Some(("get", "|n|pods|p|status".into())));
        assert_eq!(get("/api/v1/namespaces/n"), Some(("get", "||namespaces|n|".into())));
        assert_eq!(get("/api/v1/namespaces/n/status"), Some(("get", "||namespaces|n|status".into())));
        assert_eq!(get("/apis/g.x/v1/namespaces/n/ws"), Some(("list", "g.x|n|ws||".into())));
        assert_eq!(get("/apis/rbac/v1/roles/system%3Anode"), Some(("get", "rbac||roles|system:node|".into())));
        assert_eq!(routed(&Method::DELETE, "/api/v1/nodes"), Some(("deletecollection", "||nodes||".into())));
        assert_eq!(routed(&Method::PUT, "/api/v1/nodes"), None);
        assert_eq!(routed(&Method::POST, "/api/v1/nodes/n"), None);
        let evicted = routed(&Method::POST, "/api/v1/namespaces/n/pods/p/eviction");
        assert_eq!(evicted, Some(("create", "|n|pods|p|eviction".into())));
    }
}
