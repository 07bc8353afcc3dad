//! Documents of a kind, made from its schema: for tests of what must hold for every document, such as that a conversion
//! loses nothing.

use proptest::{prelude::*, sample::Index, string::string_regex};
use serde_json::{Map, Value, json};

/// Values for fields that the schema alone does not describe, by name.
pub type Known = fn(&str) -> Option<BoxedStrategy<Value>>;

/// Documents that fit a schema, up to rules in CEL. `known` overrides fields by their name.
pub fn documents(schema: &Value, known: Known) -> BoxedStrategy<Value> {
    if schema["x-kubernetes-int-or-string"] == true {
        return (0..2).prop_map(Value::from).boxed();
    }
    if let Some(values) = schema["enum"].as_array() {
        return prop::sample::select(values.clone()).boxed();
    }
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => objects(schema, known),
        Some("object") if schema["additionalProperties"].is_object() => {
            let entries =
                prop::collection::btree_map("[a-z]{1,8}", documents(&schema["additionalProperties"], known), 1..3);
            entries.prop_map(|entries| Value::Object(entries.into_iter().collect())).boxed()
        }
        Some("object") => Just(json!({})).boxed(),
        Some("array") => {
            let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap_or(0);
            let key = schema["x-kubernetes-list-map-keys"][0].as_str().map(str::to_owned);
            let items = prop::collection::vec(documents(&schema["items"], known), least..least + 3);
            items.prop_map(move |items| Value::Array(distinct(items, key.as_deref()))).boxed()
        }
        Some("integer") => {
            let least = schema["minimum"].as_i64().unwrap_or(0);
            let most = schema["maximum"].as_i64().unwrap_or(least + 100_000);
            (least..=most).prop_map(Value::from).boxed()
        }
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        _ => texts(schema),
    }
}

fn objects(schema: &Value, known: Known) -> BoxedStrategy<Value> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = schema["properties"].as_object().into_iter().flatten().map(|(name, schema)| {
        let values = known(name).unwrap_or_else(|| documents(schema, known));
        let chance = if required.contains(&name.as_str()) { 1.0 } else { 0.4 };
        (Just(name.clone()), values, prop::bool::weighted(chance)).boxed()
    });
    let must_not_be_empty = schema["minProperties"].as_u64().is_some_and(|least| least > 0);
    let fields: Vec<_> = fields.collect();
    (fields, any::<Index>())
        .prop_map(move |(fields, one)| {
            let lone = one.index(fields.len().max(1));
            let is_bare = must_not_be_empty && !fields.iter().any(|(.., is_there)| *is_there);
            let kept = fields.into_iter().enumerate().filter(|(at, (.., there))| *there || (is_bare && *at == lone));
            Value::Object(kept.map(|(_, (name, value, _))| (name, value)).collect::<Map<_, _>>())
        })
        .boxed()
}

/// The first item of each key.
fn distinct(items: Vec<Value>, key: Option<&str>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if key.is_none_or(|key| kept.iter().all(|other| other[key] != item[key])) {
            kept.push(item);
        }
    }
    kept
}

fn texts(schema: &Value) -> BoxedStrategy<Value> {
    let format = schema["format"].as_str().unwrap_or_default();
    if format == "date-time" {
        return (0..60).prop_map(|second| json!(format!("2026-01-02T03:04:{second:02}Z"))).boxed();
    }
    if format == "byte" {
        return Just(json!("YmFzYWx0")).boxed();
    }
    let pattern = schema["pattern"].as_str().map(|pattern| pattern.trim_start_matches('^').trim_end_matches('$'));
    if let Some(texts) = pattern.and_then(|pattern| string_regex(pattern).ok()) {
        return texts.prop_map(Value::from).boxed();
    }
    // Few tools tell an empty text from none: it is made only where the schema says that it is one.
    let least = schema["minLength"].as_u64().unwrap_or(1);
    match string_regex(&format!("[a-z0-9./=-]{{{least},{}}}", least + 12)) {
        Ok(texts) => texts.prop_map(Value::from).boxed(),
        Err(_) => Just(json!("text")).boxed(),
    }
}

/// What a document has that its schema does not: fields that would be dropped, and what would be refused.
pub fn misfits(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("string") => value.is_string(),
        _ => true,
    };
    if !fits {
        found.push(format!("{path}: {value} is no {}", schema["type"]));
    }
    if let Some(values) = schema["enum"].as_array().filter(|values| !values.contains(value)) {
        found.push(format!("{path}: {value} is none of {values:?}"));
    }
    if let Some(items) = value.as_array() {
        if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
            found.push(format!("{path}: too few items"));
        }
        items.iter().enumerate().for_each(|(at, item)| check(&schema["items"], item, &format!("{path}[{at}]"), found));
    }
    let Some(fields) = value.as_object() else { return };
    if schema["minProperties"].as_u64().is_some_and(|least| (fields.len() as u64) < least) {
        found.push(format!("{path}: is empty"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{path}.{name}: is missing"));
        }
    }
    for (name, field) in fields {
        let place = format!("{path}.{name}");
        match schema["properties"].get(name) {
            Some(schema) => check(schema, field, &place, found),
            None if schema["additionalProperties"].is_object() => {
                check(&schema["additionalProperties"], field, &place, found);
            }
            None if schema["properties"].is_object() => found.push(format!("{place}: is unknown")),
            None => {}
        }
    }
}
