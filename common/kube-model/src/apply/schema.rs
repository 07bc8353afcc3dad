//! What server-side apply and strategic merge must know of a kind's fields: which lists and maps are merged, and how.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

/// The topology of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Schema {
    /// A scalar, or a list or map that is replaced as a whole.
    Leaf,
    /// A structure with fields that are known by name.
    Record {
        /// The fields with a shape of their own.
        fields: BTreeMap<String, Arc<Schema>>,
        /// What any other field is; none where there must not be any.
        rest: Option<Arc<Schema>>,
    },
    /// A map from string keys.
    Map(Arc<Schema>),
    /// A list of unlike scalars.
    Set,
    /// A list of objects, told apart by some of their fields.
    Keyed {
        /// The fields that tell items apart, in the order of the schema.
        keys: Vec<ListKey>,
        /// What an item is.
        element: Arc<Schema>,
    },
    /// A field of a built-in kind that needs no entry of its own: structures are merged field by field, lists are
    /// atomic.
    Plain,
    /// A value of which no schema is known: maps are merged key by key, lists are atomic.
    Untyped,
}

/// One of the fields that tell the items of a list apart.
#[derive(Clone, Debug, PartialEq)]
pub struct ListKey {
    /// Name of the field.
    pub name: String,
    /// What an item that leaves it out has.
    pub default: Option<Value>,
}

/// How two values are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Leaf,
    Map,
    List,
    /// A null that fits whatever stands beside it.
    Any,
}

impl Schema {
    /// A structure of a built-in kind.
    pub fn record<const N: usize>(fields: [(&str, Self); N]) -> Self {
        let fields = fields.into_iter().map(|(name, schema)| (name.to_owned(), Arc::new(schema))).collect();
        Self::Record { fields, rest: Some(Arc::new(Self::Plain)) }
    }

    /// A map whose values are leaves.
    pub fn map() -> Self {
        Self::Map(Arc::new(Self::Leaf))
    }

    /// A list of objects told apart by the given fields.
    pub fn keyed<const N: usize>(keys: [&str; N], element: Self) -> Self {
        let keys = keys.into_iter().map(|name| ListKey { name: name.to_owned(), default: None }).collect();
        Self::Keyed { keys, element: Arc::new(element) }
    }

    /// The metadata of every object (`ObjectMeta` of apimachinery).
    pub fn metadata() -> Self {
        Self::record([
            ("annotations", Self::map()),
            ("finalizers", Self::Set),
            ("labels", Self::map()),
            ("managedFields", Self::Leaf),
            ("ownerReferences", Self::keyed(["uid"], Self::Leaf)),
        ])
    }

    /// The topology of a custom resource, from the OpenAPI v3 schema of its definition.
    pub fn custom_resource(open_api: &Value) -> Self {
        let mut schema = Self::from_open_api(open_api);
        if let Self::Record { fields, .. } = &mut schema {
            fields.insert("metadata".into(), Arc::new(Self::metadata()));
            for name in ["apiVersion", "kind"] {
                fields.insert(name.into(), Arc::new(Self::Leaf));
            }
        }
        schema
    }

    fn from_open_api(schema: &Value) -> Self {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
        let text = |name: &str| schema.get(name).and_then(Value::as_str);
        let keeps_unknown = flag("x-kubernetes-preserve-unknown-fields");
        match text("type") {
            Some("object") if text("x-kubernetes-map-type") == Some("atomic") => Self::Leaf,
            Some("object") => match (schema.get("properties"), schema.get("additionalProperties")) {
                (None, Some(element)) if element.is_object() => Self::Map(Arc::new(Self::from_open_api(element))),
                (None, _) if keeps_unknown => Self::Untyped,
                (None, _) => Self::Record { fields: BTreeMap::new(), rest: None },
                (Some(properties), _) => {
                    let mut fields: BTreeMap<_, _> = properties
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(name, property)| (name.clone(), Arc::new(Self::from_open_api(property))))
                        .collect();
                    if flag("x-kubernetes-embedded-resource") {
                        fields.insert("metadata".into(), Arc::new(Self::metadata()));
                    }
                    Self::Record { fields, rest: keeps_unknown.then(|| Arc::new(Self::Untyped)) }
                }
            },
            Some("array") => Self::list_from_open_api(schema, text("x-kubernetes-list-type")),
            _ if keeps_unknown => Self::Untyped,
            _ => Self::Leaf,
        }
    }

    fn list_from_open_api(schema: &Value, list_type: Option<&str>) -> Self {
        let items = schema.get("items").unwrap_or(&Value::Null);
        match list_type {
            Some("set") => Self::Set,
            Some("map") => {
                let names = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let keys = names.into_iter().flatten().filter_map(Value::as_str).map(|name| ListKey {
                    name: name.to_owned(),
                    default: items.pointer(&format!("/properties/{name}/default")).cloned(),
                });
                Self::Keyed { keys: keys.collect(), element: Arc::new(Self::from_open_api(items)) }
            }
            _ => Self::Leaf,
        }
    }

    /// What a field is, and whether the schema knows it by name.
    pub fn field(&self, name: &str) -> (&Self, bool) {
        match self {
            Self::Record { fields, rest } => {
                let rest = rest.as_deref().unwrap_or(&Self::Untyped);
                fields.get(name).map_or((rest, matches!(rest, Self::Plain)), |schema| (schema, true))
            }
            Self::Map(element) => (element, false),
            Self::Plain => (self, true),
            Self::Untyped => (self, false),
            Self::Leaf | Self::Set | Self::Keyed { .. } => (&Self::Leaf, false),
        }
    }

    /// Whether there may be a field of that name.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Record { fields, rest } => rest.is_some() || fields.contains_key(name),
            _ => true,
        }
    }

    /// What an item of a list is.
    pub fn element(&self) -> &Self {
        match self {
            Self::Keyed { element, .. } => element,
            _ => &Self::Leaf,
        }
    }

    /// The path element of an item of a merged list; the error says what is wrong with the item.
    pub fn item(&self, item: &Value) -> Result<String, String> {
        match self {
            Self::Keyed { keys, .. } => keyed_item(keys, item),
            _ => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(format!("v:{scalar}")),
            },
        }
    }

    pub(super) fn shape(&self, value: &Value) -> Shape {
        match (self, value) {
            (Self::Leaf, _) => Shape::Leaf,
            (Self::Record { .. } | Self::Map(_), Value::Object(_) | Value::Null) => Shape::Map,
            (Self::Set | Self::Keyed { .. }, Value::Array(_) | Value::Null) => Shape::List,
            (Self::Plain | Self::Untyped, Value::Object(_)) => Shape::Map,
            (Self::Plain | Self::Untyped, Value::Null) => Shape::Any,
            _ => Shape::Leaf,
        }
    }
}

fn keyed_item(keys: &[ListKey], item: &Value) -> Result<String, String> {
    let Value::Object(fields) = item else {
        let what = if item.is_null() { "a null element" } else { "non-map elements" };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let found: BTreeMap<&str, &Value> = keys
        .iter()
        .filter_map(|key| Some((key.name.as_str(), fields.get(&key.name).or(key.default.as_ref())?)))
        .collect();
    if found.is_empty() {
        let names: Vec<_> = keys.iter().map(|key| format!("{:?}", key.name)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values \
             for any key fields)",
            names.join(" ")
        ));
    }
    let found: Vec<_> = found.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    Ok(format!("k:{{{}}}", found.join(",")))
}
