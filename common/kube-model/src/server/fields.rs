//! What becomes of fields that a kind does not have, or that stand twice in a body (`fieldValidation`, KEP-2885).
//!
//! Fields are named in the order of their names, those that stand twice before those that are not known; the real server
//! names them in the order of the body.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    errors::{ApiError, FieldError, Qualified},
    object,
    patch::Patch,
    registry::Resource,
    schemas,
};

/// What a client wants to know of such fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Nothing.
    Ignore,
    /// A warning, as when it does not say.
    #[default]
    Warn,
    /// An error.
    Strict,
}

impl FieldValidation {
    /// The `fieldValidation` of a query; `options` is the kind of which it is a field, such as `CreateOptions`.
    pub fn parse(text: &str, options: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let allowed = ["", "Ignore", "Strict", "Warn"].map(str::to_owned);
                let error = FieldError::not_supported("fieldValidation", &other.into(), &allowed);
                Err(ApiError::invalid(Qualified { group: "meta.k8s.io", resource: options }, "", &[error]))
            }
        }
    }
}

/// The checks of one write. What is to be warned of collects in it.
#[derive(Clone, Debug, Default)]
pub struct FieldChecks {
    validation: FieldValidation,
    /// What was found when the body was read.
    duplicates: Vec<String>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl FieldChecks {
    /// Checks of a body in which these fields stand twice, given by their paths.
    pub fn new(validation: FieldValidation, duplicates: Vec<String>) -> Self {
        Self { validation, duplicates, warnings: Arc::default() }
    }

    /// Whether what they find is an error.
    pub(super) fn is_strict(&self) -> bool {
        self.validation == FieldValidation::Strict
    }

    /// What there is to be warned of after the write.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Checks the object of a create or an update, and takes out what is not known.
    pub(super) fn check_body(&self, resource: &Resource, version: &str, object: &mut Value) -> Result<(), ApiError> {
        let kind = &resource.kind;
        self.check(resource, version, object).map_err(|why| {
            ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
        })
    }

    /// Checks a patched object, and takes out what is not known.
    pub(super) fn check_patched(
        &self,
        resource: &Resource,
        version: &str,
        patch: &Patch,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        let shown = match patch {
            Patch::Strategic(patch) => {
                // What is to be removed is dropped while it is merged.
                let mut patch = patch.clone();
                object::drop_nulls(&mut patch);
                go_map(&patch)
            }
            _ => object.to_string(),
        };
        self.check(resource, version, object).map_err(|why| {
            let error = FieldError::invalid("patch", shown, why);
            ApiError::invalid(Qualified { group: "", resource: "" }, "", &[error])
        })
    }

    /// Decodes an object; the error may be one that only strict decoding knows.
    fn check(&self, resource: &Resource, version: &str, object: &mut Value) -> Result<(), String> {
        // Another kind is refused for being that.
        let is =
            |field: &str, wanted: &str| object.get(field).and_then(Value::as_str).is_none_or(|given| given == wanted);
        if !is("kind", &resource.kind) || !is("apiVersion", &resource.api_version(version)) {
            return Ok(());
        }
        schemas::decode(resource, object)?;
        let unknown = schemas::drop_unknown(resource, version, object);
        let duplicate = self.duplicates.iter().map(|path| format!("duplicate field {path:?}"));
        let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
        let found: Vec<_> = duplicate.chain(unknown).collect();
        match self.validation {
            _ if found.is_empty() => Ok(()),
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                self.warnings.lock().extend(found);
                Ok(())
            }
            FieldValidation::Strict => Err(format!("strict decoding error: {}", found.join(", "))),
        }
    }
}

/// Checks a configuration that is applied: a field that the kind does not have is always refused. The error names it.
pub(super) fn check_applied(resource: &Resource, version: &str, applied: &Value) -> Result<(), String> {
    let undeclared = schemas::undeclared(resource, version, applied);
    let errors: Vec<_> = undeclared.iter().map(|path| format!("{path}: field not declared in schema")).collect();
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

/// A value as Go prints maps.
fn go_map(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{}", go_map(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(go_map).collect::<Vec<_>>().join(" ")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::builtin;

    fn map() -> Resource {
        let registry = builtin::registry();
        registry.get(registry.find_kind("", "ConfigMap").unwrap()).unwrap().as_ref().clone()
    }

    #[test]
    fn each_way_has_its_answer() {
        let object = || json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "foo": 1});
        let check = |validation| {
            let checks = FieldChecks::new(validation, vec!["data.x".into()]);
            let mut object = object();
            let outcome = checks.check_body(&map(), "v1", &mut object);
            (outcome.err().map(|error| error.message().to_owned()), checks.warnings(), object.get("foo").is_some())
        };
        assert_eq!(check(FieldValidation::Ignore), (None, vec![], false));
        let warnings = ["duplicate field \"data.x\"", "unknown field \"foo\""].map(str::to_owned);
        assert_eq!(check(FieldValidation::Warn), (None, warnings.to_vec(), false));
        let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
                       duplicate field \"data.x\", unknown field \"foo\"";
        assert_eq!(check(FieldValidation::Strict).0.as_deref(), Some(message));
    }

    #[test]
    fn patches_are_shown_as_go_shows_them() {
        let checks = FieldChecks::new(FieldValidation::Strict, Vec::new());
        let patch = Patch::Strategic(json!({"foo": [1, "a"], "data": {"x": null}}));
        let mut object = json!({"kind": "ConfigMap", "foo": 1});
        let error = checks.check_patched(&map(), "v1", &patch, &mut object).unwrap_err();
        let message = " \"\" is invalid: patch: Invalid value: \"map[data:map[] foo:[1 a]]\": strict decoding \
                       error: unknown field \"foo\"";
        assert_eq!((error.code(), error.message()), (422, message));
    }
}
