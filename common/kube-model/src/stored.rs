//! An object as a server keeps it: its fields, who owns them, and its text.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::{apply::managed::Managers, object};

/// An object that does not change any more. Owners of fields are kept apart from the fields: they are as large as these,
/// each write needs them as sets, and nobody else looks at them. Only the text has them in `metadata.managedFields`.
///
/// It reads as its fields.
#[derive(Debug)]
pub struct Stored {
    fields: Arc<Value>,
    managers: Arc<Managers>,
    /// The text without opening brace, version and kind, where it is kept: answers, lists and events share it.
    rest: Option<OnceLock<Bytes>>,
}

impl Stored {
    /// An object of these fields, which have no `metadata.managedFields`. Its text is made whenever it is read.
    pub fn new(fields: Arc<Value>, managers: Arc<Managers>) -> Self {
        Self { fields, managers, rest: None }
    }

    /// The same object, whose text is made once.
    #[must_use]
    pub fn keeping_text(self) -> Self {
        Self { rest: Some(OnceLock::new()), ..self }
    }

    /// The fields.
    pub fn fields(&self) -> &Arc<Value> {
        &self.fields
    }

    /// Who owns which.
    pub fn managers(&self) -> &Arc<Managers> {
        &self.managers
    }

    /// The fields with `metadata.managedFields`, as the text has them.
    pub fn whole(&self) -> Value {
        let mut whole = self.fields.as_ref().clone();
        if !self.managers.is_empty() {
            object::set_meta(&mut whole, "managedFields", serde_json::json!(self.managers));
        }
        whole
    }

    /// The same owners of other fields: another version of the object, or a part of it.
    pub fn with_fields(&self, fields: Value) -> Self {
        Self::new(Arc::new(fields), Arc::clone(&self.managers))
    }

    fn rest(&self) -> Bytes {
        let made = || {
            let mut text = Vec::new();
            // Writing a value to memory cannot fail: its keys are texts.
            let _ = serde_json::to_writer(&mut text, &Rest(self));
            text.shrink_to_fit();
            Bytes::from(text).split_off(1)
        };
        self.rest.as_ref().map_or_else(made, |rest| rest.get_or_init(made).clone())
    }

    /// Writes the object as JSON.
    pub fn write(&self, text: &mut Vec<u8>) {
        let name = |name: &str| self.fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let rest = self.rest();
        text.reserve(rest.len() + 96);
        // Names of versions and kinds need no escapes.
        text.extend_from_slice(br#"{"apiVersion":""#);
        text.extend_from_slice(name("apiVersion").as_bytes());
        text.extend_from_slice(br#"","kind":""#);
        text.extend_from_slice(name("kind").as_bytes());
        text.push(b'"');
        if rest.as_ref() != b"}" {
            text.push(b',');
        }
        text.extend_from_slice(&rest);
    }

    /// Writes the object as JSON without version and kind, as lists of built-in kinds have it.
    pub fn write_bare(&self, text: &mut Vec<u8>) {
        text.push(b'{');
        text.extend_from_slice(&self.rest());
    }

    /// The object as JSON.
    pub fn text(&self) -> Bytes {
        let mut text = Vec::new();
        self.write(&mut text);
        text.into()
    }
}

impl Deref for Stored {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.fields
    }
}

/// An object without version and kind.
struct Rest<'a>(&'a Stored);

impl Serialize for Rest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.as_object().into_iter().flatten() {
            match name.as_str() {
                "apiVersion" | "kind" => {}
                "metadata" if !self.0.managers.is_empty() => {
                    map.serialize_entry(name, &Metadata(value, &self.0.managers))?;
                }
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

/// Metadata with managed fields.
struct Metadata<'a>(&'a Value, &'a Managers);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.as_object().into_iter().flatten() {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("managedFields", self.1)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::managed::Said;

    #[test]
    fn the_text_has_the_owners_and_bare_text_no_kind() {
        let mut fields = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "\"quoted\""},
            "metadata": {"name": "a", "managedFields": [{
                "manager": "me", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, "f:a": {}}}, "time": "2026-01-01T00:00:00Z",
            }]},
        });
        let whole = fields.clone();
        let Said::Managers(managers) = Said::take(&mut fields) else { panic!("they can be read") };
        let stored = Stored::new(Arc::new(fields), Arc::new(managers));
        let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
        assert_eq!(read(&stored.text()), whole);
        let mut bare = Vec::new();
        stored.write_bare(&mut bare);
        let mut expected = whole;
        expected.as_object_mut().unwrap().retain(|name, _| name != "kind" && name != "apiVersion");
        assert_eq!(read(&bare), expected);
        let nameless = Stored::new(Arc::new(json!({"apiVersion": "v1", "kind": "X"})), Arc::default());
        assert_eq!(read(&nameless.text()), json!({"apiVersion": "v1", "kind": "X"}));
    }
}
