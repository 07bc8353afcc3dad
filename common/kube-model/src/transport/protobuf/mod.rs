//! Bodies in Kubernetes' protobuf form, which Go clients send for built-in kinds; read into the JSON that the same object
//! would be.

mod messages;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::messages::{Field, Shape};
use crate::errors::ApiError;

/// First bytes of every message.
const PREFIX: &[u8] = b"k8s\0";
/// Messages in messages.
const DEPTH: usize = 16;

/// What a body was.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// A kind whose fields are not known.
    Kind,
    /// No message, or not of that kind.
    Body(ApiError),
}

/// Reads a body.
pub(super) fn decode(body: &[u8]) -> Result<Value, Unreadable> {
    let envelope = body.strip_prefix(PREFIX).ok_or_else(|| {
        Unreadable::Body(ApiError::bad_request(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        ))
    })?;
    let malformed = || Unreadable::Body(ApiError::bad_request("the body of the request is not a protobuf message"));
    let envelope = message(messages::UNKNOWN, envelope, DEPTH).ok_or_else(malformed)?;
    let text = |path: &str| envelope.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("/typeMeta/apiVersion"), text("/typeMeta/kind"));
    let fields = fields(version, kind).ok_or(Unreadable::Kind)?;
    let raw = BASE64_STANDARD.decode(text("/raw")).unwrap_or_default();
    let mut object = message(fields, &raw, DEPTH).ok_or_else(malformed)?;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    Ok(object)
}

fn fields(version: &str, kind: &str) -> Option<&'static [Field]> {
    Some(match (version, kind) {
        (_, "DeleteOptions") => messages::DELETE_OPTIONS,
        ("policy/v1", "Eviction") => messages::EVICTION,
        ("v1", "Secret") => messages::SECRET,
        ("v1", "ConfigMap") => messages::CONFIG_MAP,
        ("v1", "Service") => messages::SERVICE,
        ("v1", "ServiceAccount") => messages::SERVICE_ACCOUNT,
        ("v1", "Namespace") => messages::NAMESPACE,
        ("authentication.k8s.io/v1", "SelfSubjectReview") => messages::SELF_REVIEW,
        ("authentication.k8s.io/v1", "TokenReview") => messages::TOKEN_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => messages::RULES_REVIEW,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview") => {
            messages::ACCESS_REVIEW
        }
        ("coordination.k8s.io/v1", "Lease") => messages::LEASE,
        ("rbac.authorization.k8s.io/v1", "Role") => messages::ROLE,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => messages::CLUSTER_ROLE,
        ("rbac.authorization.k8s.io/v1", "RoleBinding" | "ClusterRoleBinding") => messages::ROLE_BINDING,
        _ => return None,
    })
}

/// A value as it lies on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn taken<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// The next field: its number and value; values of fixed width are passed over as bytes.
fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = number(bytes)?;
    let value = match tag & 7 {
        0 => Wire::Number(number(bytes)?),
        1 => Wire::Bytes(taken(bytes, 8)?),
        2 => {
            let length = usize::try_from(number(bytes)?).ok()?;
            Wire::Bytes(taken(bytes, length)?)
        }
        5 => Wire::Bytes(taken(bytes, 4)?),
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn message(fields: &[Field], mut bytes: &[u8], depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (tag, wire) = next(&mut bytes)?;
        let Some(field) = fields.iter().find(|field| field.number == tag) else { continue };
        if let Shape::Texts | Shape::Blobs = field.shape {
            let (key, value) = entry(field.shape, &wire)?;
            object.entry(field.name).or_insert_with(|| json!({}))[key] = value;
            continue;
        }
        let value = value(field.shape, &wire, depth)?;
        if field.is_list {
            object.entry(field.name).or_insert_with(|| json!([])).as_array_mut()?.push(value);
        } else if field.is_pointer || !is_zero(&value) {
            object.insert(field.name.to_owned(), value);
        }
    }
    Some(Value::Object(object))
}

/// What JSON leaves out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(switch) => !switch,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Array(_) => false,
    }
}

fn value(shape: Shape, wire: &Wire<'_>, depth: usize) -> Option<Value> {
    Some(match (shape, wire) {
        (Shape::Text, Wire::Bytes(bytes)) => json!(std::str::from_utf8(bytes).ok()?),
        (Shape::Bytes, Wire::Bytes(bytes)) => json!(BASE64_STANDARD.encode(bytes)),
        // Negative numbers lie on the wire as their two's complement.
        (Shape::Number, Wire::Number(number)) => json!(number.cast_signed()),
        (Shape::Switch, Wire::Number(number)) => json!(*number != 0),
        (Shape::Time | Shape::MicroTime, Wire::Bytes(bytes)) => time(shape, bytes)?,
        (Shape::Message(fields), Wire::Bytes(bytes)) => message(fields, bytes, depth)?,
        (Shape::NumberOrText, Wire::Bytes(bytes)) => number_or_text(bytes)?,
        (Shape::Json, &Wire::Bytes(mut bytes)) => match next(&mut bytes) {
            Some((1, Wire::Bytes(raw))) => serde_json::from_slice(raw).ok()?,
            _ => Value::Null,
        },
        _ => return None,
    })
}

/// `IntOrString`: which of both it is, the number, the text.
fn number_or_text(mut bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = std::str::from_utf8(value).ok()?,
            _ => {}
        }
    }
    Some(if is_text { json!(text) } else { json!(number) })
}

fn time(shape: Shape, mut bytes: &[u8]) -> Option<Value> {
    let (mut seconds, mut nanoseconds) = (None, 0);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Number(number)) => nanoseconds = i32::try_from(number.cast_signed()).ok()?,
            _ => {}
        }
    }
    // A time that nobody has set is an empty message.
    let Some(seconds) = seconds else { return Some(Value::Null) };
    let time = Timestamp::new(seconds, nanoseconds).ok()?;
    let format = if let Shape::MicroTime = shape { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Some(json!(time.strftime(format).to_string()))
}

/// A key and its value.
fn entry(shape: Shape, wire: &Wire<'_>) -> Option<(String, Value)> {
    let Wire::Bytes(mut bytes) = *wire else { return None };
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            (1, Wire::Bytes(part)) => key = part,
            (2, Wire::Bytes(part)) => value = part,
            _ => {}
        }
    }
    let value = match shape {
        Shape::Blobs => json!(BASE64_STANDARD.encode(value)),
        _ => json!(std::str::from_utf8(value).ok()?),
    };
    Some((std::str::from_utf8(key).ok()?.to_owned(), value))
}

#[cfg(test)]
mod tests;
