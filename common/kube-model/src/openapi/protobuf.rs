//! The document of OpenAPI v2 as a message of gnostic's `openapi.v2.Document`.

use serde_json::{Map, Value};

/// A message that is being written; fields that say nothing are left out.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or_default());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, texts: Option<&Value>) {
        texts.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).for_each(|text| {
            self.bytes(field, text.as_bytes());
        });
    }

    fn number(&mut self, field: u64, number: u64) {
        if number > 0 {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    fn double(&mut self, field: u64, number: Option<&Value>) {
        if let Some(number) = number.and_then(Value::as_f64) {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// A value of whatever shape, as YAML, which JSON is.
    fn any(&mut self, field: u64, value: Option<&Value>) {
        if let Some(value) = value {
            let mut any = Self::default();
            any.text(2, &value.to_string());
            self.message(field, &any);
        }
    }

    fn extensions(&mut self, field: u64, fields: &Value) {
        for (name, value) in entries(fields).filter(|(name, _)| name.starts_with("x-")) {
            let mut named = Self::default();
            named.text(1, name);
            named.any(2, Some(value));
            self.message(field, &named);
        }
    }

    /// A message under a name.
    fn named(&mut self, field: u64, name: &str, value: &Self) {
        let mut named = Self::default();
        named.text(1, name);
        named.message(2, value);
        self.message(field, &named);
    }
}

/// A message that holds nothing but another one.
fn holding(field: u64, message: &Message) -> Message {
    let mut holder = Message::default();
    holder.message(field, message);
    holder
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_bool).unwrap_or_default().into()
}

/// Writes a document.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, text(document, "swagger"));
    let mut info = Message::default();
    info.text(1, text(&document["info"], "title"));
    info.text(2, text(&document["info"], "version"));
    message.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    message.message(8, &paths);
    message.message(9, &named_schemas(&document["definitions"]));
    message.0
}

/// Schemas by name: definitions, or properties.
fn named_schemas(schemas: &Value) -> Message {
    let mut message = Message::default();
    for (name, value) in entries(schemas) {
        message.named(1, name, &schema(value));
    }
    message
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(value) = item.get(method) {
            message.message(field, &operation(value));
        }
    }
    for value in items(item, "parameters") {
        message.message(9, &parameter(value));
    }
    message
}

fn operation(operation: &Value) -> Message {
    let mut message = Message::default();
    message.texts(6, operation.get("produces"));
    message.texts(7, operation.get("consumes"));
    for value in items(operation, "parameters") {
        message.message(8, &parameter(value));
    }
    let mut responses = Message::default();
    for (code, value) in entries(&operation["responses"]) {
        let mut response = Message::default();
        response.text(1, text(value, "description"));
        if let Some(value) = value.get("schema") {
            response.message(2, &holding(1, &schema(value)));
        }
        responses.named(1, code, &holding(1, &response));
    }
    message.message(9, &responses);
    message.extensions(13, operation);
    message
}

/// A parameter: of the body, the query or the path, each in messages of its own.
fn parameter(parameter: &Value) -> Message {
    let (place, name) = (text(parameter, "in"), text(parameter, "name"));
    let mut message = Message::default();
    let held = match place {
        "body" => {
            message.text(2, name);
            message.text(3, place);
            message.number(4, flag(parameter, "required"));
            if let Some(value) = parameter.get("schema") {
                message.message(5, &schema(value));
            }
            holding(1, &message)
        }
        "query" => {
            message.text(2, place);
            message.text(4, name);
            message.text(6, text(parameter, "type"));
            message.number(20, flag(parameter, "uniqueItems"));
            holding(2, &holding(3, &message))
        }
        _ => {
            message.number(1, flag(parameter, "required"));
            message.text(2, place);
            message.text(4, name);
            message.text(5, text(parameter, "type"));
            holding(2, &holding(4, &message))
        }
    };
    holding(1, &held)
}

fn schema(value: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, text(value, "$ref"));
    message.text(2, text(value, "format"));
    message.text(3, text(value, "title"));
    message.text(4, text(value, "description"));
    message.any(5, value.get("default"));
    message.double(7, value.get("maximum"));
    message.double(9, value.get("minimum"));
    for (field, name) in [(11, "maxLength"), (12, "minLength"), (14, "maxItems"), (15, "minItems")] {
        message.number(field, value.get(name).and_then(Value::as_u64).unwrap_or_default());
    }
    message.text(13, text(value, "pattern"));
    message.texts(19, value.get("required"));
    items(value, "enum").for_each(|allowed| message.any(20, Some(allowed)));
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            let mut others = Message::default();
            others.number(2, u64::from(*allowed));
            message.message(21, &others);
        }
        Some(others) => message.message(21, &holding(1, &schema(others))),
        None => {}
    }
    if let Some(Value::String(kind)) = value.get("type") {
        let mut kinds = Message::default();
        kinds.text(1, kind);
        message.message(22, &kinds);
    }
    if let Some(item) = value.get("items") {
        message.message(23, &holding(1, &schema(item)));
    }
    items(value, "allOf").for_each(|all| message.message(24, &schema(all)));
    if let Some(properties) = value.get("properties") {
        message.message(25, &named_schemas(properties));
    }
    message.extensions(31, value);
    message
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_have_their_numbers() {
        let document =
            json!({"swagger": "2.0", "info": {"title": "t"}, "paths": {}, "definitions": {"a": {"type": "object"}}});
        let mut wanted = vec![0x0a, 3];
        wanted.extend(b"2.0");
        wanted.extend([0x12, 3, 0x0a, 1, b't', 0x42, 0]);
        wanted.extend([0x4a, 18, 0x0a, 16, 0x0a, 1, b'a', 0x12, 11, 0xb2, 0x01, 8, 0x0a, 6]);
        wanted.extend(b"object");
        assert_eq!(encode(&document), wanted);
    }
}
