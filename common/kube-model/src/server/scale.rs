//! The scale of what keeps pods: how many there are to be, read and set apart from the rest (`autoscaling/v1`).

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Server, State, Target, WriteParams};
use crate::{
    apply::schema::Schema,
    errors::ApiError,
    object,
    patch::{self, Patch},
    storage::key,
    stored::Stored,
};

/// The subresource.
pub const SCALE: &str = "scale";

/// A change of a scale.
pub enum Rescale {
    /// It is replaced.
    Update(Value),
    /// It is patched.
    Patch(Patch),
}

impl Server {
    /// The scale of an object.
    pub fn scale(&self, target: &Target) -> Result<Arc<Stored>, ApiError> {
        Ok(shown(&*self.state.lock().scaled(target)?))
    }

    /// Changes how many there are to be; gives the scale as it is then.
    pub fn rescale(&self, target: &Target, change: &Rescale, params: &WriteParams) -> Result<Arc<Stored>, ApiError> {
        let live = shown(&*self.state.lock().scaled(target)?);
        let wanted = match change {
            Rescale::Update(scale) => scale.clone(),
            Rescale::Patch(change) => patch::patched(&Schema::Untyped, live.fields().as_ref().clone(), change)?,
        };
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or_default();
        let version = object::meta(&wanted, "resourceVersion");
        let mut replaced = json!({"spec": {"replicas": replicas}});
        if let Some(version) = version {
            replaced["metadata"] = json!({"resourceVersion": version});
        }
        let whole = Target { subresource: String::new(), ..target.clone() };
        let (object, _) = self.patch(&whole, &Patch::Merge(replaced), params)?;
        Ok(shown(&object))
    }
}

impl State {
    fn scaled(&self, target: &Target) -> Result<Arc<Value>, ApiError> {
        let found = self.find(target)?;
        let live = self.store.get(&(found.id, key(&target.namespace, &target.name)));
        let live = live.ok_or_else(|| ApiError::not_found(found.resource.qualified(), &target.name))?;
        Ok(Arc::clone(live.fields()))
    }
}

fn shown(object: &Value) -> Arc<Stored> {
    let metadata = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: serde_json::Map<String, Value> = metadata
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), object["metadata"].get(*field)?.clone())))
        .collect();
    // None at all are not shown.
    let wanted = object["spec"]["replicas"].as_i64().filter(|replicas| *replicas != 0);
    let spec = wanted.map_or_else(|| json!({}), |replicas| json!({"replicas": replicas}));
    let scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": spec,
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or_default(),
            "selector": selector(&object["spec"]["selector"]),
        },
    });
    Arc::new(Stored::new(Arc::new(scale), Arc::default()))
}

/// A `LabelSelector` as a query has it.
fn selector(selector: &Value) -> String {
    let same = selector["matchLabels"].as_object().into_iter().flatten();
    let same = same.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten().map(|expression| {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    let mut terms: Vec<String> = same.chain(expressions).collect();
    terms.sort();
    terms.join(",")
}
