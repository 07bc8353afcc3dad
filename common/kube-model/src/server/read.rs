//! Get, list and watch.

use std::{collections::VecDeque, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Found, Server, State, Target};
use crate::{
    errors::{ApiError, FieldError, Qualified},
    faults::Call,
    go,
    registry::Resource,
    selectors::Selector,
    storage::key,
    stored::Stored,
    watch::{EventKind, Subscription, View, WatchStream, classify},
};

/// Kind of a list of metadata.
const METADATA_LIST: &str = "PartialObjectMetadataList";

/// Parameters of a list or a watch, as a query gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector.
    pub labels: String,
    /// Field selector.
    pub fields: String,
    /// Most items in one answer; 0 is no limit.
    pub limit: usize,
    /// Token of the answer before.
    pub continue_token: String,
    /// Resource version: empty for the latest, `0` for any.
    pub resource_version: String,
    /// `Exact`, `NotOlderThan` or empty.
    pub resource_version_match: String,
    /// A watch sends bookmarks.
    pub allow_bookmarks: bool,
    /// A watch begins with the present objects.
    pub send_initial_events: Option<bool>,
    /// Only the metadata.
    pub is_metadata_only: bool,
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    api_version: String,
    kind: String,
    /// Built-in kinds leave kind and version out of the items.
    has_bare_items: bool,
    /// Version at which it is true.
    pub resource_version: u64,
    /// Token of the next part, or empty.
    pub continue_token: String,
    /// How many items follow, where that is known.
    pub remaining: Option<usize>,
    /// The objects.
    pub items: Vec<Arc<Stored>>,
}

impl List {
    /// The fields of the objects, without who owns which.
    pub fn into_fields(self) -> Vec<Arc<Value>> {
        self.items.iter().map(|item| Arc::clone(item.fields())).collect()
    }

    /// The list as a client reads it.
    pub fn to_json(&self) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.resource_version.to_string()});
        // Lists of custom resources always have the field.
        if !self.continue_token.is_empty() || !self.has_bare_items && self.kind != METADATA_LIST {
            metadata["continue"] = json!(self.continue_token);
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        let head =
            format!(r#"{{"kind":"{}","apiVersion":"{}","metadata":{metadata},"items":["#, self.kind, self.api_version);
        let mut text = head.into_bytes();
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            if self.has_bare_items {
                item.write_bare(&mut text);
            } else {
                item.write(&mut text);
            }
        }
        text.extend_from_slice(b"]}");
        text.into()
    }
}

/// What a continue token holds (`apiserver/pkg/storage/continue.go`).
#[derive(Deserialize, Serialize)]
struct Token {
    v: String,
    /// Version of the list; -1 to go on at the present state.
    rv: i64,
    /// Key from which to go on.
    start: String,
}

impl Token {
    fn write(version: Option<u64>, start: &str) -> String {
        let rv = version.and_then(|version| i64::try_from(version).ok()).unwrap_or(-1);
        let token = Self { v: "meta.k8s.io/v1".into(), rv, start: start.into() };
        BASE64_URL_SAFE_NO_PAD.encode(json!(token).to_string())
    }

    fn read(text: &str) -> Result<Self, ApiError> {
        let refused =
            |why: String| ApiError::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|why| refused(format!(": {why}")))?;
        let token: Self =
            serde_json::from_slice(&bytes).map_err(|why| refused(format!(": {}", go::json_error(&why, &bytes))))?;
        match token {
            Self { ref v, .. } if v != "meta.k8s.io/v1" => {
                Err(refused(format!(": server does not recognize this encoded version {v}")))
            }
            Self { rv: 0, .. } => {
                Err(refused(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into()))
            }
            Self { ref start, .. } if start.is_empty() => {
                Err(refused(": encoded start key empty (version meta.k8s.io/v1)".into()))
            }
            token => Ok(token),
        }
    }
}

/// The state that a list shows.
enum At {
    Latest,
    Exactly(u64),
}

impl ListParams {
    /// The version that is asked for, or why that is none.
    fn version(&self) -> Result<Option<u64>, String> {
        let given = &self.resource_version;
        if given.is_empty() {
            return Ok(None);
        }
        given.parse().map(Some).map_err(|_| {
            format!("resourceVersion: Invalid value: {given:?}: strconv.ParseUint: parsing {given:?}: invalid syntax")
        })
    }

    fn check_list(&self) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        let matching = self.resource_version_match.as_str();
        let field = "resourceVersionMatch";
        if !matching.is_empty() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(field, why));
            }
            if !self.continue_token.is_empty() {
                errors
                    .push(FieldError::forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
            }
            if !["Exact", "NotOlderThan"].contains(&matching) {
                let allowed = ["Exact".into(), "NotOlderThan".into(), String::new()];
                errors.push(FieldError::not_supported(field, &json!(matching), &allowed));
            }
            if matching == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(field, why));
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        checked(&errors)
    }

    fn check_watch(&self) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        let matching = self.resource_version_match.as_str();
        let field = "resourceVersionMatch";
        if self.send_initial_events.is_some() && matching != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(field, why));
        }
        if !matching.is_empty() {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden(field, why));
            }
            if matching != "NotOlderThan" {
                errors.push(FieldError::not_supported(field, &json!(matching), &["NotOlderThan".into()]));
            }
        }
        checked(&errors)
    }

    fn view(&self, target: &Target) -> View {
        View { version: target.version.clone(), is_metadata_only: self.is_metadata_only }
    }
}

fn checked(errors: &[FieldError]) -> Result<(), ApiError> {
    let kind = Qualified { group: "meta.k8s.io", resource: "ListOptions" };
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid(kind, "", errors)) }
}

impl Server {
    /// An object, as the target's version shows it; who owns its fields is left out.
    pub fn get(&self, target: &Target, is_metadata_only: bool) -> Result<Arc<Value>, ApiError> {
        self.read(target, is_metadata_only).map(|object| Arc::clone(object.fields()))
    }

    /// An object, as the target's version shows it.
    pub(crate) fn read(&self, target: &Target, is_metadata_only: bool) -> Result<Arc<Stored>, ApiError> {
        let state = self.state.lock();
        let Found { id, resource } = state.find(target)?;
        let object = state.store.get(&(id, key(&target.namespace, &target.name)));
        let object = object.ok_or_else(|| ApiError::not_found(resource.qualified(), &target.name))?;
        View { version: target.version.clone(), is_metadata_only }.show(&resource, object)
    }

    /// The selected objects of a collection.
    pub fn list(&self, target: &Target, params: &ListParams) -> Result<List, ApiError> {
        let state = self.state.lock();
        let found = state.find(target)?;
        let selector = Selector::parse(&found.resource, &params.labels, &params.fields)?;
        params.check_list()?;
        state.list(&found, target, params, &selector)
    }

    /// Watches the selected objects of a collection. The call is handed to the faults with each event.
    pub fn watch(&self, call: Call, params: &ListParams) -> Result<WatchStream, ApiError> {
        let state = &mut *self.state.lock();
        let target = &call.target;
        let found = state.find(target)?;
        let selector = Selector::parse(&found.resource, &params.labels, &params.fields)?;
        params.check_watch()?;
        let version = params.version().map_err(|why| ApiError::plain(&why))?;
        let current = state.store.version();
        let starts_with_all = params.send_initial_events.unwrap_or(version.is_none_or(|version| version == 0));
        if params.send_initial_events == Some(true)
            && let Some(asked) = version.filter(|asked| *asked > current)
        {
            return Err(ApiError::too_large_version(asked, current));
        }
        let prefix = prefix(target);
        let mut initial = VecDeque::new();
        let after = if starts_with_all {
            let present = state.store.range(found.id, &prefix, "");
            let selected = present.filter(|(_, object)| selector.matches(object));
            initial.extend(selected.map(|(_, object)| (EventKind::Added, Arc::clone(object))));
            current
        } else {
            let from = version.filter(|version| *version > 0).unwrap_or(current);
            let changes = state.store.changes_after(found.id, from).map_err(|compacted| {
                ApiError::expired(format!("too old resource version: {from} ({})", compacted.0))
            })?;
            let concerned = changes.filter(|change| change.key.starts_with(&prefix));
            initial.extend(concerned.filter_map(|change| classify(&selector, change)));
            from.max(current)
        };
        let subscription = Subscription {
            selector,
            view: params.view(target),
            after: version.unwrap_or_default().max(after),
            wants_bookmarks: params.allow_bookmarks,
            marks_initial_end: (params.send_initial_events == Some(true) && params.allow_bookmarks).then_some(current),
            initial,
            call,
        };
        Ok(state.watches.subscribe(found.id, &found.resource, subscription, self.options.watch_queue))
    }
}

/// Prefix of the keys of a collection.
pub(super) fn prefix(target: &Target) -> String {
    if target.namespace.is_empty() { String::new() } else { format!("{}/", target.namespace) }
}

impl State {
    pub(super) fn list(
        &self,
        found: &Found,
        target: &Target,
        params: &ListParams,
        selector: &Selector,
    ) -> Result<List, ApiError> {
        let current = self.store.version();
        let unreadable = |why| ApiError::bad_request(format!("invalid resource version: {why}"));
        let version = params.version().map_err(unreadable)?;
        let (at, start) = if params.continue_token.is_empty() {
            if let Some(asked) = version.filter(|asked| *asked > current) {
                return Err(ApiError::too_large_version(asked, current));
            }
            // A limit without a match has always meant the exact version.
            let is_exact = params.resource_version_match == "Exact"
                || (params.resource_version_match.is_empty() && params.limit > 0);
            match version.filter(|version| is_exact && *version > 0 && *version < current) {
                Some(version) => (At::Exactly(version), String::new()),
                None => (At::Latest, String::new()),
            }
        } else {
            if version.is_some_and(|version| version > 0) {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = Token::read(&params.continue_token)?;
            match u64::try_from(token.rv) {
                Ok(version) if version < current => (At::Exactly(version), token.start),
                _ => (At::Latest, token.start),
            }
        };
        self.page(found, target, params, selector, at, &start)
    }

    fn page(
        &self,
        found: &Found,
        target: &Target,
        params: &ListParams,
        selector: &Selector,
        at: At,
        start: &str,
    ) -> Result<List, ApiError> {
        let Found { id, resource } = found;
        let within = prefix(target);
        // Tokens hold keys as etcd has them: relative to the collection.
        let start = if start.is_empty() { String::new() } else { format!("{within}{start}") };
        let view = params.view(target);
        let (version, past) = match at {
            At::Latest => (self.store.version(), None),
            At::Exactly(version) => {
                let objects = self.store.range_at(*id, &within, &start, version).map_err(|_| {
                    if params.continue_token.is_empty() {
                        ApiError::expired("The resourceVersion for the provided list is too old.")
                    } else {
                        ApiError::expired_continue(Token::write(None, start.trim_start_matches(&within)))
                    }
                })?;
                (version, Some(objects))
            }
        };
        let present = past.is_none().then(|| self.store.range(*id, &within, &start));
        let mut objects = past
            .iter()
            .flatten()
            .map(|(key, object)| (key, object))
            .chain(present.into_iter().flatten())
            .filter(|(_, object)| selector.matches(object));
        // Whatever state is at hand is shown whole, as the watch cache does.
        let is_unlimited = params.limit == 0 || (params.resource_version == "0" && params.continue_token.is_empty());
        let limit = if is_unlimited { usize::MAX } else { params.limit };
        let mut items = Vec::new();
        let mut last = None;
        for (key, object) in objects.by_ref().take(limit) {
            items.push(view.show(resource, object)?);
            last = Some(key);
        }
        let remaining = objects.count();
        let next = last.filter(|_| remaining > 0).map(|key| {
            let start = format!("{}\0", key.strip_prefix(&within).unwrap_or(key));
            Token::write(Some(version), &start)
        });
        Ok(List {
            api_version: list_version(resource, &view),
            kind: if view.is_metadata_only { METADATA_LIST.into() } else { format!("{}List", resource.kind) },
            has_bare_items: !resource.behaviour.is_custom && !view.is_metadata_only,
            resource_version: version,
            remaining: next.is_some().then_some(remaining).filter(|_| selector.is_empty()),
            continue_token: next.unwrap_or_default(),
            items,
        })
    }
}

fn list_version(resource: &Resource, view: &View) -> String {
    if view.is_metadata_only { "meta.k8s.io/v1".into() } else { resource.api_version(&view.version) }
}
