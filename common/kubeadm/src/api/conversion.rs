//! Conversion between v1beta1 and v1beta2.
//!
//! It works on JSON, so that what a type of ours does not know is not lost. What the older version cannot say is kept
//! in the `cluster.x-k8s.io/conversion-data` annotation, as upstream keeps it: the whole v1beta2 object without its
//! metadata.

#[cfg(feature = "testing")]
pub mod samples;
mod spec;
mod status;
mod value;

use serde_json::{Map, Value, json};

pub use spec::{down as spec_down, up as spec_up};
pub use status::{conditions_down, conditions_up};
pub use value::{go_duration, object, prune, prune_at, seconds_to_duration, take, take_seconds};

use cluster_api::labels::CONVERSION_DATA;

/// Why an object cannot be converted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConvertError {
    /// The kind or version is not ours.
    #[error("cannot convert {from} {kind} to {to}")]
    Unknown {
        /// Kind of the object.
        kind: String,
        /// API version it has.
        from: String,
        /// API version that is wanted.
        to: String,
    },
    /// The value of a field cannot be said in the other version; the text names the field and the cure.
    #[error("{0}")]
    Field(String),
}

/// Converts a `KubeadmConfig` or `KubeadmConfigTemplate` to another API version of its group.
pub fn convert(object: Value, desired: &str) -> Result<Value, ConvertError> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let (place, has_status): (&'static [&'static str], bool) = match kind.as_str() {
        "KubeadmConfig" => (&["spec"], true),
        "KubeadmConfigTemplate" => (&["spec", "template", "spec"], false),
        _ => return Err(unknown(&object, desired)),
    };
    convert_with(
        object,
        desired,
        |object, restored| {
            if let Some(spec) = at_mut(object, place) {
                spec_up(spec, at(restored, place), &place.join("."))?;
            }
            prune_at(object, place);
            if has_status {
                status::up(object, restored);
            } else {
                prune_at(object, &["spec", "template", "metadata"]);
            }
            Ok(())
        },
        |object| {
            if let Some(spec) = at_mut(object, place) {
                spec_down(spec);
            }
            if has_status {
                status::down(object);
            }
            Ok(())
        },
    )
}

/// The frame of every conversion: versions, and the annotation that keeps what would be lost. `up` gets the object as
/// it was before a conversion down (`Null` where there was none).
pub fn convert_with(
    mut object: Value,
    desired: &str,
    up: impl FnOnce(&mut Value, &Value) -> Result<(), ConvertError>,
    down: impl FnOnce(&mut Value) -> Result<(), ConvertError>,
) -> Result<Value, ConvertError> {
    let from = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    if from == desired {
        return Ok(object);
    }
    let same_group = cluster_api::owner::group_of(&from) == cluster_api::owner::group_of(desired);
    match (same_group, version_of(&from), version_of(desired)) {
        (true, "v1beta1", "v1beta2") => {
            let restored = take_annotation(&mut object);
            up(&mut object, &restored)?;
        }
        (true, "v1beta2", "v1beta1") => {
            let hub = without_metadata(&object);
            down(&mut object)?;
            put_annotation(&mut object, &hub);
        }
        _ => return Err(unknown(&object, desired)),
    }
    object["apiVersion"] = json!(desired);
    Ok(object)
}

fn unknown(object: &Value, desired: &str) -> ConvertError {
    ConvertError::Unknown {
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
        from: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
        to: desired.to_owned(),
    }
}

fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

fn without_metadata(object: &Value) -> Value {
    let mut copy = object.clone();
    if let Some(fields) = copy.as_object_mut() {
        for field in ["metadata", "apiVersion", "kind"] {
            fields.remove(field);
        }
    }
    copy
}

fn take_annotation(object: &mut Value) -> Value {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return Value::Null };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return Value::Null };
    let text = annotations.remove(CONVERSION_DATA);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    // Someone may have edited it; what cannot be read restores nothing.
    text.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn put_annotation(object: &mut Value, hub: &Value) {
    if let Some(fields) = object.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
            annotations[CONVERSION_DATA] = Value::String(hub.to_string());
        }
    }
}

/// A place in a document, by field names.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, field| &value[*field])
}

/// A place in a document, by field names, if it is an object.
pub fn at_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut place = value;
    for field in path {
        place = place.get_mut(*field)?;
    }
    place.as_object_mut()
}

#[cfg(test)]
mod tests;
