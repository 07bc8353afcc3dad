//! Reads values of JSON and YAML by name, and refuses what nobody asked for.

use std::{cell::RefCell, collections::BTreeSet, fmt::Display};

use serde_json::{Map, Value};

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DocumentError {
    /// Place in the document, for example `storage.files[2].mode`.
    pub path: String,
    /// What is wrong. Never the value of a field that may be a secret.
    pub reason: String,
}

/// Shorthand.
pub(super) type Read<T> = Result<T, DocumentError>;

pub(super) fn wrong<T>(path: impl Into<String>, reason: impl Display) -> Read<T> {
    Err(DocumentError { path: path.into(), reason: reason.to_string() })
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub path: String,
    pub value: &'a Value,
}

/// A map of which each key must be asked for.
pub(super) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Item<'a> {
    pub(super) fn new(path: impl Into<String>, value: &'a Value) -> Self {
        Self { path: path.into(), value }
    }

    pub(super) fn wrong<T>(&self, reason: impl Display) -> Read<T> {
        wrong(&self.path, reason)
    }

    fn expected<T>(&self, what: &str) -> Read<T> {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        self.wrong(format!("must be {what}, is {found}"))
    }

    pub(super) fn text(&self) -> Read<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            _ => self.expected("a string"),
        }
    }

    pub(super) fn boolean(&self) -> Read<bool> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            _ => self.expected("a boolean"),
        }
    }

    pub(super) fn integer(&self) -> Read<i64> {
        match self.value.as_i64() {
            Some(value) => Ok(value),
            None => self.expected("an integer"),
        }
    }

    pub(super) fn list(&self) -> Read<Vec<Item<'a>>> {
        match self.value {
            Value::Array(values) => Ok((0..)
                .zip(values)
                .map(|(index, value)| Item::new(format!("{}[{index}]", self.path), value))
                .collect::<Vec<_>>()),
            _ => self.expected("a list"),
        }
    }

    pub(super) fn texts(&self) -> Read<Vec<String>> {
        self.list()?.iter().map(Item::text).collect()
    }

    pub(super) fn map(&self) -> Read<&'a Map<String, Value>> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => self.expected("a map"),
        }
    }

    pub(super) fn fields(&self) -> Read<Fields<'a>> {
        Ok(Fields { path: self.path.clone(), map: self.map()?, asked: RefCell::default() })
    }
}

/// Refuses options of mkfs that name a file system: labels and UUIDs have fields of their own. No other has an effect on
/// what is modelled.
pub(super) fn mkfs_options(item: &Item<'_>, options: &[String]) -> Read<()> {
    let names = |option: &&String| {
        let word = option.trim_start();
        ["-L", "-U"].iter().any(|flag| word.starts_with(flag)) || word.contains("uuid=")
    };
    match options.iter().find(names) {
        Some(option) => item.wrong(format!("the option {option:?} is not modelled; use the fields label and uuid")),
        None => Ok(()),
    }
}

impl<'a> Fields<'a> {
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn wrong<T>(&self, reason: impl Display) -> Read<T> {
        wrong(if self.path.is_empty() { "document" } else { &self.path }, reason)
    }

    /// A field; `null` is as good as absent.
    pub(super) fn get(&self, name: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().insert(name);
        self.map.get(name).filter(|value| !value.is_null()).map(|value| Item::new(self.path(name), value))
    }

    pub(super) fn text(&self, name: &'static str) -> Read<Option<String>> {
        self.get(name).map(|item| item.text()).transpose()
    }

    pub(super) fn required(&self, name: &'static str) -> Read<String> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => wrong(self.path(name), "is required"),
        }
    }

    pub(super) fn boolean(&self, name: &'static str) -> Read<Option<bool>> {
        self.get(name).map(|item| item.boolean()).transpose()
    }

    pub(super) fn integer(&self, name: &'static str) -> Read<Option<i64>> {
        self.get(name).map(|item| item.integer()).transpose()
    }

    pub(super) fn texts(&self, name: &'static str) -> Read<Vec<String>> {
        self.get(name).map_or(Ok(Vec::new()), |item| item.texts())
    }

    pub(super) fn list(&self, name: &'static str) -> Read<Vec<Item<'a>>> {
        self.get(name).map_or(Ok(Vec::new()), |item| item.list())
    }

    /// Each element of a list of maps.
    pub(super) fn each<T>(&self, name: &'static str, read: impl Fn(&Fields<'a>) -> Read<T>) -> Read<Vec<T>> {
        self.list(name)?
            .iter()
            .map(|item| {
                let fields = item.fields()?;
                let value = read(&fields)?;
                fields.finish()?;
                Ok(value)
            })
            .collect()
    }

    /// A map within; absent, the default.
    pub(super) fn within<T: Default>(&self, name: &'static str, read: impl FnOnce(&Fields<'a>) -> Read<T>) -> Read<T> {
        let Some(item) = self.get(name) else { return Ok(T::default()) };
        let fields = item.fields()?;
        let value = read(&fields)?;
        fields.finish()?;
        Ok(value)
    }

    /// Refuses what was not asked for.
    pub(super) fn finish(&self) -> Read<()> {
        match self.map.keys().find(|key| !self.asked.borrow().contains(key.as_str())) {
            Some(key) => wrong(self.path(key), "unknown key"),
            None => Ok(()),
        }
    }
}

/// What tests of documents share.
#[cfg(test)]
pub(super) mod testing {
    use serde_json::{Value, json};

    /// The document with an unknown key in each of its maps, and the place of that key.
    pub fn with_unknown_keys(document: &Value) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        let mut maps = vec![(String::new(), String::new())];
        while let Some((pointer, place)) = maps.pop() {
            let found = document.pointer(&pointer).unwrap();
            if found.is_object() {
                let mut changed = document.clone();
                changed.pointer_mut(&pointer).unwrap()["unheard"] = json!("of");
                let dot = if place.is_empty() { "" } else { "." };
                all.push((format!("{place}{dot}unheard"), changed));
            }
            let below: Vec<(String, String)> = match found {
                Value::Object(map) => map.keys().map(|key| (key.clone(), format!(".{key}"))).collect(),
                Value::Array(list) => (0..list.len()).map(|index| (index.to_string(), format!("[{index}]"))).collect(),
                _ => Vec::new(),
            };
            maps.extend(below.into_iter().map(|(key, shown)| {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                (format!("{pointer}/{escaped}"), format!("{place}{shown}").trim_start_matches('.').to_owned())
            }));
        }
        all
    }
}
