//! Create, update, patch and apply.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Clock, FieldChecks, Found, Server, Sources, State, Target, fields};
use crate::{
    apply::{
        self, Refusal, Write,
        managed::{Managers, Said},
    },
    certificates, crd,
    errors::{ApiError, FieldError, Qualified, STALE},
    meta, object,
    patch::{self, Patch},
    registry::{Amend, Others, Resource},
    schemas::Definitions,
    storage::{ObjectId, key},
    stored::Stored,
    watch::View,
};

/// Names that are tried for a `generateName`.
const NAME_ATTEMPTS: usize = 8;
/// Longest prefix of a generated name, in bytes: five characters follow, and 63 are allowed in all.
const GENERATED_PREFIX: usize = 58;

/// Looks at what a write would make of an object, given the object as it is stored and as it would be, and may refuse it:
/// an admission by those who know who is asking.
#[derive(Clone)]
pub struct Veto(pub Arc<dyn Fn(Option<&Value>, &Value) -> Result<(), ApiError> + Send + Sync>);

impl std::fmt::Debug for Veto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Veto")
    }
}

/// Parameters of a write.
#[derive(Clone, Debug, Default)]
pub struct WriteParams {
    /// Name of the field manager.
    pub manager: String,
    /// Nothing is stored.
    pub is_dry_run: bool,
    /// An apply takes fields from others.
    pub force: Option<bool>,
    /// What becomes of fields that the kind does not have; without it they are kept where nothing else drops them.
    pub fields: Option<FieldChecks>,
    /// Who may refuse it.
    pub veto: Option<Veto>,
}

impl WriteParams {
    fn admit(&self, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
        self.veto.as_ref().map_or(Ok(()), |veto| veto.0(old, new))
    }
}

/// One write under way.
struct Job<'a> {
    found: &'a Found,
    target: &'a Target,
    params: &'a WriteParams,
    clock: &'a Clock,
    sources: &'a dyn Sources,
}

impl Server {
    /// Makes an object; it is shown as the target's version shows it, without who owns its fields.
    pub fn create(&self, target: &Target, object: Value, params: &WriteParams) -> Result<Arc<Value>, ApiError> {
        self.make(target, object, params).map(|object| Arc::clone(object.fields()))
    }

    /// Replaces an object; says too whether it had to be made.
    pub fn update(&self, target: &Target, object: Value, params: &WriteParams) -> Result<(Arc<Value>, bool), ApiError> {
        self.put(target, object, params).map(|(object, is_new)| (Arc::clone(object.fields()), is_new))
    }

    /// Patches or applies an object; says too whether it had to be made.
    pub fn patch(&self, target: &Target, patch: &Patch, params: &WriteParams) -> Result<(Arc<Value>, bool), ApiError> {
        self.amend(target, patch, params).map(|(object, is_new)| (Arc::clone(object.fields()), is_new))
    }

    /// [`Self::create`], with who owns the fields.
    pub(crate) fn make(&self, target: &Target, object: Value, params: &WriteParams) -> Result<Arc<Stored>, ApiError> {
        self.change(|state, clock| {
            let found = state.find(target)?;
            if !target.subresource.is_empty() {
                return Err(ApiError::method_not_allowed());
            }
            let job = Job { found: &found, target, params, clock, sources: self.sources.as_ref() };
            let (object, said) = job.decoded(job.checked(object)?)?;
            if !wants_name(&object) {
                return state.create(&job, object, said);
            }
            let mut attempts = 0;
            loop {
                let mut candidate = object.clone();
                job.generate_name(&mut candidate)?;
                attempts += 1;
                match state.create(&job, candidate, said.clone()) {
                    Err(error) if error.reason() == "AlreadyExists" && attempts < NAME_ATTEMPTS => {}
                    outcome => return outcome,
                }
            }
        })
    }

    /// [`Self::update`], with who owns the fields.
    pub(crate) fn put(
        &self,
        target: &Target,
        object: Value,
        params: &WriteParams,
    ) -> Result<(Arc<Stored>, bool), ApiError> {
        self.change(|state, clock| {
            let found = state.find(target)?;
            let job = Job { found: &found, target, params, clock, sources: self.sources.as_ref() };
            let (object, said) = job.decoded(job.checked(object)?)?;
            job.check_name(&object)?;
            let Some(live) = state.store.get(&job.object_id()).cloned() else {
                if found.resource.behaviour.creates_on_update && target.subresource.is_empty() {
                    return Ok((state.create(&job, object, said)?, true));
                }
                return Err(job.not_found());
            };
            if let (Some(asked), Some(stored)) = (object::uid(&object), object::uid(&live))
                && asked != stored
            {
                let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {stored}");
                return Err(job.storage_conflict(&why));
            }
            let shown = job.shown(&live)?;
            let managers = job.with_ownership(|write| apply::update(write, &shown, live.managers(), &object, said));
            Ok((state.replace(&job, &live, object, managers)?, false))
        })
    }

    /// [`Self::patch`], with who owns the fields.
    pub(crate) fn amend(
        &self,
        target: &Target,
        patch: &Patch,
        params: &WriteParams,
    ) -> Result<(Arc<Stored>, bool), ApiError> {
        check_patch_params(patch, params)?;
        self.change(|state, clock| {
            let found = state.find(target)?;
            let job = Job { found: &found, target, params, clock, sources: self.sources.as_ref() };
            if matches!(patch, Patch::Strategic(_)) && found.resource.behaviour.is_custom {
                return Err(ApiError::unsupported_media_type(
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                ));
            }
            let live = state.store.get(&job.object_id()).cloned();
            let (new, managers) = match (patch, &live) {
                (Patch::Apply(applied), _) => job.applied(live.as_deref(), applied)?,
                (_, Some(live)) => job.patched(live, patch)?,
                (_, None) => return Err(job.not_found()),
            };
            match live {
                Some(live) => Ok((state.replace(&job, &live, new, managers)?, false)),
                None if target.subresource.is_empty() => Ok((state.create_applied(&job, new, managers)?, true)),
                None => Err(job.not_found()),
            }
        })
    }
}

fn check_patch_params(patch: &Patch, params: &WriteParams) -> Result<(), ApiError> {
    let is_apply = matches!(patch, Patch::Apply(_));
    let error = if is_apply && params.manager.is_empty() {
        FieldError::required("fieldManager", "is required for apply patch")
    } else if !is_apply && params.force.is_some() {
        FieldError::forbidden("force", "may not be specified for non-apply patch")
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(Qualified { group: "meta.k8s.io", resource: "PatchOptions" }, "", &[error]))
}

impl Job<'_> {
    fn resource(&self) -> &Resource {
        &self.found.resource
    }

    fn api_version(&self) -> String {
        self.resource().api_version(&self.target.version)
    }

    fn object_id(&self) -> ObjectId {
        (self.found.id, key(&self.target.namespace, &self.target.name))
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(self.resource().qualified(), &self.target.name)
    }

    fn conflict(&self, why: &str) -> ApiError {
        ApiError::conflict(self.resource().qualified(), &self.target.name, why)
    }

    /// A failed precondition, as the storage layer words it.
    fn storage_conflict(&self, why: &str) -> ApiError {
        let Target { group, plural, namespace, name, .. } = self.target;
        let group = if self.resource().behaviour.is_custom { format!("{group}/") } else { String::new() };
        self.conflict(&format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{group}{plural}/{}, ResourceVersion: 0, \
             AdditionalErrorMsg: {why}",
            key(namespace, name)
        ))
    }

    /// A stored object in the version of the request.
    fn shown<'b>(&self, object: &'b Value) -> Result<Cow<'b, Value>, ApiError> {
        self.resource().to_version(object, &self.target.version)
    }

    /// An object as it came, without fields that its kind does not have.
    fn checked(&self, mut object: Value) -> Result<Value, ApiError> {
        if let Some(checks) = &self.params.fields {
            checks.check_body(self.resource(), &self.target.version, &mut object)?;
        }
        Ok(object)
    }

    /// An object as it came, with kind, namespace and defaults filled in; and what it said of its managers.
    fn decoded(&self, mut object: Value) -> Result<(Value, Said), ApiError> {
        self.amend(self.resource().decode.as_ref(), &mut object)?;
        let mut object = self.completed(object)?;
        let said = Said::take(&mut object);
        Ok((object, said))
    }

    fn completed(&self, mut object: Value) -> Result<Value, ApiError> {
        let expected = self.api_version();
        let kind = self.resource().kind.clone();
        let Some(fields) = object.as_object_mut() else {
            return Err(ApiError::bad_request(format!("the body is not an object of kind {kind}")));
        };
        if self.resource().behaviour.is_custom && fields.get("kind").is_none_or(Value::is_null) {
            return Err(ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): Object 'Kind' is missing in '{object}'"
            )));
        }
        let given = fields.entry("apiVersion").or_insert_with(|| json!(expected));
        if *given != expected {
            let given = given.as_str().unwrap_or_default().to_owned();
            return Err(self.another_version(&given, fields.get("kind")));
        }
        let given = fields.entry("kind").or_insert_with(|| json!(kind));
        if *given != kind {
            let given = given.as_str().unwrap_or_default().to_owned();
            return Err(self.another_kind(&given, object::name(&object)));
        }
        if !self.resource().behaviour.is_custom {
            object::drop_nulls(&mut object);
        }
        meta::normalise(&mut object);
        self.place(&mut object)?;
        self.default(&mut object)?;
        Ok(object)
    }

    fn default(&self, object: &mut Value) -> Result<(), ApiError> {
        self.amend(self.resource().default.as_ref(), object)
    }

    fn amend(&self, amend: Option<&Amend>, object: &mut Value) -> Result<(), ApiError> {
        let Some(amend) = amend else { return Ok(()) };
        amend(object, &self.target.version).map_err(|why| {
            let kind = &self.resource().kind;
            let version = &self.target.version;
            ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
        })
    }

    fn another_version(&self, given: &str, kind: Option<&Value>) -> ApiError {
        let Resource { group, behaviour, kind: own, .. } = self.resource();
        let kind = kind.and_then(Value::as_str).unwrap_or(own);
        let (given_group, version) = given.rsplit_once('/').unwrap_or(("", given));
        let is_known = version == "v1" && Definitions::built_in().kind(given_group, kind).is_some();
        if behaviour.is_custom || given_group != group.as_str() || is_known {
            let expected = self.api_version();
            return ApiError::bad_request(format!(
                "the API version in the data ({given}) does not match the expected API version ({expected})"
            ));
        }
        ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {own}: no kind {kind:?} is registered for version {given:?} \
             in scheme \"pkg/runtime/scheme.go:111\""
        ))
    }

    fn another_kind(&self, given: &str, name: &str) -> ApiError {
        let Resource { group, kind, behaviour, .. } = self.resource();
        if behaviour.is_custom {
            let error = FieldError::invalid("kind", given, format!("must be {kind}"));
            return ApiError::invalid(Qualified { group, resource: given }, name, &[error]);
        }
        let version = &self.target.version;
        ApiError::bad_request(format!(
            "{given} in version {version:?} cannot be handled as a {kind}: converting ({version}.{given}) to \
             ({}.{kind}): unknown conversion",
            group.split('.').next().filter(|package| !package.is_empty()).unwrap_or("core")
        ))
    }

    /// Puts an object into the namespace of the request.
    fn place(&self, object: &mut Value) -> Result<(), ApiError> {
        let wanted = if self.resource().is_namespaced { self.target.namespace.as_str() } else { "" };
        let given = object::namespace(object);
        if wanted.is_empty() {
            object::remove_meta(object, "namespace");
        } else if given.is_empty() {
            object::set_meta(object, "namespace", json!(wanted));
        } else if given != wanted {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    fn check_name(&self, object: &Value) -> Result<(), ApiError> {
        let (given, wanted) = (object::name(object), self.target.name.as_str());
        if given.is_empty() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
            )));
        }
        if given != wanted {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({wanted})"
            )));
        }
        Ok(())
    }

    /// Names an object that asks for it; what is filled in may depend on the name.
    fn generate_name(&self, object: &mut Value) -> Result<(), ApiError> {
        let prefix = object::meta(object, "generateName").unwrap_or_default();
        let prefix: String = prefix.chars().take(GENERATED_PREFIX).collect();
        object::set_meta(object, "name", json!(format!("{prefix}{}", self.sources.name_suffix())));
        self.default(object)
    }

    /// Top-level fields that this write leaves as they are.
    fn reset_fields(&self) -> &'static [&'static str] {
        let behaviour = self.resource().behaviour;
        match (self.target.subresource.as_str(), behaviour.is_custom) {
            ("status", true) => &["metadata", "spec"],
            ("status" | certificates::APPROVAL, false) => &["spec"],
            _ if behaviour.has_status => &["status"],
            _ => &[],
        }
    }

    fn with_ownership<T>(&self, run: impl FnOnce(&Write<'_>) -> T) -> T {
        let (api_version, now) = (self.api_version(), self.clock.text());
        run(&Write {
            versions: self.resource(),
            api_version: &api_version,
            subresource: &self.target.subresource,
            manager: &self.params.manager,
            reset: self.reset_fields(),
            now: &now,
        })
    }

    fn patched(&self, live: &Stored, patch: &Patch) -> Result<(Value, Managers), ApiError> {
        let shown = self.shown(live)?;
        let schema = apply::Versions::schema(self.resource(), &self.api_version());
        let schema = schema.unwrap_or(&apply::schema::Schema::Untyped);
        let checks = self.params.fields.as_ref();
        let mut base = shown.as_ref().clone();
        // Other patches say of managed fields all or nothing; this one may say anything of what it finds. A refusal by
        // strict checks shows all of the object.
        let has_owners = matches!(patch, Patch::Json(_)) || checks.is_some_and(FieldChecks::is_strict);
        if has_owners && !live.managers().is_empty() {
            object::set_meta(&mut base, "managedFields", json!(live.managers()));
        }
        let mut new = patch::patched(schema, base, patch)?;
        if let Some(checks) = checks {
            checks.check_patched(self.resource(), &self.target.version, patch, &mut new)?;
        }
        let (new, said) = self.decoded(new)?;
        self.check_name(&new)?;
        let managers = self.with_ownership(|write| apply::update(write, &shown, live.managers(), &new, said));
        Ok((new, managers))
    }

    fn applied(&self, live: Option<&Stored>, applied: &Value) -> Result<(Value, Managers), ApiError> {
        let expected = self.api_version();
        if applied["apiVersion"] != expected || applied["kind"] != self.resource().kind {
            return Err(ApiError::bad_request(format!("invalid object type: {}", shown_kind(applied))));
        }
        if applied.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        if self.params.fields.is_some() {
            fields::check_applied(self.resource(), &self.target.version, applied)
                .map_err(|why| refused(Refusal::Malformed(why), applied))?;
        }
        let (nothing, nobody) = (Value::Object(Map::new()), Managers::default());
        let current = match live {
            Some(live) => self.shown(live)?,
            None => Cow::Borrowed(&nothing),
        };
        let owners = live.map_or(&nobody, |live| live.managers().as_ref());
        let force = self.params.force.unwrap_or_default();
        let (merged, managers) = self
            .with_ownership(|write| apply::apply(write, &current, owners, applied, force))
            .map_err(|refusal| refused(refusal, applied))?;
        if live.is_none()
            && let Some(uid) = object::uid(&merged)
        {
            return Err(self.conflict(&format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )));
        }
        let mut new = self.completed(merged)?;
        if object::name(&new).is_empty() {
            object::set_meta(&mut new, "name", json!(self.target.name));
        }
        self.check_name(&new)?;
        Ok((new, managers))
    }

    fn validate(&self, object: &Value, mut errors: Vec<FieldError>) -> Result<(), ApiError> {
        errors.extend(meta::validate(self.resource(), object));
        if let Some(validate) = &self.resource().validate {
            errors.extend(validate(object, &self.target.version));
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(self.resource().qualified_kind(), object::name(object), &errors))
    }

    /// An object in the version in which it is kept.
    fn stored(&self, object: Value) -> Result<Value, ApiError> {
        let converted = match self.resource().to_version(&object, &self.resource().stored)? {
            Cow::Owned(converted) => Some(converted),
            Cow::Borrowed(_) => None,
        };
        Ok(converted.unwrap_or(object))
    }

    fn answer(&self, object: &Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
        View { version: self.target.version.clone(), is_metadata_only: false }.show(self.resource(), object)
    }
}

impl State {
    /// Makes an object whose name is known; records who owns its fields.
    fn create(&mut self, job: &Job<'_>, object: Value, said: Said) -> Result<Arc<Stored>, ApiError> {
        let managers = job.with_ownership(|write| {
            apply::update(write, &Value::Object(Map::new()), &Managers::default(), &object, said)
        });
        self.create_applied(job, object, managers)
    }

    /// Makes an object whose fields have their owners.
    fn create_applied(
        &mut self,
        job: &Job<'_>,
        mut object: Value,
        managers: Managers,
    ) -> Result<Arc<Stored>, ApiError> {
        let resource = job.resource();
        let name = object::name(&object).to_owned();
        self.check_namespace(resource, &name, &job.target.namespace)?;
        if object::meta(&object, "resourceVersion").is_some() && !job.params.is_dry_run {
            return Err(ApiError::plain("resourceVersion should not be set on objects to be created"));
        }
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            object::remove_meta(&mut object, name);
        }
        object::set_meta(&mut object, "uid", json!(job.sources.uid()));
        object::set_meta(&mut object, "creationTimestamp", json!(job.clock.text()));
        if resource.behaviour.has_generation {
            object::set_meta(&mut object, "generation", json!(1));
        }
        let is_generated = object::meta(&object, "generateName").is_some();
        if let Some(admit) = &resource.admit {
            admit(&mut object, &Present { state: self, sources: job.sources })?;
        }
        job.params.admit(None, &object)?;
        let mut stored = job.stored(object)?;
        if resource.behaviour.has_status && !resource.behaviour.creates_status {
            object::copy_field(&mut stored, &Value::Null, "status");
        }
        if let Some(prepare) = &resource.prepare {
            prepare(&mut stored, None);
        }
        if resource.group == crate::builtin::API_EXTENSIONS {
            crd::accepted(&mut stored, &job.clock.text());
        }
        job.validate(resource.to_version(&stored, &job.target.version)?.as_ref(), Vec::new())?;
        let id = (job.found.id, key(&job.target.namespace, &name));
        if let Some(live) = self.store.get(&id) {
            return Err(if is_generated {
                ApiError::no_free_name(resource.qualified(), &name)
            } else {
                ApiError::already_exists(resource.qualified(), &name, object::is_deleting(live))
            });
        }
        let managers = Arc::new(managers);
        if job.params.is_dry_run {
            return job.answer(&Arc::new(Stored::new(Arc::new(stored), managers)));
        }
        let change = self.commit(&id, Some((stored, managers)));
        job.answer(change.new.as_ref().ok_or_else(|| ApiError::internal("a created object is gone"))?)
    }

    /// Stores a new state of an object, in the version of the request, and who owns its fields.
    fn replace(
        &mut self,
        job: &Job<'_>,
        live: &Arc<Stored>,
        new: Value,
        managers: Managers,
    ) -> Result<Arc<Stored>, ApiError> {
        let resource = job.resource();
        check_version(job, live, &new)?;
        let mut stored = job.stored(new)?;
        keep_metadata(&mut stored, live);
        keep_fields(job, &mut stored, live);
        if let Some(prepare) = &resource.prepare {
            prepare(&mut stored, Some(live));
        }
        if is_wanted_changed(resource, &stored, live) {
            let generation = object::meta_number(live, "generation").unwrap_or_default();
            object::set_meta(&mut stored, "generation", json!(generation + 1));
        }
        job.params.admit(Some(live), &stored)?;
        let mut errors = meta::validate_update(&stored, live);
        if let Some(validate) = &resource.validate_update {
            errors.extend(validate(&stored, live));
        }
        job.validate(resource.to_version(&stored, &job.target.version)?.as_ref(), errors)?;
        let id = job.object_id();
        let managers = Arc::new(managers);
        if is_finished(&stored, live) {
            if !job.params.is_dry_run {
                self.commit(&id, None);
            }
            return job.answer(&Arc::new(Stored::new(Arc::new(stored), managers)));
        }
        // A write that would change no more than times of ownership changes nothing.
        if managers.equals_but_times(live.managers()) && stored == **live.fields() {
            return job.answer(live);
        }
        if job.params.is_dry_run {
            return job.answer(&Arc::new(Stored::new(Arc::new(stored), managers)));
        }
        let change = self.commit(&id, Some((stored, managers)));
        job.answer(change.new.as_ref().ok_or_else(|| ApiError::internal("a stored object is gone"))?)
    }
}

/// The objects that there are beside a new one.
struct Present<'a> {
    state: &'a State,
    sources: &'a dyn Sources,
}

impl Others for Present<'_> {
    fn get(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let id = self.state.registry.find_kind(group, kind)?;
        self.state.store.get(&(id, key(namespace, name))).map(|object| Arc::clone(object.fields()))
    }

    fn name_suffix(&self) -> String {
        self.sources.name_suffix()
    }
}

/// Whether an object asks for a name.
fn wants_name(object: &Value) -> bool {
    object::name(object).is_empty() && object::meta(object, "generateName").is_some()
}

/// Kind and version of an object, as Go prints them.
fn shown_kind(object: &Value) -> String {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let version = text("apiVersion");
    let separator = if version.contains('/') { "" } else { "/" };
    format!("{separator}{version}, Kind={}", text("kind"))
}

fn refused(refusal: Refusal, applied: &Value) -> ApiError {
    match refusal {
        Refusal::Conflicts(conflicts) => ApiError::apply_conflict(&conflicts),
        Refusal::Malformed(why) => ApiError::plain(&format!(
            "failed to create typed patch object ({}/{}; {}): {why}",
            object::namespace(applied),
            object::name(applied),
            shown_kind(applied)
        )),
    }
}

/// Refuses a write that was made for another state of the object.
fn check_version(job: &Job<'_>, live: &Value, new: &Value) -> Result<(), ApiError> {
    match object::meta(new, "resourceVersion") {
        None if job.resource().behaviour.updates_unconditionally => Ok(()),
        None => {
            let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            Err(ApiError::invalid(job.resource().qualified(), &job.target.name, &[error]))
        }
        version if version == object::meta(live, "resourceVersion") => Ok(()),
        Some(version) if version.parse::<u64>().is_err() => Err(ApiError::unreadable_number(version)),
        Some(_) => Err(job.conflict(STALE)),
    }
}

/// Sets the metadata that no write changes.
fn keep_metadata(new: &mut Value, live: &Value) {
    for name in ["generation", "creationTimestamp", "resourceVersion"] {
        object::copy_meta(new, live, name);
    }
    if object::uid(new).is_none() {
        object::copy_meta(new, live, "uid");
    }
    if object::is_deleting(live) {
        object::copy_meta(new, live, "deletionTimestamp");
        object::copy_meta(new, live, "deletionGracePeriodSeconds");
    }
}

/// Takes from the live object what this kind of write cannot change.
fn keep_fields(job: &Job<'_>, new: &mut Value, live: &Value) {
    let behaviour = job.resource().behaviour;
    match (job.target.subresource.as_str(), behaviour.is_custom) {
        ("status", true) => {
            let (Some(new), Some(live)) = (new.as_object_mut(), live.as_object()) else { return };
            new.retain(|name, _| name == "status" || live.contains_key(name));
            for (name, value) in live.iter().filter(|(name, _)| *name != "status") {
                // Nearly all of it is equal, and need not be copied.
                if new.get(name) != Some(value) {
                    new.insert(name.clone(), value.clone());
                }
            }
        }
        ("status", false) => {
            object::copy_field(new, live, "spec");
            if behaviour.has_approval {
                certificates::keep_approval(new, live, &job.clock.text());
            }
        }
        (certificates::APPROVAL, _) => certificates::keep_all_but_approval(new, live, &job.clock.text()),
        _ if behaviour.has_status => object::copy_field(new, live, "status"),
        _ => {}
    }
}

/// Whether a write changes what is wanted, as `metadata.generation` counts it.
fn is_wanted_changed(resource: &Resource, new: &Value, live: &Value) -> bool {
    let behaviour = resource.behaviour;
    if !behaviour.has_generation {
        return false;
    }
    if !behaviour.is_custom {
        return new.get("spec") != live.get("spec");
    }
    let is_wanted = |name: &String| name != "metadata" && !(behaviour.has_status && name == "status");
    let wanted = |object: &Value| object.as_object().into_iter().flatten().filter(|(name, _)| is_wanted(name)).count();
    let mut fields = new.as_object().into_iter().flatten().filter(|(name, _)| is_wanted(name));
    wanted(new) != wanted(live) || fields.any(|(name, value)| live.get(name) != Some(value))
}

/// Whether a write removes the last thing that a deletion waited for.
fn is_finished(new: &Value, live: &Value) -> bool {
    let waits = |object: &Value| {
        let finalizers = object.pointer("/spec/finalizers").and_then(Value::as_array);
        object["kind"] == "Namespace" && finalizers.is_some_and(|finalizers| !finalizers.is_empty())
    };
    object::is_deleting(live)
        && object::finalizers(new).is_empty()
        && object::meta_number(live, "deletionGracePeriodSeconds").unwrap_or_default() == 0
        && !waits(new)
}
