//! An object, or why it is none: one that cannot be decoded must not hide all others of its kind.

use std::{
    borrow::Cow,
    fmt::{self, Debug},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// What a list or watch delivers. Unlike kube's guard it decodes without a second copy and lets metadata-only kinds be so.
#[derive(Clone, Debug)]
pub(super) struct Guard<K>(pub(super) Result<K, Invalid>);

/// An object that is not of its kind's shape.
#[derive(Clone, Debug)]
pub(super) struct Invalid {
    pub(super) metadata: ObjectMeta,
    /// What is wrong with it.
    pub(super) reason: String,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = deserializer.deserialize_map(Lean { depth: 0 })?;
        let reason = match K::deserialize(&value) {
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => error.to_string(),
        };
        let metadata = ObjectMeta::deserialize(value.get("metadata").unwrap_or(&Value::Null))
            .map_err(|error| D::Error::custom(format!("metadata: {error}")))?;
        Ok(Self(Err(Invalid { metadata, reason })))
    }
}

/// Reads an object without its managed fields, which nobody here looks at and which take many times their size as values.
struct Lean {
    /// Of the object itself 0, of its metadata 1.
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Lean {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Lean {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            match (self.depth, name.as_str()) {
                (0, "metadata") => {
                    let metadata = entries.next_value_seed(Self { depth: 1 })?;
                    fields.insert(name, metadata);
                }
                (1, "managedFields") => {
                    entries.next_value::<IgnoredAny>()?;
                }
                _ => {
                    let value = entries.next_value()?;
                    fields.insert(name, value);
                }
            }
        }
        Ok(Value::Object(fields))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

impl<K: Resource> Resource for Guard<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}
